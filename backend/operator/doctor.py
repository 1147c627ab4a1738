"""`peerwatt doctor`: everything a coordinator needs, looked at from outside, each finding with its mend."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy.engine import make_url
from web3 import Web3
from web3.exceptions import Web3Exception

from backend.chain.failover import shown as shown_url
from backend.domain.errors import PeerwattError
from backend.ledger.check import check
from backend.ledger.database import opened
from contracts.bindings import CommunityContracts
from deploy.community import COORDINATOR_ROLE
from deploy.verification import differing_contracts
from oracle.keystore import load_key
from oracle.peers import SignerClient, SignerFailed
from oracle.signing import address_of

from .community import address_book, open_chain
from .config import CommunityEntry, Configuration, ConfiguredRules, load_configuration
from .membership import differences, shown

_CLOCK_SECONDS = 30
_DISK_WARNING_BYTES = 5 * 2**30
_DISK_WRONG_BYTES = 512 * 2**20
_BATCH_GAS = 1_000_000
_BATCHES_WARNING = 30
_BATCHES_WRONG = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at.

    Attributes:
        community: which; empty for what concerns all.
        what: what was looked at.
        level: ok, warning or wrong.
        found: facts.
        mend: what to do; empty if ok.
    """

    community: str
    what: str
    level: str
    found: str
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        """For programs."""
        return asdict(self)


def examine(path: Path) -> Iterator[Finding]:
    """Looks at everything; what fails is a finding, never an exception."""
    try:
        configuration = load_configuration(path)
    except PeerwattError as error:
        yield Finding("", "configuration", "wrong", error.message, error.remedy)
        return
    yield Finding("", "configuration", "ok", f"{len(configuration.file.communities)} communities")
    for entry in configuration.file.communities:
        yield from _Examination(configuration, entry).run()


class _Examination:
    def __init__(self, configuration: Configuration, entry: CommunityEntry) -> None:
        self.configuration = configuration
        self.entry = entry
        self.web3: Web3 | None = None
        self.contracts: CommunityContracts | None = None
        self.address = ""
        self._rules = ConfiguredRules(entry, 0, "", b"", b"")

    def run(self) -> Iterator[Finding]:
        for what, look in (
            ("keys", self._keys),
            ("chain", self._chain),
            ("clock", self._clock),
            ("contracts", self._contracts),
            ("tariff", self._tariff),
            ("members", self._members),
            ("balance", self._balance),
            ("database", self._database),
            ("bundles", self._bundles),
            ("trades", self._trades),
            ("disk", self._disk),
            ("signers", self._signers),
            ("readings", self._readings),
        ):
            yield from self._guarded(what, look)

    def _guarded(self, what: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
        try:
            yield from look()
        except PeerwattError as error:
            yield self._finding(what, "wrong", error.message, error.remedy)
        except Exception as error:
            yield self._finding(
                what,
                "wrong",
                f"{type(error).__name__}: {error}"[:300],
                "see that it runs and is reachable, or can be written",
            )

    def _finding(self, what: str, level: str, found: str, mend: str = "") -> Finding:
        return Finding(self.entry.name, what, level, found, mend if level != "ok" else "")

    def _graded(
        self, what: str, value: float, warning: float, wrong: float, found: str, mend: str
    ) -> Finding:
        """Wrong below one limit, a warning below the other."""
        level = "wrong" if value < wrong else "warning" if value < warning else "ok"
        return self._finding(what, level, found, mend)

    # --- Keys and chain ----------------------------------------------------------------------------------------------------

    def _keys(self) -> Iterator[Finding]:
        given, entry = self.configuration, self.entry
        key = load_key(given.folder / entry.keystore, given.secret(entry.password_file))
        self.address = address_of(key)
        given.salt_key(entry)
        names = [entry.keystore, entry.password_file, entry.salt_file]
        names += [item.token_file for item in entry.signers]
        names += [name for name in (entry.database_file, entry.rpc_file) if name]
        open_files = [name for name in names if os.stat(given.folder / name).st_mode & 0o007]
        if open_files:
            yield self._finding(
                "keys",
                "warning",
                f"everybody on this machine can read {', '.join(open_files)}",
                "chmod 600 these files",
            )
        else:
            yield self._finding("keys", "ok", f"coordinator {self.address}")

    def _chain(self) -> Iterator[Finding]:
        """Each endpoint by itself: behind a failover the first one's end would show when the second one ends."""
        network, behind_failover = open_chain(self.configuration, self.entry)
        failed, answered = [], []
        for url in self.configuration.endpoints(self.entry):
            web3 = network.connect((url,))
            try:
                number = web3.eth.get_block("latest")["number"]
            except (PeerwattError, Web3Exception) as error:
                failed.append(error.message if isinstance(error, PeerwattError) else str(error))
            else:
                answered.append(f"{shown_url(url)} at block {number}")
        if answered:
            self.web3 = behind_failover
        yield self._finding(
            "chain",
            "ok" if not failed else "warning" if answered else "wrong",
            f"{network.name}, chain {network.chain_id}: " + "; ".join([*failed, *answered]),
            "start this node, correct its URL, or name another one",
        )

    def _clock(self) -> Iterator[Finding]:
        if self.web3 is None:
            return
        behind = time.time() - self.web3.eth.get_block("latest")["timestamp"]
        network = self.configuration.network(self.entry)
        late = behind > 20 * network.block_seconds + _CLOCK_SECONDS
        if behind < -_CLOCK_SECONDS:
            yield self._finding(
                "clock",
                "wrong",
                f"the chain's newest block is {-behind:.0f} s in the future",
                "set this machine's clock (NTP)",
            )
        elif late:
            yield self._finding(
                "clock",
                "warning",
                f"the chain's newest block is {behind:.0f} s old",
                "see whether the node is in step with its chain, then this machine's clock (NTP)",
            )
        else:
            yield self._finding("clock", "ok", f"newest block {max(behind, 0):.0f} s ago")

    def _contracts(self) -> Iterator[Finding]:
        if self.web3 is None:
            return
        book = address_book(self.configuration, self.entry)
        contracts = CommunityContracts(self.web3, book["contracts"])
        different = differing_contracts(contracts)
        if different:
            yield self._finding(
                "contracts",
                "wrong",
                f"not the code of this version: {', '.join(different)}",
                "correct the address book, or use the version of Peerwatt they were deployed with",
            )
            return
        self.contracts = contracts
        if contracts.is_frozen():
            yield self._finding(
                "contracts",
                "wrong",
                "the community is frozen",
                "everybody leaves on the last final batch",
            )
        holds, delay = contracts.has_role(COORDINATOR_ROLE, self.address)
        if not holds or delay:
            yield self._finding(
                "contracts",
                "wrong",
                f"{self.address} may not submit batches",
                "let the pauser grant the coordinator's role to it, or configure the key that has it",
            )
        else:
            yield self._finding("contracts", "ok", "code and role as they should be")

    def _tariff(self) -> Iterator[Finding]:
        if self.contracts is None:
            return
        from backend.settlement.clearing_encoding import tariff_hash

        number = self.contracts.next_period()
        preparer = self._rules.preparer(number)
        own = tariff_hash(preparer.market, preparer.tariff.share_millionths)
        same = own == self.contracts.announced_tariff(number)
        yield self._finding(
            "tariff",
            "ok" if same else "wrong",
            f"period {number}: " + ("as announced" if same else "another one was announced"),
            "correct `tariffs`, or announce this one; batches are refused until they agree",
        )

    def _members(self) -> Iterator[Finding]:
        """Of the period that is settled next, and of one to come: there is still time to mend that."""
        if self.contracts is None:
            return
        registered, rules = self.contracts.members(), self._rules
        to_come = int(time.time() // 86_400) + 2
        for number, level in ((self.contracts.next_period(), "wrong"), (to_come, "warning")):
            on_chain = {
                slot: record for slot, record in registered.items() if record.is_active(number)
            }
            configured = rules.members(number)
            wrong = differences(on_chain, configured, rules.preparer(number).market)
            yield self._finding(
                "members",
                level if wrong else "ok",
                f"period {number}: {shown(wrong) if wrong else f'{len(on_chain)} registered'}",
                "correct `members`, and those of the oracle's signers; or let the registrar admit, or end, the membership",
            )

    def _balance(self) -> Iterator[Finding]:
        if self.web3 is None or self.contracts is None or not self.address:
            return
        head = self.web3.eth.get_block("latest")
        network = self.configuration.network(self.entry)
        fee = int(head.get("baseFeePerGas", 0)) + network.network().priority_fee_wei
        balance = self.web3.eth.get_balance(Web3.to_checksum_address(self.address))
        batches = balance / (fee * _BATCH_GAS) if fee else float("inf")
        yield self._graded(
            "balance",
            batches,
            _BATCHES_WARNING,
            _BATCHES_WRONG,
            f"{balance / 10**18:.4f} coins: some {min(batches, 10**9):.0f} batches",
            f"send native coins to {self.address}",
        )
        owner, posted = self.contracts.bond()
        needed = self.contracts.parameters().bond_wei
        bond = posted if owner == self.address else 0
        if bond >= needed:
            yield self._finding("bond", "ok", f"{bond / 10**18:.4f} coins")
        else:
            enough = balance >= needed - bond
            yield self._finding(
                "bond",
                "warning" if enough else "wrong",
                f"{bond / 10**18:.4f} of {needed / 10**18:.4f} coins",
                "it is posted with the next batch"
                if enough
                else f"send native coins to {self.address}: the bond is posted with the next batch",
            )

    # --- Data --------------------------------------------------------------------------------------------------------------

    def _database(self) -> Iterator[Finding]:
        with opened(self.configuration.database_url(self.entry)) as engine:
            faults = check(engine)
        if faults == ["there is no ledger in this database"]:
            yield self._finding("database", "ok", "empty; the coordinator sets it up")
        elif faults:
            yield self._finding(
                "database",
                "wrong",
                "; ".join(faults[:3]),
                "restore a backup, or rebuild the ledger",
            )
        else:
            yield self._finding("database", "ok", "sound")

    def _bundles(self) -> Iterator[Finding]:
        objects = self.configuration.objects(self.entry)
        objects.put("doctor.json", b"{}")
        same = objects.get("doctor.json") == b"{}"
        objects.delete("doctor.json")
        yield self._finding(
            "bundles",
            "ok" if same else "wrong",
            "can be written and read" if same else "what was written reads otherwise",
            "see that the store is one and the same for all its endpoints",
        )

    def _trades(self) -> Iterator[Finding]:
        if self.entry.trades is None:
            return
        folder = self.configuration.folder / self.entry.trades.folder / self.entry.name
        # Not made here: it would be of whoever runs this.
        there = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"{}")
        yield self._finding("trades", "ok", f"can be kept in {folder}")

    def _disk(self) -> Iterator[Finding]:
        folders = {self.configuration.folder}
        url = make_url(self.configuration.database_url(self.entry))
        if url.get_backend_name() == "sqlite" and url.database:
            folders.add(Path(url.database).parent)
        if self.entry.bundles.folder:
            folders.add(self.configuration.folder / self.entry.bundles.folder)
        for folder in sorted(folders):
            if folder.exists():
                free = shutil.disk_usage(folder).free
                yield self._graded(
                    "disk",
                    free,
                    _DISK_WARNING_BYTES,
                    _DISK_WRONG_BYTES,
                    f"{free / 2**30:.1f} GiB free at {folder}",
                    "make room; nothing is lost meanwhile, but nothing goes on",
                )

    # --- Oracle ------------------------------------------------------------------------------------------------------------

    def _signers(self) -> Iterator[Finding]:
        failed = {}
        for item in self.entry.signers:
            client = SignerClient(item.url, self.configuration.secret(item.token_file), 10)
            try:
                client.json("/retractions")
            except SignerFailed as error:
                failed[item.url] = str(error)
        answering = len(self.entry.signers) - len(failed)
        needed = self.contracts.oracle_config().threshold if self.contracts else 1
        level = "wrong" if answering < needed else "warning" if failed else "ok"
        detail = "; ".join(f"{url} {said}" for url, said in failed.items())
        yield self._finding(
            "signers",
            level,
            f"{answering} answer, {needed} are needed" + (f" ({detail})" if detail else ""),
            "start these signers, or correct url and token",
        )

    def _readings(self) -> Iterator[Finding]:
        # The community's yesterday, which is not everybody's.
        yesterday = self._rules.running(time.time()) - 1
        answers: dict[str, dict[str, dict[str, str]]] = {}
        for item in self.entry.signers:
            client = SignerClient(item.url, self.configuration.secret(item.token_file), 60)
            try:
                answers[item.url] = client.json(f"/periods/{yesterday}/completeness")
            except SignerFailed:
                continue  # told of under `signers`
        if not answers:
            yield self._finding(
                "readings", "warning", "no signer tells what it has", "start the signers"
            )
            return
        yield self._signers_members(yesterday, answers)
        yield self._missing(yesterday, next(iter(answers.values())))

    def _signers_members(self, number: int, answers: Mapping[str, Mapping[str, object]]) -> Finding:
        """Whether the signers have the members that are configured here."""
        slots = {member.meter.lower(): member.slot for member in self._rules.members(number)}
        told = []
        for url, found in answers.items():
            known = {meter.lower() for meter in found}
            lacking = sorted(slots[meter] for meter in set(slots) - known)
            if lacking:
                told.append(f"{url} lacks slots {', '.join(map(str, lacking[:10]))}")
            if known - set(slots):
                told.append(
                    f"{url} has meters of nobody: {', '.join(sorted(known - set(slots))[:3])}"
                )
        return self._finding(
            "signers' members",
            "wrong" if told else "ok",
            "; ".join(told) or f"{len(slots)} at all that answer",
            "correct `members` of these signers: who is not reported is not settled, who is no member must not be reported",
        )

    def _missing(self, number: int, found: Mapping[str, Mapping[str, str]]) -> Finding:
        """What is missing of a day's readings, and whose."""
        missing = {meter: len(reasons) for meter, reasons in found.items() if reasons}
        slots = {member.meter.lower(): member.slot for member in self.entry.members}
        worst = sorted(missing, key=lambda meter: -missing[meter])[:5]
        shares = ", ".join(
            f"slot {slots.get(meter.lower(), '?')}: {missing[meter]}" for meter in worst
        )
        count = self._rules.period(number).interval_count
        share = sum(missing.values()) / max(1, len(found) * count)
        return self._finding(
            "readings",
            "warning" if missing else "ok",
            f"yesterday {share:.1%} of the values are missing" + (f" ({shares})" if shares else ""),
            "look at these meters' sources: peerwatt oracle status CONFIG",
        )
