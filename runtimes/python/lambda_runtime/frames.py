"""Frames: see "Frames" in PROTOCOL.md."""

import struct
from json import loads

FRAME_BYTES_MIN = 5
FRAME_BYTES_MAX = 7 * 1024 * 1024
META_BYTES_MAX = 256 * 1024

HELLO = 0x01
READY = 0x02
INIT_ERROR = 0x03
RESPONSE = 0x04
ERROR = 0x05
LOG = 0x06
PONG = 0x07
COMPILED = 0x08
INIT = 0x81
INVOKE = 0x82
PING = 0x83
COMPILE = 0x84

_HEAD = struct.Struct(">IBI")
_LENGTH = struct.Struct(">I")
_TYPE_AND_META_LENGTH = struct.Struct(">BI")


class ProtocolViolation(Exception):
    """The agent sent something that PROTOCOL.md does not allow."""


class Frame:
    __slots__ = ("type", "meta", "body")

    def __init__(self, type_, meta, body):
        self.type = type_
        self.meta = meta
        self.body = body


def encode_head(type_, meta, body_length=0):
    """All of a frame but its body; ``meta`` is JSON text."""
    meta_bytes = meta.encode("utf-8")
    return _HEAD.pack(5 + len(meta_bytes) + body_length, type_, len(meta_bytes)) + meta_bytes


class FrameReader:
    """Cuts a byte stream into frames."""

    def __init__(self):
        self._received = bytearray()

    def push(self, chunk):
        """Adds received bytes. Call ``next`` until it has no frame."""
        self._received += chunk

    def next(self):
        """The next whole frame, or None. Raises ProtocolViolation."""
        received = self._received
        if len(received) < 4:
            return None
        (length,) = _LENGTH.unpack_from(received)
        if not FRAME_BYTES_MIN <= length <= FRAME_BYTES_MAX:
            raise ProtocolViolation(f"a frame of {length} bytes")
        end = 4 + length
        if len(received) < end:
            return None
        type_, meta_length = _TYPE_AND_META_LENGTH.unpack_from(received, 4)
        meta_end = 9 + meta_length
        if meta_length > META_BYTES_MAX or meta_end > end:
            raise ProtocolViolation(f"{meta_length} bytes of meta in a frame of {length}")
        with memoryview(received) as view:
            meta = bytes(view[9:meta_end])
            body = bytes(view[meta_end:end])
        del received[:end]
        return Frame(type_, _decode_meta(meta), body)


def _decode_meta(text):
    if not text:
        return {}
    try:
        meta = loads(text.decode("utf-8"))
    except ValueError:
        raise ProtocolViolation("meta that is not JSON") from None
    if not isinstance(meta, dict):
        raise ProtocolViolation("meta that is not a JSON object")
    return meta
