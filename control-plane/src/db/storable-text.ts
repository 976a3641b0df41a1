/** PostgreSQL's text and jsonb hold every character but NUL, which hostile output is free to contain. */
export function storableText(text: string): string {
  return text.includes('\0') ? text.replaceAll('\0', '\uFFFD') : text;
}
