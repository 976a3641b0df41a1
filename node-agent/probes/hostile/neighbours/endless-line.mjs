/** Prints as many megabytes as it is asked to, without a line break. */
const block = 'x'.repeat(1024 * 1024);
export const handler = ({ megabytes }) => {
  for (let written = 0; written < megabytes; written += 1) process.stdout.write(block);
  return 'whole';
};
