// Answers with the event itself, which over HTTP shows what a function gets to see of a request.
export const handler = async (event) => {
  console.log('event', event);
  return event;
};
