/** Prints as many lines as it is asked to. */
export const handler = ({ lines }) => {
  for (let line = 0; line < lines; line += 1) console.log('line', line);
  return 'whole';
};
