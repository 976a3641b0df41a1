import base64
import json
import math
import operator

OPERATIONS = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
}


def handler(event, context):
    """Calculates {operation, a, b}, given as a query (?operation=add&a=2&b=3), as the JSON body of a request, or as
    the event itself. Answers {"result": 5}, or status 400 and {"error": ...}.
    """
    try:
        values = read_input(event)
    except ValueError:
        return bad_request("The body is not a JSON object.")
    operation = OPERATIONS.get(str(values.get("operation")))
    if operation is None:
        return bad_request(f'"operation" must be one of {", ".join(OPERATIONS)}.')
    try:
        a, b = read_number(values.get("a")), read_number(values.get("b"))
    except (TypeError, ValueError, OverflowError):
        return bad_request('"a" and "b" must be numbers.')
    try:
        result = operation(a, b)
    except ZeroDivisionError:
        return bad_request("Division by zero.")
    if not math.isfinite(result):
        return bad_request("The result is too large.")
    return {"result": int(result) if result.is_integer() else result}


def read_input(event):
    if "http" not in event.get("requestContext", {}):
        return event
    if not event.get("body"):
        return event.get("queryStringParameters") or {}
    body = event["body"]
    values = json.loads(base64.b64decode(body) if event.get("isBase64Encoded") else body)
    if not isinstance(values, dict):
        raise ValueError("not an object")
    return values


def read_number(value):
    """A number, or the text of one as a query has it."""
    if isinstance(value, bool):
        raise TypeError("not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def bad_request(error):
    return {"statusCode": 400, "body": {"error": error}}
