"""An HTTP server whose every byte the test chooses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Answers a connection, given the path that was asked for.
Handler = Callable[[socket.socket, str], None]


@contextmanager
def answering(handle: Handler) -> Iterator[str]:
    """A server whose every byte the handler chooses."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(50)

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                head = connection.recv(65536).split(b"\r\n")[0].decode()
                handle(connection, head.split(" ")[1])
            except OSError:
                pass

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def body(connection: socket.socket, data: bytes, head: str = "200 OK") -> None:
    connection.sendall(f"HTTP/1.1 {head}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
