"""What user code prints, as log lines tagged with the invocation that printed them."""

import contextvars
import io
import logging
import os
import sys
import threading

from .channel import quote

# Longer lines are sent in pieces.
_LINE_BYTES_MAX = 64 * 1024

_LEVELS = {"DEBUG": "DEBUG", "INFO": "INFO", "WARNING": "WARN", "ERROR": "ERROR", "CRITICAL": "ERROR"}


class LogCapture:
    """Replaces ``sys.stdout`` and ``sys.stderr`` and gives the root logger a handler.

    A line belongs to the invocation of the context that wrote it. Threads do not inherit
    a context, so what they print belongs to the invocation that runs at that moment.
    """

    def __init__(self, channel):
        self._channel = channel
        self._context_id = contextvars.ContextVar("lambda_invocation", default=None)
        self._running_id = "null"
        self._streams = []
        self._pid = os.getpid()

    def install(self):
        """Call once, before user code loads."""
        sys.stdout = self._capture("stdout", 1)
        sys.stderr = self._capture("stderr", 2)
        logging.getLogger().addHandler(_LoggingHandler(self))

    def begin(self, invocation_id):
        self._running_id = quote(invocation_id)
        self._context_id.set(self._running_id)

    def flush(self):
        """Sends unfinished lines: a result comes next."""
        for text, lines in self._streams:
            try:
                text.flush()
            except ValueError:
                # User code closed the stream; nothing is left in it.
                pass
            lines.finish()

    def end(self):
        """No invocation is running any more."""
        self.flush()
        self._context_id.set(None)
        self._running_id = "null"

    def emit(self, stream, level, data):
        """Sends ``data``, UTF-8 without a final line break, as one log line per line."""
        if os.getpid() != self._pid:
            # A forked child has no channel; its output goes where its descriptors lead.
            os.write(1 if stream == "stdout" else 2, data + b"\n")
            return
        id_json = self._context_id.get() or self._running_id
        for line in data.split(b"\n"):
            for piece in _pieces(line):
                self._channel.log(id_json, stream, level, piece)

    def _capture(self, name, descriptor):
        lines = _Lines(descriptor, lambda data: self.emit(name, "", data))
        text = io.TextIOWrapper(lines, encoding="utf-8", errors="replace", newline="\n", line_buffering=True)
        self._streams.append((text, lines))
        return text


class _Lines(io.RawIOBase):
    """The bytes below a text stream: passes whole lines on and keeps an unfinished one until its end or ``finish``."""

    def __init__(self, descriptor, on_lines):
        self._descriptor = descriptor
        self._on_lines = on_lines
        self._unfinished = b""
        self._lock = threading.RLock()

    def writable(self):
        return True

    def fileno(self):
        return self._descriptor

    def write(self, data):
        data = bytes(data)
        with self._lock:
            end = data.rfind(b"\n")
            if end == -1:
                self._unfinished += data
                if len(self._unfinished) > _LINE_BYTES_MAX:
                    self.finish()
            else:
                whole = self._unfinished + data[:end]
                self._unfinished = data[end + 1 :]
                self._on_lines(_valid_utf8(whole))
        return len(data)

    def finish(self):
        with self._lock:
            if self._unfinished:
                unfinished, self._unfinished = self._unfinished, b""
                self._on_lines(_valid_utf8(unfinished))


class _LoggingHandler(logging.Handler):
    def __init__(self, capture):
        super().__init__()
        self._capture = capture

    def emit(self, record):
        try:
            text = self.format(record)
            level = _LEVELS.get(record.levelname) or _level_of(record.levelno)
            self._capture.emit("stderr", level, text.encode("utf-8", "replace"))
        except Exception:
            # What logging itself does with a record that cannot be formatted.
            self.handleError(record)


def _level_of(number):
    if number >= logging.ERROR:
        return "ERROR"
    if number >= logging.WARNING:
        return "WARN"
    return "INFO" if number >= logging.INFO else "DEBUG"


def _valid_utf8(data):
    try:
        data.decode("utf-8")
        return data
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace").encode("utf-8")


def _pieces(line):
    if len(line) <= _LINE_BYTES_MAX:
        return (line,)
    pieces = []
    start = 0
    while len(line) - start > _LINE_BYTES_MAX:
        end = start + _LINE_BYTES_MAX
        while line[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(line[start:end])
        start = end
    pieces.append(line[start:])
    return pieces
