"""The embedded chain as a node behind HTTP, for programs that know an Ethereum node by its URL only."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from web3 import Web3


@dataclass
class Node:
    """A running node.

    Attributes:
        url: where.
        lock: held while the chain is asked; whoever sends transactions meanwhile takes it too.
        calls: methods that were called.
        most_blocks: more than that in one question for events are refused, as providers do.
        spoiled: by method, what is answered instead.
    """

    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    calls: list[str] = field(default_factory=list)
    most_blocks: int = 1000
    spoiled: dict[str, bytes] = field(default_factory=dict)


def answer(web3: Web3, node: Node, method: str, params: list[Any]) -> dict[str, Any]:
    """The members of an answer besides its number."""
    node.calls.append(method)
    if method == "eth_getLogs":
        first, last = (int(params[0][name], 16) for name in ("fromBlock", "toBlock"))
        if last - first + 1 > node.most_blocks:
            return {"error": {"code": -32005, "message": "too many blocks"}}
        return {"result": web3.eth.get_logs(params[0])}
    if method == "eth_getBlockByNumber":
        number = int(params[0], 16)
        known = number <= web3.eth.block_number
        return {"result": web3.eth.get_block(number) if known else None}
    simple = {
        "eth_chainId": lambda: web3.eth.chain_id,
        "eth_blockNumber": lambda: web3.eth.block_number,
        "eth_getCode": lambda: web3.eth.get_code(Web3.to_checksum_address(params[0])),
    }
    return {"result": simple[method]()}


def plain(value: Any) -> Any:
    """As JSON-RPC writes it: quantities and bytes in hexadecimal."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, bytes):
        return "0x" + bytes(value).hex()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in dict(value).items()}


@contextmanager
def serving(web3: Web3, port: int = 0) -> Iterator[Node]:
    """The node, while it runs."""
    node = Node()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with node.lock:
                found = plain(answer(web3, node, asked["method"], asked["params"]))
            body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], **found}).encode()
            body = node.spoiled.get(asked["method"], body)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    node.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield node
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
