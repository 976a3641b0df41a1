/**
 * The event of a tick of a schedule that has no payload of its own, as EventBridge sends it. JSON text.
 *
 * @param id the invocation's, so that every attempt sees the same
 */
export function scheduledEvent(id: string, scheduleName: string, tickAt: Date): string {
  return JSON.stringify({
    version: '0',
    id,
    'detail-type': 'Scheduled Event',
    source: 'aws.events',
    account: '000000000000',
    // Whole seconds, as there.
    time: `${tickAt.toISOString().slice(0, 19)}Z`,
    region: 'local',
    resources: [`arn:aws:events:local:000000000000:rule/${scheduleName}`],
    detail: {},
  });
}
