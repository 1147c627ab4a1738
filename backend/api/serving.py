"""Serves the application from this process."""

from __future__ import annotations

import gc

import uvicorn
from fastapi import FastAPI

from .sessions import WebState
from .settings import KEEP_ALIVE_SECONDS

# Rarer than Python's own (700, 10, 10): nearly everything that a request makes is gone with it, without the collector.
_GC_THRESHOLDS = (2_000, 20, 50)


def serve_app(app: FastAPI, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        app: what to serve.
        host, port: where to listen.
    """
    # Made before anybody waits for it: the routes with their description, and the running day.
    app.openapi()
    state: WebState = app.state.web
    for site in state.sites.values():
        site.previews()
    # What is there now stays: the libraries alone are so many objects that every full look of the garbage collector at them
    # stopped everybody's requests for a tenth of a second and more.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        # Open streams of events would hold the end up.
        timeout_graceful_shutdown=2,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
