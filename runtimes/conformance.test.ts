import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { ConformanceAgent, frameBytes, type ReceivedFrame, TRANSPORTS } from './conformance-agent.js';
import {
  type Conversation,
  difference,
  fixtureFiles,
  type InvokeStep,
  type RuntimeFamily,
  readConversations,
  type Step,
} from './conformance-fixture.js';
import { buildRuntime } from './node/build.mjs';

/** Of a test; several times what the slowest needs, because the machine may be busy. */
const TEST_DEADLINE_MS = 30_000;

const DEFAULT_HANDLER = { nodejs: 'index.handler', python: 'main.handler' } as const;

beforeAll(buildRuntime);

const PLAYS = (['nodejs', 'python'] as const).flatMap((family) =>
  TRANSPORTS.map((transport) => ({ family, transport })),
);

describe.each(PLAYS)('$family over $transport', ({ family, transport }) => {
  let agent: ConformanceAgent | undefined;

  afterEach(async () => {
    await agent?.close();
    agent = undefined;
  });

  // A topic may be one language's alone.
  const files = fixtureFiles().filter((file) => readConversations(file, family).length > 0);
  describe.each(files)('%s', (file) => {
    test.each(readConversations(file, family))(
      '$name',
      async (conversation) => {
        agent = await ConformanceAgent.start(family, conversation.code[family], transport);
        await play(agent, family, conversation);
      },
      TEST_DEADLINE_MS,
    );
  });
});

async function play(agent: ConformanceAgent, family: RuntimeFamily, conversation: Conversation): Promise<void> {
  const from = conversation.from ?? 'ready';
  if (from !== 'connected') {
    await expectFrame(agent, 'HELLO');
  }
  if (from === 'ready') {
    agent.send(frameBytes('INIT', initMeta(family, conversation)));
    await expectFrame(agent, 'READY', {});
  }
  let id = 0;
  for (const step of conversation.steps) {
    id += 1;
    await playStep(agent, family, conversation, step, `invocation-${id}`);
  }
}

async function playStep(
  agent: ConformanceAgent,
  family: RuntimeFamily,
  conversation: Conversation,
  step: Step,
  id: string,
): Promise<void> {
  if ('invoke' in step) {
    await playInvocation(agent, step, id);
  } else if ('send' in step) {
    const meta = { ...defaultMeta(step.send, family, conversation, id), ...step.meta };
    agent.send(frameBytes(step.send, meta, bodyBytes(step.body)));
  } else if ('sendHex' in step) {
    agent.send(Buffer.from(step.sendHex.replaceAll(' ', ''), 'hex'));
  } else if ('expect' in step) {
    checkBody(await expectFrame(agent, step.expect, step.meta), step);
  } else if ('expectHex' in step) {
    const { bytes } = await agent.nextFrame();
    expect(bytes.toString('hex')).toBe(step.expectHex.replaceAll(' ', ''));
  } else if ('expectExit' in step) {
    expect(await agent.exitStatus()).toBe(step.expectExit);
  } else {
    agent.hangUp();
  }
}

async function playInvocation(agent: ConformanceAgent, step: InvokeStep, id: string): Promise<void> {
  const meta = { ...invokeMeta(id), http: step.http ?? false, ...step.meta };
  agent.send(frameBytes('INVOKE', meta, bodyBytes(step.invoke)));
  for (const log of step.logs ?? []) {
    const { stream, level, text } = log;
    const tag = log.id === undefined ? meta.id : log.id;
    checkBody(await expectFrame(agent, 'LOG', { id: tag, stream, level, ts: { $is: 'integer' } }), { body: text });
  }
  if (step.error !== undefined) {
    await expectFrame(agent, 'ERROR', { id: meta.id, trace: { $is: 'lines' }, ...step.error });
  } else {
    const expected = step.head === undefined ? { id: meta.id } : { id: meta.id, http: step.head };
    checkBody(await expectFrame(agent, 'RESPONSE', expected), step);
  }
}

async function expectFrame(agent: ConformanceAgent, type: string, meta?: unknown): Promise<ReceivedFrame> {
  const frame = await agent.nextFrame();
  if (frame.type !== type) {
    expect.fail(
      `expected ${type}, got ${frame.type} ${JSON.stringify(frame.meta)} ${frame.body.toString().slice(0, 500)}`,
    );
  }
  const found = meta === undefined ? undefined : difference(frame.meta, meta, 'meta');
  if (found !== undefined) {
    expect.fail(`${type}: ${found}`);
  }
  return frame;
}

/** A string is compared with the body's text, `{"$hex"}` with its bytes, a pattern as a pattern, anything else as JSON. */
function checkBody({ body }: ReceivedFrame, expected: { readonly body?: unknown; readonly bodyBytes?: number }): void {
  if (expected.bodyBytes !== undefined) {
    expect(body.length).toBe(expected.bodyBytes);
    return;
  }
  const wanted = expected.body ?? '';
  if (typeof wanted === 'object' && '$json' in wanted) {
    expect(JSON.parse(body.toString())).toEqual(wanted.$json);
  } else if (typeof wanted === 'object' && '$hex' in wanted) {
    expect(body.toString('hex')).toBe(wanted.$hex);
  } else {
    const found = difference(body.toString(), wanted, 'body');
    if (found !== undefined) {
      expect.fail(found);
    }
  }
}

/** A string is sent as it is; `{"$hex"}` as bytes, `{"$repeat": [text, times]}` as JSON of a long string, the rest as JSON. */
function bodyBytes(body: unknown): Buffer {
  if (body === undefined || typeof body === 'string') {
    return Buffer.from(body ?? '');
  }
  if (typeof body === 'object' && body !== null) {
    if ('$hex' in body) {
      return Buffer.from(String(body.$hex), 'hex');
    }
    if ('$repeat' in body && Array.isArray(body.$repeat)) {
      return Buffer.from(JSON.stringify(String(body.$repeat[0]).repeat(Number(body.$repeat[1]))));
    }
  }
  return Buffer.from(JSON.stringify(body));
}

function defaultMeta(type: string, family: RuntimeFamily, conversation: Conversation, id: string): object {
  switch (type) {
    case 'INIT':
      return initMeta(family, conversation);
    case 'INVOKE':
      return invokeMeta(id);
    default:
      return {};
  }
}

function initMeta(family: RuntimeFamily, conversation: Conversation): object {
  return {
    handler: conversation.handler ?? DEFAULT_HANDLER[family],
    functionName: 'tested',
    functionVersion: '7',
    functionArn: 'arn:aws:lambda:local:000000000000:function:tested',
    memoryMb: 256,
    timeoutMs: 10_000,
    environment: {},
    logGroup: '/aws/lambda/tested',
    logStream: '2026/01/01/[7]abc',
    concurrency: 1,
    realm: '',
    ...conversation.init,
  };
}

function invokeMeta(id: string) {
  return {
    id,
    deadlineMs: Date.now() + 10_000,
    arn: 'arn:aws:lambda:local:000000000000:function:tested:7',
    traceId: '',
    clientContext: '',
    http: false,
  };
}
