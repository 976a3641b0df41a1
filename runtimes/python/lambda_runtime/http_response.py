"""Maps a handler's value to an HTTP response, as PROTOCOL.md says under INVOKE."""

import base64
import math
import re
from json import dumps

from .errors import Fault
from .result import marshal

# Header names, values and cookies together, as HTTP/1.1 writes them: "name: value" and a line end.
_HEAD_BYTES_MAX = 32 * 1024

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# What HTTP allows in a value: tab, printable ASCII and Latin-1.
_HEADER_VALUE = re.compile("[\t\x20-\x7e\x80-\xff]*")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")

_JSON_HEAD = {"statusCode": 200, "headers": [["content-type", "application/json"]], "cookies": []}


def http_response(value):
    """``(http member of the frame's meta, body bytes)``. Raises Fault."""
    if not isinstance(value, dict) or "statusCode" not in value:
        return _JSON_HEAD, marshal(value)
    head = _Head()
    status_code = _status_code(value["statusCode"])
    head.add_headers(value.get("headers"))
    head.add_cookies(value.get("cookies"))
    body = _body(value.get("body"), value.get("isBase64Encoded") is True, head)
    return {"statusCode": status_code, "headers": head.headers, "cookies": head.cookies}, body


def _status_code(value):
    is_integer = _is_number(value) and (isinstance(value, int) or value.is_integer())
    if not is_integer or not 200 <= value <= 599:
        raise _invalid(f"statusCode must be an integer from 200 to 599, not {_shown(value)}")
    return int(value)


def _body(body, is_base64, head):
    if body is None:
        return b""
    if not isinstance(body, str):
        head.add_content_type()
        return marshal(body)
    if not is_base64:
        return body.encode("utf-8", "replace")
    if len(body) % 4 != 0 or _BASE64.fullmatch(body) is None:
        raise _invalid("isBase64Encoded is true and body is not base64")
    return base64.b64decode(body)


class _Head:
    """Collects headers and cookies, checked."""

    def __init__(self):
        self.headers = []
        self.cookies = []
        self._bytes = 0

    def add_headers(self, headers):
        if headers is None:
            return
        if not isinstance(headers, dict):
            raise _invalid(f"headers must be an object, not {_shown(headers)}")
        for name, value in headers.items():
            for item in value if isinstance(value, (list, tuple)) else (value,):
                if item is not None:
                    self._add_header(name, item)

    def add_cookies(self, cookies):
        if cookies is None:
            return
        if not isinstance(cookies, (list, tuple)):
            raise _invalid(f"cookies must be an array, not {_shown(cookies)}")
        for cookie in cookies:
            if not isinstance(cookie, str) or _HEADER_VALUE.fullmatch(cookie) is None:
                raise _invalid("each cookie must be a string that HTTP allows in a header")
            self._count("set-cookie", cookie)
            self.cookies.append(cookie)

    def add_content_type(self):
        if all(name != "content-type" for name, _ in self.headers):
            self._add_header("content-type", "application/json")

    def _add_header(self, name, value):
        if not isinstance(name, str) or _HEADER_NAME.fullmatch(name) is None:
            raise _invalid(f"{_shown(name)} cannot be a header's name")
        text = _header_text(value)
        if text is None:
            raise _invalid(f"the header {_shown(name)} must be a string, number, boolean or an array of these")
        if _HEADER_VALUE.fullmatch(text) is None:
            raise _invalid(f"the header {_shown(name)} holds a character that HTTP does not allow")
        lower_case = name.lower()
        self._count(lower_case, text)
        self.headers.append([lower_case, text])

    def _count(self, name, value):
        self._bytes += len(name) + len(value.encode("utf-8")) + 4
        if self._bytes > _HEAD_BYTES_MAX:
            raise _invalid(f"headers and cookies together exceed {_HEAD_BYTES_MAX} bytes")


def _header_text(value):
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if _is_number(value) and math.isfinite(value):
        return str(value)
    return None


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value):
    if isinstance(value, str):
        return dumps(value[:100], ensure_ascii=False)
    if _is_number(value):
        return str(value)
    if value is None:
        return "null"
    return "an array" if isinstance(value, (list, tuple)) else f"a value of type {type(value).__name__}"


def _invalid(problem):
    return Fault("Runtime.InvalidHttpResponse", f"The handler's HTTP response is malformed: {problem}.")
