import { errorText } from '@lambda-fleet/common/errors';
import type { WebhookSender } from '../webhooks/webhook-sender.js';
import { type Attempt, type AttemptRunner, nothingMade, notMade } from './run-attempt.js';

/** Makes attempts at webhooks: any answer of 200 to 299 is a success. */
export function createRunWebhook(sender: WebhookSender): AttemptRunner {
  return async (row, { signal }) => {
    if (row.leftMs <= 0) return notMade('its age limit passed while it was queued');
    const headers = {
      'user-agent': 'lambda-fleet',
      'x-lambda-source': row.context.sourceId ?? '',
      'x-request-id': row.id,
    };
    const made = nothingMade();
    const failed = (errorMessage: string): Attempt => {
      const error = { errorType: 'Webhook.Failed', errorMessage };
      const end = {
        outcome: 'function_error',
        over: true,
        lost: false,
        error,
        reason: errorMessage,
        receipt: null,
      } as const;
      return { end, made: { ...made, finishedAtMs: Date.now() } };
    };
    try {
      const { status } = await sender.post(row.context.url ?? '', row.payload, headers, signal);
      if (status < 200 || status > 299) return failed(`${row.context.url} answered ${status}`);
      const end = {
        outcome: 'success',
        over: true,
        lost: false,
        error: null,
        reason: undefined,
        receipt: null,
      } as const;
      return { end, made: { ...made, statusCode: status, finishedAtMs: Date.now() } };
    } catch (err) {
      return failed(`${row.context.url} could not be reached: ${errorText(err)}`);
    }
  };
}
