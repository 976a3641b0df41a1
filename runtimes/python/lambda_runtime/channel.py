"""The channel: sending frames from any thread, and receiving them from one thread at a time."""

import os
import re
import select
import socket
import threading
from json import dumps
from time import monotonic, time_ns

from .frames import LOG, FrameReader, encode_head

# How long a log line waits, blocking its thread, for an agent that does not read.
_LOG_WAIT_MS = 5_000
# How often a log line looks for room after one waited in vain: looking costs more than dropping.
_LOG_RETRY_S = 0.01
_RECEIVE_BYTES = 64 * 1024
# LAMBDA_CHANNEL as two descriptors: where frames arrive, and where they leave.
_DESCRIPTORS = re.compile(r"fd:(\d{1,9}),(\d{1,9})")


class ChannelClosed(Exception):
    """The agent closed the channel."""


class Channel:
    """Frames are written at once, so that a line printed before an endless loop or a crash still arrives.

    When the channel is full, a log line waits up to five seconds (the back-pressure that a
    full pipe gives too); then it and all that follow are dropped and counted until
    there is room again, and a marker line says how many. Any other frame waits as long as it takes.

    ``_rest`` is the unsent end of a log frame that was begun: whatever is sent next goes behind it.
    """

    def __init__(self, channel):
        """``channel`` is ``fd:<read>,<write>`` or the path of a unix socket. Raises OSError."""
        self._incoming, self._outgoing = _open(channel)
        self._bytes_here = select.poll()
        self._bytes_here.register(self._incoming, select.POLLIN)
        # Its own, because another thread may receive meanwhile, and one object cannot be polled by two.
        self._bytes_soon = select.poll()
        self._bytes_soon.register(self._incoming, select.POLLIN)
        self._room = select.poll()
        self._room.register(self._outgoing, select.POLLOUT)
        self._frames = FrameReader()
        self._lock = threading.Lock()
        self._rest = b""
        self._retry_at = 0
        self._dropped = 0
        self._dropped_id = "null"
        self.silent_ticks = 0
        os.register_at_fork(after_in_child=self._leave)

    def receive(self, wait=True):
        """The next frame; None when ``wait`` is false and none is there. Raises ChannelClosed, ProtocolViolation."""
        while True:
            frame = self._frames.next()
            if frame is not None:
                return frame
            try:
                if not self._bytes_here.poll(None if wait else 0):
                    return None
                chunk = os.read(self._incoming, _RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                chunk = b""
            if not chunk:
                raise ChannelClosed
            self.silent_ticks = 0
            self._frames.push(chunk)

    def has_bytes(self, wait_ms):
        """Whether the agent has sent something, or does within so long."""
        return bool(self._bytes_soon.poll(wait_ms))

    def send(self, type_, meta, body=b""):
        """Sends a frame that must arrive; ``meta`` is JSON text."""
        head = encode_head(type_, meta, len(body))
        with self._lock:
            if self._dropped:
                self._rest += self._take_marker()
            self._flush_rest(None)
            # A small frame in one call; a large body is not copied behind its head.
            if len(body) < 4096:
                self._write(head + body, None)
            else:
                self._write(head, None)
                self._write(body, None)

    def log(self, id_json, stream, level, line):
        """``id_json`` is JSON text; ``line`` is UTF-8 bytes without a line break."""
        with self._lock:
            if self._retry_at and monotonic() < self._retry_at:
                self._drop(id_json)
                return
            frame = _log_frame(id_json, stream, level, line)
            wait_ms = 0 if self._retry_at else _LOG_WAIT_MS
            sent = 0
            if self._flush_rest(wait_ms):
                if self._dropped:
                    self._rest = self._take_marker()
                if self._flush_rest(wait_ms):
                    sent = self._write(frame, wait_ms)
            self._retry_at = monotonic() + _LOG_RETRY_S if sent < len(frame) else 0
            if sent == 0:
                self._drop(id_json)
            elif sent < len(frame):
                self._rest = frame[sent:]

    def _flush_rest(self, wait_ms):
        if self._rest:
            self._rest = self._rest[self._write(self._rest, wait_ms) :]
        return not self._rest

    def _write(self, data, wait_ms):
        """Bytes written before the channel stayed full for ``wait_ms``, which None makes endless.

        A broken channel takes everything: whoever receives next sees its end.
        """
        sent = 0
        view = memoryview(data)
        while sent < len(data):
            try:
                sent += os.write(self._outgoing, view[sent:])
            except BlockingIOError:
                if wait_ms == 0 or not self._room.poll(wait_ms):
                    break
            except OSError:
                return len(data)
        return sent

    def _drop(self, id_json):
        self._dropped += 1
        self._dropped_id = id_json

    def _take_marker(self):
        line = f"[... {self._dropped} lines dropped]".encode()
        self._dropped = 0
        return _log_frame(self._dropped_id, "stderr", "WARN", line)

    def _leave(self):
        """In a forked child: the channel belongs to the parent, whose frames the child must not mix with its own."""
        self._lock = threading.Lock()
        self._rest = b""
        self._dropped = 0
        for descriptor in {self._incoming, self._outgoing}:
            os.close(descriptor)


def _open(channel):
    """The descriptors to read from and to write to: never blocking, and not for programs that user code starts."""
    match = _DESCRIPTORS.fullmatch(channel)
    if match is None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(channel)
        descriptor = connection.detach()
        incoming, outgoing = descriptor, descriptor
    else:
        incoming, outgoing = int(match[1]), int(match[2])
    for descriptor in (incoming, outgoing):
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)
    return incoming, outgoing


def _log_frame(id_json, stream, level, line):
    timestamp = time_ns() // 1_000_000
    meta = f'{{"id":{id_json},"stream":"{stream}","level":"{level}","ts":{timestamp}}}'
    return encode_head(LOG, meta, len(line)) + line


def quote(text):
    """JSON of a string, in ASCII: also right for text that UTF-8 cannot hold."""
    return dumps(text)
