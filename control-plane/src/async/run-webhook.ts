import { errorText } from '@lambda-fleet/common/errors';
import type { WebhookSender } from '../webhooks/webhook-sender.js';
import { type Attempt, type AttemptRunner, nothingMade } from './run-attempt.js';

/** Makes attempts at webhooks. A status from 200 to 299 is a success. */
export function createRunWebhook(sender: WebhookSender): AttemptRunner {
  return async (row, { signal }) => {
    const { url = '' } = row.context;
    const headers = {
      'user-agent': 'lambda-fleet',
      'x-lambda-source': row.context.sourceId ?? '',
      'x-request-id': row.id,
    };
    const begun = nothingMade();
    const ended = (statusCode: number | undefined, failure?: string): Attempt => ({
      end: {
        outcome: failure === undefined ? 'success' : 'function_error',
        over: true,
        lost: false,
        error: failure === undefined ? null : { errorType: 'Webhook.Failed', errorMessage: failure },
        reason: failure,
        receipt: null,
      },
      made: { ...begun, statusCode, finishedAtMs: Date.now() },
    });
    try {
      const { status } = await sender.post(url, row.payload, headers, signal);
      return status >= 200 && status <= 299 ? ended(status) : ended(status, `${url} answered ${status}`);
    } catch (err) {
      return ended(undefined, `${url} could not be reached: ${errorText(err)}`);
    }
  };
}
