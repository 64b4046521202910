"""The demo's api, a script of its own: `python3 page_script.py PORT` answers with a small page, and `/stream` never ends.

Standard library only and no import of ours, as any user's app would be.
"""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STREAM_SECONDS = 0.02


class Page(BaseHTTPRequestHandler):
    """The page names the server's address and the client's."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path == "/stream":
            self.stream()
            return
        here = f"{os.environ.get('CF_INSTANCE_INTERNAL_IP', '?')} (instance {os.environ.get('CF_INSTANCE_INDEX', '?')})"
        body = f"Hello from api at {here} to {self.client_address[0]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        """A slow download: a line every STREAM_SECONDS until the client ends it."""
        self.close_connection = True
        try:
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b"more\n")
                time.sleep(STREAM_SECONDS)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Page).serve_forever()
