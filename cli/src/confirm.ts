import { createInterface } from 'node:readline/promises';
import { CliError } from './cli-error.js';

/** Asks on the terminal. @throws CliError with the message `otherwise`, unless the answer is yes */
export async function confirm(question: string, otherwise: string): Promise<void> {
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await prompt.question(`${question} [y/N] `);
    if (!/^y(es)?$/i.test(answer.trim())) throw new CliError(otherwise);
  } finally {
    prompt.close();
  }
}
