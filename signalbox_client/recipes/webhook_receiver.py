"""A workflow tool's webhook, as n8n's Wait node has one: Signalbox calls it, and the workflow goes on.

Listens on PORT, takes answers signed with SIGNALBOX_WEBHOOK_SECRET (two with a space between while one is replaced),
and prints each answer once. What is not signed, too old, or not asked for by us is refused.
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from signalbox_client import BadSignature, read_webhook

SECRETS = os.environ["SIGNALBOX_WEBHOOK_SECRET"].split()
ASKED = set(os.environ.get("ASKED", "").split())  # in a database: what `ask` gave you
seen: set[str] = set()


class Resumes(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 1_000_000))
        try:
            answer = read_webhook(dict(self.headers), body, *SECRETS)
        except BadSignature as exc:
            self.tell(401, str(exc))
            return
        if answer.approval_id not in ASKED:
            self.tell(403, "Somebody else has asked for this.")
            return
        if self.headers["webhook-id"] not in seen:
            print(json.dumps({"verdict": answer.verdict, "arguments": answer.arguments}), flush=True)
            seen.add(self.headers["webhook-id"])  # now that it is dealt with: one that fails comes again
        self.tell(200, "taken")

    def tell(self, status: int, words: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(words.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", int(os.environ.get("PORT", "0"))), Resumes)
    print(server.server_address[1], file=sys.stderr, flush=True)
    server.serve_forever()
