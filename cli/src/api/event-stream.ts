import { StringDecoder } from 'node:string_decoder';

export interface ServerEvent {
  readonly event: string;
  readonly id: string;
  readonly data: string;
}

/** One event is one log line, which the server bounds far below this. */
const EVENT_CHARS_MAX = 4 * 1024 * 1024;

/** Reads `text/event-stream` as the HTML standard describes it; `retry` is left to the reader's own backoff. */
export async function* readEventStream(source: AsyncIterable<Buffer>): AsyncGenerator<ServerEvent> {
  const decoder = new StringDecoder('utf8');
  let pending = '';
  let id = '';
  let event = '';
  let data: string[] = [];
  let dataChars = 0;
  for await (const chunk of source) {
    pending += decoder.write(chunk);
    // A carriage return at the very end may be the first half of a line end.
    const complete = pending.endsWith('\r') ? pending.slice(0, -1) : pending;
    const lines = complete.split(/\r\n|\n|\r/);
    pending = (lines.pop() ?? '') + pending.slice(complete.length);
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield { event: event || 'message', id, data: data.join('\n') };
        event = '';
        data = [];
        dataChars = 0;
        continue;
      }
      const colon = line.indexOf(':');
      const field = colon === -1 ? line : line.slice(0, colon);
      const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === 'data') {
        data.push(value);
        dataChars += value.length;
      } else if (field === 'event') event = value;
      else if (field === 'id' && !value.includes('\0')) id = value;
    }
    if (pending.length + dataChars > EVENT_CHARS_MAX) throw new Error('the event stream holds an event without an end');
  }
}
