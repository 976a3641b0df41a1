const OPERATIONS = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  divide: (a, b) => a / b,
};

/**
 * Calculates `{operation, a, b}`, given as a query (?operation=add&a=2&b=3), as the JSON body of a request, or as the
 * event itself. Answers {"result": 5}, or status 400 and {"error": …}.
 */
export const handler = async (event) => {
  let input;
  try {
    input = readInput(event);
  } catch {
    return badRequest('The body is not JSON.');
  }
  const { operation } = input;
  if (!Object.hasOwn(OPERATIONS, operation)) {
    return badRequest(`"operation" must be one of ${Object.keys(OPERATIONS).join(', ')}.`);
  }
  const a = readNumber(input.a);
  const b = readNumber(input.b);
  if (Number.isNaN(a) || Number.isNaN(b)) return badRequest('"a" and "b" must be numbers.');
  if (operation === 'divide' && b === 0) return badRequest('Division by zero.');
  const result = OPERATIONS[operation](a, b);
  return Number.isFinite(result) ? { result } : badRequest('The result is too large.');
};

function readInput(event) {
  if (event.requestContext?.http === undefined) return event;
  if (!event.body) return event.queryStringParameters ?? {};
  const text = event.isBase64Encoded ? Buffer.from(event.body, 'base64').toString() : event.body;
  return Object(JSON.parse(text));
}

/** A number, or the text of one as a query has it. NaN for anything else. */
function readNumber(value) {
  if (typeof value === 'string' && value.trim() !== '') value = Number(value);
  return Number.isFinite(value) ? value : Number.NaN;
}

function badRequest(error) {
  return { statusCode: 400, body: { error } };
}
