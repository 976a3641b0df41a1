"""Errors of a function, as the frames carry them."""

import os
import traceback
from json import dumps

from .frames import META_BYTES_MAX

_TYPE_BYTES_MAX = 256
_MESSAGE_BYTES_MAX = 64 * 1024
# Message bytes of an error whose JSON does not fit a frame otherwise: text that is mostly escapes.
_MESSAGE_BYTES_SMALL = 8 * 1024
_TRACE_LINES_MAX = 50
_TRACE_LINE_BYTES_MAX = 1024

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__))


class Fault(Exception):
    """An error of a function that the runtime found, as opposed to one that user code raised.

    ``type`` is one of the names in PROTOCOL.md. ``location`` says where code does not
    parse: ``{"file", "line", "column"}``, from 1.
    """

    def __init__(self, type_, message, location=None):
        super().__init__(message)
        self.type = type_
        self.location = location


def error_members(raised):
    """``errorType``, ``errorMessage`` and ``trace`` as JSON text without braces; never raises."""
    if isinstance(raised, Fault):
        type_, message, trace = raised.type, str(raised), []
    else:
        type_, message, trace = type(raised).__name__, _message(raised), _trace(raised)
    whole = _members(type_, cut(message, _MESSAGE_BYTES_MAX), trace)
    if len(whole) <= META_BYTES_MAX - 1024:
        return whole
    return _members(type_, cut(message, _MESSAGE_BYTES_SMALL), [])


def _members(type_, message, trace):
    members = {"errorType": cut(type_, _TYPE_BYTES_MAX), "errorMessage": message, "trace": trace}
    return dumps(members, separators=(",", ":"))[1:-1]


def _message(raised):
    try:
        return str(raised)
    except Exception:
        return "an exception whose text cannot be shown"


def _trace(raised):
    """The traceback's lines without the runtime's own frames."""
    try:
        frames = [frame for frame in traceback.extract_tb(raised.__traceback__) if not _is_own(frame.filename)]
        lines = "".join(traceback.format_list(frames)).splitlines()
    except Exception:
        # Source lines are read from files that user code may have changed.
        return []
    return [cut(line, _TRACE_LINE_BYTES_MAX) for line in lines[:_TRACE_LINES_MAX]]


def _is_own(filename):
    return filename.startswith((_OWN_FOLDER, "<frozen importlib"))


def cut(text, bytes_max):
    """``text`` if it has at most ``bytes_max`` bytes of UTF-8, else as much of its start as fits."""
    if len(text) * 4 <= bytes_max:
        return text
    # A lone surrogate counts as three bytes and stays itself.
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= bytes_max:
        return text
    end = bytes_max
    while end > 0 and data[end] & 0xC0 == 0x80:
        end -= 1
    return data[:end].decode("utf-8", "surrogatepass")
