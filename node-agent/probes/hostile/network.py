"""Attempts to reach anything at all."""

import socket
import threading

from trying import KEPT, attempt


def dial(addresses):
    """Connections and datagrams to these; what each said, and what it was told."""
    return {f"{kind} {host}:{port}": attempt(ask, kind, host, port) for kind, host, port in addresses}


def ask(kind, host, port):
    if kind == "abstract":
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.settimeout(1)
        one.connect("\0" + host)
    else:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        one.settimeout(1)
        one.connect((host, port))
        one.send(b"question")
    with one:
        return one.recv(64).decode()


def resolve(name):
    """Through the resolver that the image is set up for, and through those that hosts have."""
    return attempt(lambda: socket.getaddrinfo(name, 80)[0][4][0])


def listen(port, name):
    """Waits for neighbours on loopback and under an abstract name."""
    open_port = socket.create_server(("127.0.0.1", port))
    abstract = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    abstract.bind("\0" + name)
    abstract.listen()
    KEPT.extend([open_port, abstract])
    for one in (open_port, abstract):
        threading.Thread(target=hear, args=(one,), daemon=True).start()
    return True


HEARD = []


def hear(listener):
    while True:
        connection, _ = listener.accept()
        HEARD.append(f"somebody came to {listener.getsockname()!r}")
        connection.close()


def heard():
    return HEARD
