/**
 * PostgreSQL's text holds every character but NUL, and its jsonb no lone surrogate
 * either. Hostile output is free to contain both.
 */
export function storableText(text: string): string {
  const wellFormed = text.isWellFormed() ? text : text.toWellFormed();
  return wellFormed.includes('\0') ? wellFormed.replaceAll('\0', '\uFFFD') : wellFormed;
}
