"""k of n: every signer recomputes the period from the meters' signatures and signs only what it found itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey

from backend.domain.community import Member
from backend.domain.errors import QuorumNotReached, ReadingRejected
from backend.domain.intervals import Period
from backend.domain.readings import SignedReading
from backend.market.problem import Market
from backend.settlement.batch import MemberPeriod
from backend.settlement.clearing_encoding import pack_totals
from backend.settlement.encoding import (
    OracleReport,
    derive_salt,
    typed_data_digest,
)
from backend.settlement.forward import with_trades
from backend.settlement.trees import PositionalTree

from .signing import address_of, recover, sign_report
from .trade_books import TradedPeriod
from .validation import Rejection, validate_period


@dataclass(frozen=True, slots=True)
class OracleSettings:
    """What all signers of a community agree on.

    Attributes:
        domain: EIP-712 domain separator of the ReadingOracle contract.
        config_digest: chain, contract, signers and threshold.
        threshold: k.
        salt_keys: by slot, the secret that a member's reading salts come from; deleting one erases.
    """

    domain: bytes
    config_digest: bytes
    threshold: int
    salt_keys: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What one signer states: its report, its signature, and the readings behind it."""

    signer: str
    report: OracleReport
    signature: bytes
    member_periods: tuple[MemberPeriod, ...]
    rejections: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class SignedReport:
    """A report with the signatures of at least `threshold` signers, in ascending order of their addresses."""

    report: OracleReport
    signatures: tuple[bytes, ...]
    signers: tuple[str, ...]
    member_periods: tuple[MemberPeriod, ...]
    rejections: tuple[Rejection, ...]


class OracleSigner:
    """One signer with its own key and its own view of the readings.

    Args:
        key: the signer's private key.
        settings: the community's oracle settings.
    """

    def __init__(self, key: PrivateKey, settings: OracleSettings) -> None:
        self._key = key
        self.address = address_of(key)
        self.settings = settings

    def confirm(
        self,
        period: Period,
        version: int,
        members: Sequence[Member],
        market: Market,
        received: Mapping[str, Sequence[SignedReading]],
        traded: TradedPeriod | None = None,
    ) -> Confirmation:
        """Verifies every reading, recomputes the report and signs it.

        Args:
            period: the period.
            version: 0, or the number of the correction.
            members: the active members, in slot order.
            market: the community's market, for the groups.
            received: by meter address, the readings this signer has.
            traded: the trades before delivery that stand, as this signer found them, where members make any.
        """
        member_periods: list[MemberPeriod] = []
        rejections: list[Rejection] = []
        for member in members:
            validated = validate_period(
                member, period, received.get(member.meter, ()), self.settings.domain
            )
            rejections += validated.rejections
            salt = derive_salt(
                self.settings.salt_keys[member.slot],
                "readings",
                period.number,
                version,
                member.slot,
            )
            member_periods.append(MemberPeriod(member, validated.readings, salt))
        if traded is not None:
            member_periods = with_trades(member_periods, period, traded.trades, traded.fee_slot)
        report = OracleReport(
            period=period.number,
            version=version,
            first_interval=period.first_interval,
            interval_count=period.interval_count,
            readings_root=PositionalTree(
                {item.member.slot: item.leaf() for item in member_periods}
            ).root,
            totals_hash=keccak(pack_totals(group_totals(member_periods, market, period))),
            config_digest=self.settings.config_digest,
        )
        return Confirmation(
            signer=self.address,
            report=report,
            signature=sign_report(self._key, self.settings.domain, report),
            member_periods=tuple(member_periods),
            rejections=tuple(rejections),
        )


def group_totals(
    member_periods: Sequence[MemberPeriod], market: Market, period: Period
) -> list[tuple[list[int], list[int]]]:
    """Per interval each group's demand and supply in Wh."""
    groups = [
        market.group_index[item.member.node, item.member.tariff_class] for item in member_periods
    ]
    totals = []
    for index in range(period.interval_count):
        demand, supply = [0] * len(market.groups), [0] * len(market.groups)
        for item, group in zip(member_periods, groups, strict=True):
            net = item.readings[index].net_wh
            if net < 0:
                demand[group] -= net
            else:
                supply[group] += net
        totals.append((demand, supply))
    return totals


def assemble(confirmations: Sequence[Confirmation], threshold: int, domain: bytes) -> SignedReport:
    """One report from the signers that agree; who a confirmation is from is what its signature says.

    Args:
        confirmations: one from each signer that answered.
        threshold: k.
        domain: EIP-712 domain separator of the ReadingOracle contract.

    Raises:
        QuorumNotReached: no report has `threshold` signatures; the message lists who said what.
    """
    by_report: dict[bytes, dict[str, Confirmation]] = defaultdict(dict)
    for confirmation in confirmations:
        if not _is_from_its_signer(confirmation, domain):
            continue
        by_report[confirmation.report.struct_hash()][confirmation.signer] = confirmation
    agreed = max(by_report.values(), key=len, default={})
    if len(agreed) < threshold:
        said = "; ".join(
            f"{', '.join(sorted(group))}: readings root 0x{_readings_root(group)[:16]}..."
            for group in by_report.values()
        )
        raise QuorumNotReached(
            f"{len(agreed)} of the {threshold} signatures needed agree ({said or 'no signer answered'})",
            "compare the signers' readings; a signer that misses readings signs another root",
        )
    # The contract takes signatures in ascending order of the signers' addresses.
    chosen = sorted(agreed.values(), key=lambda item: int(item.signer, 16))[:threshold]
    return SignedReport(
        report=chosen[0].report,
        signatures=tuple(item.signature for item in chosen),
        signers=tuple(item.signer for item in chosen),
        member_periods=chosen[0].member_periods,
        rejections=chosen[0].rejections,
    )


def _is_from_its_signer(confirmation: Confirmation, domain: bytes) -> bool:
    digest = typed_data_digest(domain, confirmation.report.struct_hash())
    try:
        return recover(digest, confirmation.signature) == confirmation.signer
    except ReadingRejected:
        return False


def _readings_root(group: Mapping[str, Confirmation]) -> str:
    return next(iter(group.values())).report.readings_root.hex()
