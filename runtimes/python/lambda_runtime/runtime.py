"""Puts the parts together and runs until the agent closes the channel."""

import os
import sys
import threading
from json import dumps
from os import _exit
from time import sleep

from .channel import Channel, ChannelClosed
from .conversation import Conversation
from .environment import take_boot_config
from .frames import HELLO, ProtocolViolation
from .logs import LogCapture
from .preload import Preload

# Seconds without a byte from the agent, which pings every 10 s, before the runtime ends itself.
_SILENT_TICKS_MAX = 30


def run():
    channel_name, nonce, task_root, code_cache = take_boot_config()
    try:
        channel = Channel(channel_name)
    except OSError as error:
        _fail(f"cannot connect to its agent: {error}")
    logs = LogCapture(channel)
    logs.install()
    preload = Preload()
    conversation = Conversation(channel, logs, task_root, code_cache, preload)
    received = []
    receiving = threading.Lock()
    watch = threading.Thread(target=_watch, args=(channel, conversation, received, receiving), daemon=True)
    watch.start()
    pid = os.getpid()
    channel.send(HELLO, dumps(_hello(nonce)))
    try:
        while True:
            if preload.wait_ms is not None and not received and not channel.has_bytes(preload.wait_ms):
                preload.step()
                continue
            with receiving:
                frame = received.pop() if received else channel.receive()
            conversation.on_frame(frame)
            if os.getpid() != pid:
                # User code forked and let the child return: only the parent may answer.
                _exit(0)
    except ChannelClosed:
        _exit(0)
    except ProtocolViolation as violation:
        _fail(f"the agent broke the protocol: {violation}")
    except SystemExit as exit_:
        _exit_as_asked(exit_.code, logs)


def _watch(channel, conversation, received, receiving):
    """Receives while user code keeps the main thread busy: answers PING, notices the end of the channel.

    It also counts silence, in ticks of its own instead of clock time: a process that
    was frozen for a minute has missed at most one. The main thread receives by itself
    while it waits for work, because handing each frame over to it would cost more than the frame.
    """
    while True:
        sleep(1)
        channel.silent_ticks += 1
        if channel.silent_ticks >= _SILENT_TICKS_MAX:
            _exit(0)
        if not receiving.acquire(blocking=False):
            continue
        try:
            while not received:
                frame = channel.receive(wait=False)
                if frame is None:
                    break
                if not conversation.answer_ping(frame):
                    # The main thread has just become free: the frame is its own.
                    received.append(frame)
        except ChannelClosed:
            _exit(0)
        except ProtocolViolation as violation:
            _fail(f"the agent broke the protocol: {violation}")
        finally:
            receiving.release()


def _hello(nonce):
    version = ".".join(str(part) for part in sys.version_info[:3])
    return {"protocol": 1, "nonce": nonce, "runtime": "python", "version": version, "pid": os.getpid()}


def _exit_as_asked(code, logs):
    """What ``sys.exit(code)`` means, at once: other threads of user code are not waited for."""
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    logs.flush()
    _exit((code or 0) & 0xFF)


def _fail(reason):
    os.write(2, f"lambda runtime: {reason}\n".encode())
    _exit(1)
