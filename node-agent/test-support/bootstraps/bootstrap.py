#!/usr/bin/python3 -IuB
"""A function that does with the Runtime API what its event says, on sockets, so that nothing of a client is in between."""

import http.client
import json
import os
import socket
import sys
import threading
import time

HOST, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
BASE = "/2018-06-01/runtime"


def call(method, path, body=b"", headers=None):
    connection = http.client.HTTPConnection(HOST, int(PORT))
    connection.request(method, BASE + path, body, headers or {})
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return answer


def stream(request_id, chunks, content_type, trailers):
    connection = socket.create_connection((HOST, int(PORT)))
    head = [
        f"POST {BASE}/invocation/{request_id}/response HTTP/1.1",
        "Host: runtime",
        f"Content-Type: {content_type}",
        "Lambda-Runtime-Function-Response-Mode: streaming",
        "Transfer-Encoding: chunked",
        "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
    ]
    connection.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
    for chunk in chunks:
        connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
    connection.sendall(b"0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in trailers.items()).encode() + b"\r\n")
    answer = connection.recv(4096)
    connection.close()
    return int(answer.split()[1])


def answer(request_id, headers, event):
    mode = event.get("mode", "echo")
    respond = f"/invocation/{request_id}/response"
    if mode == "echo":
        return call("POST", respond, json.dumps(event.get("value")))[0]
    if mode == "sleep":
        time.sleep(event["seconds"])
        return call("POST", respond, b'"slept"')[0]
    if mode == "ticks":
        return call("POST", respond, str(TICKS[0]))[0]
    if mode == "environment":
        return call("POST", respond, json.dumps(dict(os.environ)))[0]
    if mode == "headers":
        return call("POST", respond, json.dumps(headers))[0]
    if mode == "raw":
        return call("POST", respond, event["text"], {"Content-Type": event.get("type", "")})[0]
    if mode == "stream":
        chunks = [chunk.encode("latin-1") for chunk in event["chunks"]]
        return stream(request_id, chunks, event.get("type", "application/json"), event.get("trailers", {}))
    if mode == "too large":
        return call("POST", respond, b"x" * (6291556 + 1))[0]
    if mode == "error":
        return call("POST", f"/invocation/{request_id}/error", json.dumps(event["error"]), event.get("headers"))[0]
    if mode == "error and exit":
        call("POST", f"/invocation/{request_id}/error", json.dumps({"errorType": "Fatal"}))
        os._exit(1)
    if mode == "answer and exit":
        call("POST", respond, json.dumps(event.get("value")))
        os._exit(0)
    if mode == "truncated":
        connection = socket.create_connection((HOST, int(PORT)))
        connection.sendall(f"POST {BASE}{respond} HTTP/1.1\r\nHost: r\r\nContent-Length: 10\r\n\r\nhalf".encode())
        connection.shutdown(socket.SHUT_WR)
        status = int(connection.recv(4096).split()[1])
        connection.close()
        return status
    if mode == "wrong ids":
        statuses = [call("POST", "/invocation/nobody/response", b"1")[0], call("POST", "/init/error", b"{}")[0]]
        first = call("POST", respond, b"1")[0]
        second = call("POST", respond, b"2")[0]
        print("statuses", statuses, first, second)
        return second
    if mode == "memory":
        hoard = []
        while True:
            hoard.append(bytearray(8_000_000))
    if mode == "exit":
        os._exit(event["status"])
    if mode == "signal":
        os.kill(os.getpid(), event["signal"])
    if mode == "leak":
        leaked = [socket.create_connection((HOST, int(PORT))) for _ in range(40)]
        globals().setdefault("LEAKED", []).extend(leaked)
        return call("POST", respond, b'"leaked"')[0]
    if mode == "pipeline":
        connection = socket.create_connection((HOST, int(PORT)))
        connection.sendall(b"GET /x HTTP/1.1\r\nHost: r\r\n\r\n" * 1000)
        connection.recv(1)
    if mode == "kill init":
        os.kill(os.getppid(), 9)
    if mode == "look around":
        found = {"interfaces": sorted(name for _, name in socket.if_nameindex())}
        for name in ["environ", "mem", "fd/3", "fd/4", "fd/5", "fd/6"]:
            try:
                found[name] = open(f"/proc/{os.getppid()}/{name}", "rb").read(4096).decode("latin-1")
            except OSError as error:
                found[name] = error.strerror
        return call("POST", respond, json.dumps(found))[0]
    return None


if os.environ.get("FAIL_INIT"):
    call("POST", "/init/error", json.dumps({"errorMessage": "no configuration", "errorType": "Config.Missing"}))
    sys.exit(1)
if os.environ.get("EXIT_INIT"):
    print("leaving")
    sys.exit(3)
if os.environ.get("NEVER_READY"):
    socket.create_connection((HOST, int(PORT))).recv(1)


def serve():
    while True:
        _, headers, body = call("GET", "/invocation/next")
        said = answer(headers["Lambda-Runtime-Aws-Request-Id"], headers, json.loads(body))
        print("answered", said)


def tick():
    while True:
        time.sleep(0.005)
        TICKS[0] += 1


TICKS = [0]
threading.Thread(target=tick, daemon=True).start()
for _ in range(int(os.environ.get("THREADS", "1")) - 1):
    threading.Thread(target=serve, daemon=True).start()
serve()
