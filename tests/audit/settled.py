"""A settled community as an auditor meets it: a node's URL, an address, a folder of bundles; and ways to audit it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import requests

from backend.audit.auditor import audit
from backend.audit.bundle_files import BundleFiles
from backend.audit.command import AuditOptions, Outcome, run_audit
from backend.audit.node import open_nodes
from backend.audit.verdict import AuditVerdict
from deploy.community import hand_over

from .honest import CHALLENGE_SECONDS, Plan, Town, key_of

Answer = dict[str, Any]


def settle(url: str, plan: Plan, seed: int) -> Town:
    """A community that has settled everything it planned."""
    town = Town(url, plan, seed)
    # Whoever founded it gives its powers away, to somebody who must wait longer than it takes to leave.
    administrator = key_of("administrator").address
    hand_over(town.client, key_of("deployer"), town.contracts, administrator, 4 * CHALLENGE_SECONDS)
    for _ in town.targets():
        pass
    return town


@dataclass(frozen=True)
class Settled:
    """The community, its node, its bundles."""

    town: Town
    url: str
    folder: Path

    @property
    def community(self) -> str:
        return str(self.town.contracts.addresses["ClearingHouse"])

    def copy(self, target: Path) -> Path:
        return Path(shutil.copytree(self.folder, target))

    def run(self, **options: Any) -> Outcome:
        """The command's audit; `options` are fields of `AuditOptions`."""
        given: dict[str, Any] = {
            "folder": Path("nowhere"),
            "rpc": (self.url,),
            "community": self.community,
            "bundle": str(self.folder),
        }
        return run_audit(AuditOptions(**(given | options)), lambda line: None)

    def verdict(self, bundles: Path | None = None, url: str | None = None) -> AuditVerdict:
        files = BundleFiles(bundles or self.folder)
        return audit(open_nodes((url or self.url,), 20), self.community, files)


def outcomes(verdict: AuditVerdict, passed: bool | None) -> set[str]:
    """The statements with an outcome."""
    return {check.what for check in verdict.all_checks if check.passed is passed}


def details(verdict: AuditVerdict) -> str:
    """Everything an audit says about what is not right."""
    return "; ".join(check.detail for check in verdict.all_checks if not check.passed)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def lying_node(url: str, twist: Callable[[Answer, Answer], Answer | bytes | None]) -> Iterator[str]:
    """A node that answers as another one does, but for what `twist` makes of question and answer; None: not at all."""
    session = requests.Session()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = twist(question, session.post(url, json=question, timeout=60).json())
            if answer is None:
                self.close_connection = True
                return
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    try:
        with serving(Handler) as address:
            yield address
    finally:
        session.close()
