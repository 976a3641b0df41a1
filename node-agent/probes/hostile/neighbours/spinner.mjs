/** Burns processor time. */
export const handler = () => {
  for (;;);
};
