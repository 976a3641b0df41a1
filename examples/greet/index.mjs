// Answers {"message":"Hello, <name>!"}, whether it is called over HTTP (?name=) or with an event ({"name": …}).
export const handler = async (event) => {
  const name = event.queryStringParameters?.name ?? event.name ?? 'World';
  console.log(`greeting ${name}`);
  return { message: `Hello, ${name}!` };
};
