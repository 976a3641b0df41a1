import { importsOf, importTarget } from './imports.js';
import { isTest, type SourceFile } from './source-files.js';

/**
 * The control plane's folders from the edge inwards, as ARCHITECTURE.md states them. A folder imports from its own
 * layer and from those below. What stands on no layer of the page stands where its users need it.
 */
const LAYERS: readonly (readonly string[])[] = [
  ['http', 'gateway', 'grpc'],
  ['async', 'schedules', 'jobs'],
  ['invocations'],
  [
    'functions',
    'admission',
    'scheduling',
    'artifacts',
    'auth',
    'builds',
    'executions',
    'logs',
    'idempotency',
    'enrollment',
  ],
  ['nodes'],
  ['db', 'metrics', 'redis', 'webhooks'],
];

/**
 * Types that name what wiring hands inwards, such as the function that runs an invocation. Every folder may import them,
 * as types only, because no code comes with them.
 */
const VOCABULARY: readonly string[] = [
  'control-plane/src/invocations/invocation.js',
  'control-plane/src/invocations/trigger.js',
];

export function importDirectionViolations(files: readonly SourceFile[]): string[] {
  return files
    .filter((file) => file.path.startsWith('control-plane/src/') && file.path.endsWith('.ts') && !isTest(file.path))
    .flatMap((file) => {
      const from = folderOf(file.path);
      // main.ts, wiring.ts and config.ts put the folders together and stand above them.
      if (from === undefined) return [];
      if (layerOf(from) === -1) return [`${file.path}: the folder ${from}/ has no layer; give it one in LAYERS`];
      return importsOf(file).flatMap(({ specifier, typeOnly }) => {
        const target = importTarget(file, specifier);
        if (target === undefined || !target.startsWith('control-plane/src/')) return [];
        if (typeOnly && VOCABULARY.includes(target)) return [];
        const to = folderOf(target);
        if (to === undefined && /\/(main|wiring)\.js$/.test(target)) return [`${file.path} imports ${specifier}`];
        if (to === undefined || layerOf(to) >= layerOf(from)) return [];
        return [`${file.path} imports ${specifier}: ${from}/ stands below ${to}/`];
      });
    });
}

function folderOf(path: string): string | undefined {
  const [first, second] = path.slice('control-plane/src/'.length).split('/');
  return second === undefined ? undefined : first;
}

function layerOf(folder: string): number {
  return LAYERS.findIndex((layer) => layer.includes(folder));
}
