"""A handler's result as bytes."""

from json import dumps

from .errors import Fault

# AWS's figure, which its clients know.
_RESPONSE_BYTES_MAX = 6_291_556


def marshal(value):
    """``value`` as JSON bytes. Raises Fault Runtime.MarshalError."""
    try:
        text = _to_json(value, ensure_ascii=False)
        try:
            return text.encode("utf-8")
        except UnicodeEncodeError:
            # A lone surrogate has no UTF-8, but it has an escape.
            return _to_json(value, ensure_ascii=True).encode("ascii")
    except RecursionError:
        raise _marshal_error("it is nested too deeply") from None
    except Exception as raised:
        raise _marshal_error(raised) from None


def _to_json(value, ensure_ascii):
    return dumps(value, ensure_ascii=ensure_ascii, allow_nan=False, separators=(",", ":"), default=_default)


def _default(value):
    # DynamoDB's client returns numbers as Decimal; AWS's runtime sends those as numbers.
    if type(value).__module__ == "decimal" and type(value).__name__ == "Decimal" and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"a value of type {type(value).__name__} has no JSON")


def _marshal_error(why):
    return Fault("Runtime.MarshalError", f"The handler's result cannot be sent as JSON: {why}")


def check_size(body):
    """Raises Fault Function.ResponseSizeTooLarge."""
    if len(body) > _RESPONSE_BYTES_MAX:
        raise Fault(
            "Function.ResponseSizeTooLarge",
            f"Response payload size exceeded maximum allowed payload size ({_RESPONSE_BYTES_MAX} bytes).",
        )
