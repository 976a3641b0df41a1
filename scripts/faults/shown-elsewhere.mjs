/**
 * Faults whose proof is a test of its own, not a load on a whole system: `[fault, file, the beginning of the test's name]`.
 *
 * @type {readonly (readonly [string, string, string])[]}
 */
export const SHOWN_ELSEWHERE = [
  [
    'control plane killed at each named moment, under load',
    'e2e/src/async-faults.test.ts',
    'lose none, and run none twice',
  ],
  ['everything killed while a schedule ticks each second', 'e2e/src/schedule-faults.test.ts', 'ticks each second once'],
  ['every node drained, every control plane stopped, under load', 'e2e/src/rolling.test.ts', 'lose no call'],
  ['agents and control planes of a cluster killed', 'e2e/src/rolling.test.ts', 'lose only what is in flight'],
  ['a node that is lost while it drains', 'e2e/src/drain.test.ts', 'records a drain as lost'],
  ['500 agents that connect at once', 'e2e/src/reconnect-storm.integration.test.ts', 'ends with every agent welcomed'],
  [
    'an agent that speaks of what others were given',
    'e2e/src/hostile-agent.integration.test.ts',
    'can neither answer nor write',
  ],
  [
    'an agent that invents executions and lines',
    'e2e/src/hostile-agent.integration.test.ts',
    'can invent no execution',
  ],
  ['an agent that floods with reports', 'control-plane/src/nodes/drains.integration.test.ts', 'an agent that floods'],
  [
    'a token used twice, late, forged or unknown',
    'control-plane/src/enrollment/enrollment.integration.test.ts',
    'lets nobody in twice',
  ],
  [
    'a certificate of another authority, or for a server',
    'control-plane/src/grpc/node-access.integration.test.ts',
    'is nobody with a certificate',
  ],
  ['a node that was removed', 'control-plane/src/grpc/node-access.integration.test.ts', 'is cut off by every replica'],
  [
    'a function that takes its node down',
    'control-plane/src/async/async-system.integration.test.ts',
    'an invocation that takes its node down',
  ],
  ['a flood of one function', 'control-plane/src/async/async-system.integration.test.ts', 'a flood of one function'],
  [
    'a sandbox that cannot be killed',
    'node-agent/src/sandboxes/sandbox-pool.test.ts',
    'a sandbox that cannot be killed',
  ],
  ['a flood of log lines', 'node-agent/src/invocations/invocation-runner.integration.test.ts', 'a log flood is cut'],
  ['a fork bomb', 'node-agent/src/drivers/docker/docker-isolation.integration.test.ts', 'stops a fork bomb'],
  ['hostile frames of a sandbox', 'node-agent/src/channel/conversation.test.ts', 'a malformed result rejects'],
  [
    'JSON that is malformed or very deep',
    'control-plane/src/http/function-routes.integration.test.ts',
    'JSON that is malformed',
  ],
];
