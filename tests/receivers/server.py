"""A receiver in a process of its own: does as its plan says, request by request, and writes down what it got.

    python server.py PORT_FILE GOT PLAN [CERTIFICATE KEY]

PLAN is JSON: {"first": [step, ...], "then": step}; a step is {"do": what, ...}:
ok; status (status, headers, body); hang (seconds); drip (a byte of the status line at a time); cut (half an answer); refuse (per item: the
answer of Braze with an error for each of `users`); reject (400 for a whole batch that has one of `users`, else ok).
GOT has a JSON line for each request: headers, target, body, at.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

port_file, got, plan = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
first, then = list(plan.get("first", [])), plan.get("then", {"do": "ok"})
lock = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with lock:
            step = first.pop(0) if first else then
            line = {"headers": {name.lower(): value for name, value in self.headers.items()}, "target": self.path, "body": body.decode(), "at": time.time()}
            with got.open("a") as file:
                file.write(json.dumps({**line, "step": step["do"]}) + "\n")
        getattr(self, step["do"])(step, body)

    def answer(self, status=200, body=b"{}", headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def ok(self, step, body):
        time.sleep(step.get("after", 0))
        self.answer()

    def status(self, step, body):
        self.answer(step["status"], json.dumps(step.get("body", {})).encode(), step.get("headers", {}))

    def hang(self, step, body):
        time.sleep(step["seconds"])
        self.close_connection = True

    def drip(self, step, body):
        for letter in b"HTTP/1.1 200 OK\r\nx-slow: " + b"a" * 10_000:
            try:
                self.wfile.write(bytes([letter]))
                self.wfile.flush()
            except OSError:
                break
            time.sleep(0.05)
        self.close_connection = True

    def cut(self, step, body):
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}")
        self.close_connection = True

    def refuse(self, step, body):
        users = [item["external_id"] for item in json.loads(body)["attributes"]]
        errors = [{"type": "not taken", "input_array": "attributes", "index": place} for place, user in enumerate(users) if user in step["users"]]
        self.answer(201, json.dumps({"message": "success", **({"errors": errors} if errors else {})}).encode())

    def reject(self, step, body):
        self.answer(400 if any(f'"{user}"' in body.decode() for user in step["users"]) else 200)

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


server = Server(("127.0.0.1", 0), Receiver)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])

    def asked_for(connection, name, context):
        with got.open("a") as file:
            file.write(json.dumps({"step": "hello", "server_name": name}) + "\n")

    context.sni_callback = asked_for
    server.socket = context.wrap_socket(server.socket, server_side=True)
port_file.with_suffix(".new").write_text(str(server.server_address[1]))
port_file.with_suffix(".new").rename(port_file)
server.serve_forever()
