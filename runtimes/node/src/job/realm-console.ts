/** Levels of a line, as numbers: what leaves the realm is primitive. */
export const REALM_LEVELS = ['DEBUG', 'INFO', 'WARN', 'ERROR'] as const;

/** Sends one text, which may hold line breaks. `level` is an index of {@link REALM_LEVELS}. */
export type Print = (level: number, text: string) => void;

export interface RealmConsole {
  readonly console: object;
  /** A value as the console prints it; never throws. */
  shown(value: unknown): string;
}

/**
 * Makes a realm's `console`. Its source text is evaluated inside the realm, so it must not refer to anything outside of itself.
 *
 * `print` is the one function of the host that is let in. It stays in this closure: user code that had it, or an error that
 * it threw, would have the host's own `Function`.
 */
export function realmConsole(print: Print): RealmConsole {
  const DEPTH_MAX = 4;
  const ITEMS_MAX = 100;
  const TEXT_CHARS_MAX = 10_000;
  const { now } = Date;
  const { prototype: plain } = Object;
  let indent = '';
  const timers = new Map<string, number>();
  const counts = new Map<string, number>();

  const send = (level: number, text: string): void => {
    try {
      print(level, indent === '' ? text : indent + text.replaceAll('\n', `\n${indent}`));
    } catch {
      // It has run out of stack. That error is the host's, and nobody may see it.
    }
  };

  const nameOf = (value: object): string => {
    const prototype = Object.getPrototypeOf(value);
    if (prototype === null) return 'null prototype';
    const owner: unknown = Object.getOwnPropertyDescriptor(prototype, 'constructor')?.value;
    return typeof owner === 'function' ? String(owner.name) : '';
  };

  const list = (items: readonly string[], open: string, close: string): string => {
    if (items.length === 0) return open + close;
    const line = items.join(', ');
    return line.length <= 72 && !line.includes('\n')
      ? `${open} ${line} ${close}`
      : `${open}\n  ${items.join(',\n').replaceAll('\n', '\n  ')}\n${close}`;
  };

  const members = (value: object, above: readonly object[], isArray: boolean): string[] => {
    const keys = Reflect.ownKeys(value).filter((key) => !(isArray && (key === 'length' || /^\d+$/.test(String(key)))));
    const shown = keys.filter((key) => Object.getOwnPropertyDescriptor(value, key)?.enumerable);
    const lines = shown.slice(0, ITEMS_MAX).map((key) => {
      const descriptor = Object.getOwnPropertyDescriptor(value, key);
      // A getter is user code: printing must not run it.
      const member = descriptor !== undefined && 'value' in descriptor ? format(descriptor.value, above) : '[Getter]';
      const name = typeof key === 'symbol' ? `[${String(key)}]` : /^[\w$]+$/.test(key) ? key : JSON.stringify(key);
      return `${name}: ${member}`;
    });
    return shown.length > ITEMS_MAX ? [...lines, `... ${shown.length - ITEMS_MAX} more`] : lines;
  };

  const items = (values: Iterable<unknown>, count: number, show: (value: unknown) => string): string[] => {
    const lines: string[] = [];
    for (const value of values) {
      if (lines.length === ITEMS_MAX) return [...lines, `... ${count - ITEMS_MAX} more`];
      lines.push(show(value));
    }
    return lines;
  };

  const formatObject = (value: object, above: readonly object[]): string => {
    if (above.includes(value)) return '[Circular]';
    const name = nameOf(value);
    if (value instanceof Error) {
      const stack: unknown = value.stack;
      const rest = members(value, [...above, value], false);
      return (
        (typeof stack === 'string' ? stack : String(value)) + (rest.length === 0 ? '' : ` ${list(rest, '{', '}')}`)
      );
    }
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
    if (value instanceof RegExp) return String(value);
    if (typeof value === 'function') return `[Function ${value.name || '(anonymous)'}]`;
    if (above.length > DEPTH_MAX) return Array.isArray(value) ? '[Array]' : `[${name || 'Object'}]`;
    const inside = [...above, value];
    const show = (item: unknown) => format(item, inside);
    if (Array.isArray(value)) {
      return list([...items(value, value.length, show), ...members(value, inside, true)], '[', ']');
    }
    if (value instanceof Map) {
      const pairs = items(value, value.size, (pair) => (pair as unknown[]).map(show).join(' => '));
      return `Map(${value.size}) ${list(pairs, '{', '}')}`;
    }
    if (value instanceof Set) return `Set(${value.size}) ${list(items(value, value.size, show), '{', '}')}`;
    if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
      const view = value as Uint8Array;
      return `${name}(${view.length}) ${list(items(view, view.length, show), '[', ']')}`;
    }
    if (value instanceof Promise) return 'Promise {}';
    const prefix =
      Object.getPrototypeOf(value) === plain || name === '' ? '' : `${name === 'null prototype' ? `[${name}]` : name} `;
    return prefix + list(members(value, inside, false), '{', '}');
  };

  const format = (value: unknown, above: readonly object[]): string => {
    if (typeof value === 'string') {
      const cut = value.length > TEXT_CHARS_MAX ? `${value.slice(0, TEXT_CHARS_MAX)}...` : value;
      return above.length === 0
        ? value
        : `'${cut.replaceAll('\\', '\\\\').replaceAll("'", "\\'").replaceAll('\n', '\\n')}'`;
    }
    if (typeof value === 'bigint') return `${value}n`;
    if (Object.is(value, -0)) return '-0';
    return (typeof value === 'object' && value !== null) || typeof value === 'function'
      ? formatObject(value, above)
      : String(value);
  };

  const shown = (value: unknown): string => {
    try {
      return format(value, []);
    } catch {
      return 'a value that cannot be shown';
    }
  };

  const directive = (kind: string, value: unknown): string => {
    if (kind === 'd') return typeof value === 'object' ? 'NaN' : shown(Number(value));
    if (kind === 'i') return typeof value === 'object' ? 'NaN' : shown(Number.parseInt(String(value), 10));
    if (kind === 'f') return typeof value === 'symbol' ? 'NaN' : shown(Number.parseFloat(String(value)));
    return kind === 'c' ? '' : shown(value);
  };

  const text = (values: readonly unknown[]): string => {
    const [first, ...rest] = values;
    if (typeof first !== 'string' || rest.length === 0) return values.map(shown).join(' ');
    let next = 0;
    const head = first.replaceAll(/%([sdifjoOc%])/g, (whole, kind: string) => {
      if (kind === '%') return '%';
      return next < rest.length ? directive(kind, rest[next++]) : whole;
    });
    return [head, ...rest.slice(next).map(shown)].join(' ');
  };

  const printer = (level: number) => {
    return (...values: unknown[]): void => send(level, text(values));
  };
  const group = (...values: unknown[]): void => {
    if (values.length > 0) send(1, text(values));
    indent += '  ';
  };
  const elapsed = (label: unknown): string => {
    const started = timers.get(String(label));
    return started === undefined ? `${String(label)}: no such timer` : `${String(label)}: ${now() - started}ms`;
  };

  const console = {
    debug: printer(0),
    log: printer(1),
    info: printer(1),
    dir: (value: unknown): void => send(1, shown(value)),
    table: printer(1),
    warn: printer(2),
    error: printer(3),
    trace: (...values: unknown[]): void => {
      const { stack } = new Error(text(values));
      send(3, String(stack).replace(/^Error/, 'Trace'));
    },
    assert: (condition: unknown, ...values: unknown[]): void => {
      if (!condition) send(2, ['Assertion failed', ...(values.length > 0 ? [text(values)] : [])].join(': '));
    },
    group,
    groupCollapsed: group,
    groupEnd: (): void => {
      indent = indent.slice(2);
    },
    time: (label: unknown = 'default'): void => {
      timers.set(String(label), now());
    },
    timeLog: (label: unknown = 'default'): void => send(1, elapsed(label)),
    timeEnd: (label: unknown = 'default'): void => {
      send(1, elapsed(label));
      timers.delete(String(label));
    },
    count: (label: unknown = 'default'): void => {
      const count = (counts.get(String(label)) ?? 0) + 1;
      counts.set(String(label), count);
      send(1, `${String(label)}: ${count}`);
    },
    countReset: (label: unknown = 'default'): void => {
      counts.delete(String(label));
    },
  };
  return { console, shown };
}
