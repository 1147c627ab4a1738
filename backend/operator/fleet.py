"""Many communities on many machines: the same pure functions, spread by Dask (docs/adr/0028).

A task takes a community's period as values and returns its batch as values; it touches no database, chain or file. So it may run
anywhere, and again if its worker is lost. What must happen once (signing, sending, booking) stays with the community's coordinator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from backend.domain.errors import MalformedInput

Task = TypeVar("Task")
Result = TypeVar("Result")
# So many workers may be lost under one task before it is taken for its fault.
_ALLOWED_FAILURES = 20


def spread(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    scheduler: str | None = None,
    workers: int = 0,
    batch_size: int = 16,
    cluster: Callable[[Any], None] = lambda cluster: None,
) -> Iterator[Result]:
    """Results of a pure function in whatever order they come.

    Args:
        function: importable by name.
        tasks: its arguments; small, or names of what workers can fetch.
        scheduler: address of a running Dask scheduler; without, workers are started here.
        workers: how many, without a scheduler.
        batch_size: tasks that travel together.
        cluster: told of the local cluster, for tests that kill its workers.

    Raises:
        MalformedInput: Dask is not installed.
    """
    try:
        from distributed import Client, LocalCluster, as_completed
    except ModuleNotFoundError:
        raise MalformedInput(
            "workers", workers, "Dask is not installed", "install the extra `cluster`"
        ) from None
    import dask

    given = list(tasks)
    batches = [given[start : start + batch_size] for start in range(0, len(given), batch_size)]
    with dask.config.set({"distributed.scheduler.allowed-failures": _ALLOWED_FAILURES}):
        local = None
        if scheduler is None:
            local = LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=":0", memory_limit=0
            )
            cluster(local)
        try:
            with Client(local if local is not None else scheduler) as client:
                futures = client.map(_run, [(function, batch) for batch in batches], pure=False)
                for future in as_completed(futures):
                    yield from future.result()
                    future.release()
        finally:
            if local is not None:
                local.close()


def _run(work: tuple[Callable[[Any], Any], list[Any]]) -> list[Any]:
    function, batch = work
    return [function(task) for task in batch]
