"""The coordinator's way to the oracle signers: reports of past periods, readings of the running one."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from backend.domain.errors import QuorumNotReached
from backend.ledger.cycle import digest_of
from backend.settlement.encoding import domain_separator
from contracts.bindings import CommunityContracts
from oracle.assembly import AssembledReport, Assembly
from oracle.config import Committee
from oracle.node import NO_CHANGE
from oracle.peers import SignerClient, SignerFailed
from oracle.wire import RECORD_BYTES

Answer = TypeVar("Answer")


class NothingToCorrect(QuorumNotReached):
    """Every signer was heard, and finds what has been reported already."""


class ReportSource(Protocol):
    """Where reports come from."""

    def report(self, number: int, version: int, members: Collection[int]) -> AssembledReport:
        """A signed report.

        Args:
            number: the period.
            version: 0, or of a correction.
            members: slots that may be in it.

        Raises:
            NothingToCorrect: every signer was heard, and a new version would change nothing.
            QuorumNotReached: fewer than k signers agree.
        """

    def readings_digest(self, number: int) -> str | None:
        """A digest of the readings that the signers have of a period, another one while they have not the same; None if none answers."""

    def readings(self, number: int, meters: Sequence[str]) -> bytes:
        """All readings of a period that any signer has, as records.

        Raises:
            QuorumNotReached: no signer answers; that is not the same as no readings.
        """


@dataclass
class OracleSigners:
    """The committee that the chain names, over HTTP.

    Args:
        clients: the signers; none is trusted.
        contracts: name the committee.
        chain_id: for the signatures' domain.
        patience_seconds: how long a step waits for signers that do not answer.
    """

    clients: Sequence[SignerClient]
    contracts: CommunityContracts
    chain_id: int
    patience_seconds: float = 60
    # How many signers answered last, for the metrics.
    answering: int = field(default=0, init=False)

    def report(self, number: int, version: int, members: Collection[int]) -> AssembledReport:
        """See `ReportSource`."""
        config = self.contracts.oracle_config()
        committee = Committee(
            config.signers, config.threshold, self.contracts.oracle_config_digest()
        )
        domain = domain_separator(self.chain_id, self.contracts.addresses["ReadingOracle"])
        assembly = Assembly(self.clients, domain, committee, self.patience_seconds, members=members)
        try:
            return assembly.report(number, version)
        except QuorumNotReached as error:
            said = assembly.failures.values()
            # One that was not heard might have readings that the others lack, also when it is one of those that refuse at last.
            if said and not assembly.unheard and all(NO_CHANGE in item for item in said):
                raise NothingToCorrect(error.message, error.remedy) from error
            raise
        finally:
            self.answering = len(self.clients) - len(assembly.failures)

    def readings_digest(self, number: int) -> str | None:
        """See `ReportSource`."""

        def ask(client: SignerClient) -> str | None:
            found = client.json(f"/periods/{number}/digests")
            return digest_of(found) if isinstance(found, dict) else None

        # Of all: what came late may have reached one only, and nothing makes it tell the others until a report is asked for.
        found = sorted({digest for client in self.clients if (digest := _try(ask, client))})
        return found[0] if len(found) == 1 else " ".join(found) or None

    def readings(self, number: int, meters: Sequence[str]) -> bytes:
        """See `ReportSource`."""
        found: set[bytes] = set()

        def ask(client: SignerClient) -> bytes:
            return client.post(f"/periods/{number}/readings", json={"meters": list(meters)})

        answers = [answer for client in self.clients if (answer := _try(ask, client)) is not None]
        self.answering = len(answers)
        if not answers:
            raise QuorumNotReached(
                f"none of {len(self.clients)} oracle signers answers",
                "start the signers; what they have is cleared then",
            )
        for data in answers:
            whole = len(data) - len(data) % RECORD_BYTES
            found |= {data[start : start + RECORD_BYTES] for start in range(0, whole, RECORD_BYTES)}
        return b"".join(sorted(found))


def _try(ask: Callable[[SignerClient], Answer | None], client: SignerClient) -> Answer | None:
    try:
        return ask(client)
    except SignerFailed:
        return None


def is_healthy(client: SignerClient) -> bool:
    """Whether a signer answers."""
    try:
        return bool(json.loads(client.get("/health")).get("status") == "ok")
    except (SignerFailed, ValueError, AttributeError):
        return False
