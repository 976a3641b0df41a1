/** More in one message is nothing that an engine sends. */
const LINE_CHARS_MAX = 4 * 1024 * 1024;

/** The messages of an engine's progress stream: one JSON object a line. */
export async function* jsonLines(stream: AsyncIterable<Buffer>): AsyncGenerator<Readonly<Record<string, unknown>>> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > LINE_CHARS_MAX) throw new Error('the engine sent a message without an end');
    for (const line of lines) if (line.trim() !== '') yield JSON.parse(line);
  }
  if (rest.trim() !== '') yield JSON.parse(rest);
}

/** What a message says went wrong, if it says so. */
export function reportedError(message: Readonly<Record<string, unknown>>): string | undefined {
  return message.error === undefined ? undefined : String(message.error);
}
