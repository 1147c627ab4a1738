"""A server process for the HTTP sources: smart-me's interface and a folder of files, both behind credentials.

Run as a program with the folder to serve; prints its port.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY = "MTRH5eUjFXV8U4i1viZF2jHNoUNsnDTx"
USER, PASSWORD = "user@example.org", "secret"
ACCEPTED = {
    f"ApiKey {KEY}",
    "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
}


class Handler(BaseHTTPRequestHandler):
    folder: Path

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if self.headers.get("Authorization") not in ACCEPTED:
            self.answer(401, b"no")
        elif path.startswith("/status/"):
            self.answer(int(path.removeprefix("/status/").split("/")[0]), b"")
        elif path == "/elsewhere/Devices":
            self.answer(302, b"", Location="http://127.0.0.1:1/")
        elif path == "/large/Devices":
            self.answer(200, b" " * (65 * 1024 * 1024))
        elif path.startswith("/MeterValues/"):
            self.answer(200, (self.folder / "values.json").read_bytes() if query else b"{}")
        else:
            file = self.folder / path.removeprefix("/").replace("Devices", "smart-me-devices.json")
            data = file.read_bytes() if file.is_file() else None
            tag = hashlib.sha256(data or b"").hexdigest()
            if data is None:
                self.answer(404, b"")
            elif self.headers.get("If-None-Match") == tag:
                self.answer(304, b"")
            else:
                self.answer(200, data, ETag=tag)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The server's URL, while it runs in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    Handler.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
