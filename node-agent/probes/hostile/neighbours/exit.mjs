/** Ends its process. */
export const handler = () => process.exit(1);
