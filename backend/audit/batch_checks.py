"""One batch by itself, and how it follows from the ones before: the first part runs in as many processes as there are cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context

from .bundle_checks import Context, Recomputed, check_bundle
from .bundle_files import BundleFiles
from .chain_checks import check_chain
from .facts import CommunityFacts, SubmittedBatch, meeting
from .forward_checks import BookFound
from .intervals import IntervalOutcome
from .statements import FULL, LINKED, PERSONAL, PUBLIC, S
from .verdict import Check, Checks

_SHOWN = 5
# Batches given out before the first is back, for each process: enough to keep it busy, and little memory.
_AHEAD = 3


@dataclass(frozen=True)
class Findings:
    """What one batch shows by itself.

    Attributes:
        checks: all that were made.
        level: how much of the bundle was there: `chain`, `public`, `member`, `full`.
        recomputed: what its parts came to; None if nothing is known.
        outcomes: of its intervals; empty if the certificates cannot be read.
        fee_slot: the account that the fees of trades before delivery went to; None if none, or not known.
    """

    checks: tuple[Check, ...]
    level: str
    recomputed: Recomputed | None
    outcomes: tuple[IntervalOutcome, ...]
    fee_slot: int | None = None


@dataclass(frozen=True)
class Task:
    """A batch to be checked; what `check_alone` needs, and nothing that another process cannot have."""

    facts: CommunityFacts
    batch: SubmittedBatch
    before: tuple[SubmittedBatch, ...]
    files: BundleFiles
    only: frozenset[int] | None
    books: tuple[BookFound, ...] = ()


def tasks(
    facts: CommunityFacts,
    batches: Sequence[SubmittedBatch],
    asked: Sequence[SubmittedBatch],
    files: BundleFiles,
    only: frozenset[int] | None,
    books: Sequence[BookFound] = (),
) -> Iterator[Task]:
    """A task for each batch asked for, each with what stands right before it and with the versions of its period."""
    ordered = sorted(books, key=lambda book: book.commitment.first_interval)
    for batch in asked:
        before = tuple(
            item
            for item in batches
            if item.number < batch.number
            and (item.number == batch.number - 1 or item.header["period"] == batch.header["period"])
        )
        own = meeting(ordered, batch, lambda book: book.commitment)
        yield Task(facts, batch, before, files, only, tuple(own))


def check_alone(task: Task) -> Findings:
    """Everything about a batch that needs no other batch's bundle."""
    checks = Checks()
    results, tariff = check_chain(task.facts, task.batch, task.before, checks)
    if results is None or tariff is None:
        why = "the certificates could not be read"
        checks.unknown((*PUBLIC, *PERSONAL, *LINKED, *FULL), why)
        return Findings(tuple(checks.items), "chain", None, ())
    context = Context(task.facts, task.batch, results, tariff, task.only, task.books)
    level, recomputed, fee_slot = check_bundle(task.files, context, checks)
    return Findings(tuple(checks.items), level, recomputed, tuple(results.outcomes), fee_slot)


def judge(
    facts: CommunityFacts,
    batches: Sequence[SubmittedBatch],
    asked: Sequence[SubmittedBatch],
    files: BundleFiles,
    only: frozenset[int] | None = None,
    workers: int = 1,
    books: Sequence[BookFound] = (),
) -> Iterator[tuple[SubmittedBatch, Findings, Recomputed | None, Checks]]:
    """Recomputes batches and links them to the ones that they build on.

    Args:
        facts: the community.
        batches: all that stand, oldest first.
        asked: those to be recomputed, oldest first.
        files: the bundles at hand.
        only: slots to look at; None for all.
        workers: processes.
        books: trade books, where members trade before delivery.

    Returns:
        For each batch its findings, what it came to if nothing is wrong with it, and every check.
    """
    previous = {batch.number: before for before, batch in pairwise(batches)}
    recomputed: dict[bytes, Recomputed | None] = {}
    work = tasks(facts, batches, asked, files, only, books)
    for batch, found in zip(asked, check_each(work, workers), strict=True):
        checks = Checks(list(found.checks))
        before = previous.get(batch.number)
        check_links(
            found,
            recomputed.get(before.header_hash) if before else Recomputed(),
            recomputed.get(bytes(batch.header["correctedBatch"])),
            corrects=batch.corrected is not None,
            checks=checks,
        )
        right = not any(check.passed is False for check in checks.items)
        recomputed[batch.header_hash] = found.recomputed if right else None
        yield batch, found, recomputed[batch.header_hash], checks


def check_each(work: Iterator[Task], workers: int) -> Iterator[Findings]:
    """The findings of each task, in order.

    Args:
        work: the tasks.
        workers: processes; 1 for this one.
    """
    if workers <= 1:
        yield from map(check_alone, work)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: list[Future[Findings]] = []
        for task in work:
            waiting.append(pool.submit(check_alone, task))
            if len(waiting) > _AHEAD * workers:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def check_links(
    found: Findings,
    before: Recomputed | None,
    settled: Recomputed | None,
    *,
    corrects: bool,
    checks: Checks,
) -> None:
    """Amounts and balances, for which the batches that a batch builds on must be known.

    Args:
        found: the batch's findings.
        before: what the batch before came to; None if not known.
        settled: what the corrected batch came to; None if not known.
        corrects: whether it corrects one.
        checks: told every outcome.
    """
    mine = found.recomputed
    if mine is None:
        return
    wrong, unknown = [], []
    for slot, amount in mine.amounts.items():
        expected = mine.due.get(slot, 0)
        if corrects:
            if settled is None or (slot not in settled.due and not settled.complete):
                unknown.append(str(slot))
                continue
            expected -= settled.due.get(slot, 0)
        if amount != expected:
            wrong.append(f"slot {slot}: billed {amount}, due {expected} nano")
    _tell(S.AMOUNTS, wrong, unknown, len(mine.amounts), "what was corrected is not known", checks)
    wrong, unknown = [], []
    for slot, amount in mine.amounts.items():
        if before is None or (slot not in before.cumulative and not before.complete):
            unknown.append(str(slot))
            continue
        carried, total = before.cumulative.get(slot, 0), mine.cumulative[slot]
        if total != carried + amount:
            wrong.append(f"slot {slot}: {carried} + {amount} is not {total}")
    why = "the batch before could not be recomputed"
    _tell(S.CONTINUES, wrong, unknown, len(mine.amounts), why, checks)


def _tell(
    what: str, wrong: list[str], unknown: list[str], count: int, why: str, checks: Checks
) -> None:
    passed = False if wrong else None if unknown else True
    detail = "; ".join(wrong[:_SHOWN]) or f"{why} (slots {', '.join(unknown[:_SHOWN])})"
    checks.add(what, passed, count=count, detail=detail)
