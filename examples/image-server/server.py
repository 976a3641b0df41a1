"""Serves HTTP on $PORT, as any web server does: an event of an invocation comes as a POST to /."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"message": "Hello from a container image!", "path": self.path})

    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer({"message": f"Hello, {event.get('name', 'World')}!"})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        print(format % args, flush=True)


ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
