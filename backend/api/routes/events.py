"""Server-sent events: something has changed, look again. What has changed is read as always, by whoever may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from ..sessions import AnyCaller, session_name, web_state
from ..site import Site
from .community import INSIDERS

router = APIRouter(prefix="/communities/{community}", tags=["community"])
_LOOK_SECONDS = 1.0
_BEAT_SECONDS = 15.0
# How long after a session's end its stream goes on at most.
_SESSION_SECONDS = 5.0
# Browsers come again by themselves; so nobody is forgotten on a connection that is none any more.
_LONGEST_SECONDS = 600.0


class Pulse:
    """Looks at a site once a second while somebody waits, and wakes everybody up when it has changed.

    Args:
        site: the community.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self.number = 0
        self.news: dict[str, Any] = {}

    async def next(self, known: int) -> int:
        """Waits until there is something after `known`; returns its number."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        async with self._changed:
            await self._changed.wait_for(lambda: self.number > known)
            return self.number

    async def _look(self) -> None:
        seen: object = None
        while True:
            revision = await run_in_threadpool(self._site.revision)
            if revision != seen:
                seen = revision
                self.news = await run_in_threadpool(news_of, self._site)
                async with self._changed:
                    self.number += 1
                    self._changed.notify_all()
            await asyncio.sleep(_LOOK_SECONDS)


def news_of(site: Site) -> dict[str, Any]:
    """What everybody may know: how far the day and the batches are."""
    previews = site.previews()
    newest = site.batches()[-1] if site.batches() else None
    return {
        "period": site.running_period().number,
        "interval": previews[-1].interval if previews else None,
        "batch": newest.number if newest else None,
        "standing": newest.standing.value if newest else None,
    }


def news_text(news: dict[str, Any]) -> str:
    """As a stream says it; pages that carry it know what they have shown already."""
    return json.dumps(news)


def pulse_of(site: Site) -> Pulse:
    """The site's."""
    found: Pulse | None = site.extras.get("pulse")
    if found is None:
        found = site.extras["pulse"] = Pulse(site)
    return found


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Events named `changed`."}
    },
)
async def events(request: Request, caller: AnyCaller) -> StreamingResponse:
    """Tells when the day has gone on or a batch has changed: `data` is JSON with period, interval, batch and standing."""
    caller.need(*INSIDERS)
    sessions, name = web_state(request).sessions, session_name(request)
    pulse = pulse_of(caller.site)

    async def stream() -> AsyncIterator[str]:
        clock = asyncio.get_running_loop().time
        known, until, beat = 0, clock() + _LONGEST_SECONDS, clock() + _BEAT_SECONDS
        yield "retry: 3000\n\n"
        while clock() < until and sessions.holds(name):
            try:
                known = await asyncio.wait_for(pulse.next(known), _SESSION_SECONDS)
                yield f"id: {known}\nevent: changed\ndata: {news_text(pulse.news)}\n\n"
            except TimeoutError:
                if clock() >= beat:
                    beat = clock() + _BEAT_SECONDS
                    yield ": still here\n\n"

    return StreamingResponse(
        stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )
