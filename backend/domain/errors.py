"""Every error Peerwatt raises on purpose, as one tree.

    PeerwattError
    ├── InputError                 what somebody gave us is wrong (also a ValueError; exit code 2)
    │   ├── MalformedInput         not readable as what it should be
    │   ├── OutOfRange             a number outside what its type holds
    │   ├── UnknownReference       names something that is not there
    │   ├── DuplicateIdentifier    names something twice
    │   ├── DisconnectedNetwork    parts of the network cannot reach each other
    │   ├── BusOutOfReach          a bus of the grid has no way to the source
    │   ├── MissingImpedance       a line or transformer without a usable impedance
    │   └── MemberWithoutBus       a member or connection point is at no bus of the grid
    ├── ReadingRejected            a meter reading fails validation
    ├── QuorumNotReached           fewer oracle signers agree than the threshold
    ├── ReportRefused              an oracle signer does not sign the report it was asked for
    ├── StoreUnavailable           the store of readings cannot write: locked, full, or gone
    ├── SourceUnavailable          a source of readings does not answer, or refuses the credentials
    ├── ClearingFailed             a solver gave no answer that could be certified
    ├── SolverUnavailable          the named solver is not installed
    ├── PowerFlowFailed            the AC power flow has no solution, or cannot be run
    ├── NoAgreement                a negotiation between processes has ended without a result
    ├── ContractRefused            a contract reverted; carries the decoded custom error
    ├── NodeError                  an Ethereum node did not do what it was asked
    │   ├── NodeUnreachable        no node answers
    │   ├── NonceTooLow            a transaction with this nonce is in a block already
    │   ├── FeeTooLow              the fee offered is below what the node takes, or replaces too little
    │   ├── AlreadyKnown           the node has this very transaction
    │   ├── InsufficientFunds      the sender cannot pay for gas and value
    │   ├── NotMined               a transaction is in no block after the time allowed
    │   ├── ReorgTooDeep           the chain took back what counted as final
    │   ├── NodeSilent             a node gives no answer in time
    │   ├── NodeAnswerUnusable     a node's answer is none, or contradicts another of its answers
    │   └── NodesDisagree          two nodes say different things about one chain
    ├── BrokerUnreachable          the MQTT broker does not answer
    ├── DatabaseFailed             the database does not answer, or cannot write
    ├── SchemaUnknown              the database is of another version, or not what it should be
    ├── BookingRefused             a booking does not balance, or differs from what is booked already
    ├── BundleUnavailable          a final batch's data is missing or not what the chain names
    ├── BackupDamaged              a backup is not what was written
    ├── LedgerDamaged              the ledger contradicts itself
    ├── EvidenceDamaged            an audit's evidence is not what it says it is
    ├── LeadershipLost             another coordinator is at work on the same community
    ├── NotFinal                   a period is to be finalised whose batch can still be challenged, or is not on chain
    ├── MembersDiffer              configured or reported members are not those of the registry
    ├── BundleStoreFailed          bundles cannot be written to or read from where they are kept
    ├── DeploymentDiffers          what is on the chain is not what was to be deployed
    ├── AuditFailed                recomputation and record differ
    ├── WebError                   a request to the web API cannot be met
    │   ├── NotSignedIn            the request needs a session, or its sign-in is not accepted
    │   ├── NotPermitted           whoever signed in has no right to it
    │   ├── NotThere               no such page, community or record
    │   ├── MethodRefused          the address does not take this method
    │   ├── CrossSite              another web site made the browser send it
    │   ├── TooLarge               a request's body is larger than the limit
    │   ├── TooManyRequests        requests come faster than they may
    │   ├── TooDear                the relay does not pay what a transaction costs now
    │   ├── KeyReused              an idempotency key came again with another request
    │   └── ChangedMeanwhile       what the request builds on has changed
    ├── MissingPackage             an optional package is not installed
    └── CompilerNotFound           no Solidity compiler can be had

Each has a stable `code` (see docs/troubleshooting.md), a message that states facts, and a remedy that says what to do.
"""

from __future__ import annotations

from typing import Any, ClassVar

_VALUE_CHARACTERS = 120


class PeerwattError(Exception):
    """Base of all errors.

    Args:
        message: what happened, as facts.
        remedy: what the reader can do about it.

    Attributes:
        period: which day it is about, where whoever caught it on its way knew; for the log.
    """

    code: ClassVar[str] = "peerwatt"
    exit_code: ClassVar[int] = 1
    period: int | None = None

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def as_dict(self) -> dict[str, Any]:
        """The error for programs: `code`, `message`, `remedy`."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}


class InputError(PeerwattError, ValueError):
    """Something given to us is wrong.

    Args:
        field: where, as a path into the input such as `members[3].net_wh`.
        value: what stood there.
        problem: what is wrong with it.
        remedy: what would be right.
    """

    code: ClassVar[str] = "input"
    exit_code: ClassVar[int] = 2

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        shown = repr(value)
        if len(shown) > _VALUE_CHARACTERS:
            shown = shown[:_VALUE_CHARACTERS] + "..."
        super().__init__(f"{field}: {problem} (value: {shown})", remedy)
        self.field = field
        self.value = value

    def as_dict(self) -> dict[str, Any]:
        """As the base, with `field` and `value`."""
        shown = self.value if isinstance(self.value, int | str | bool | None) else repr(self.value)
        return super().as_dict() | {"field": self.field, "value": shown}


class MalformedInput(InputError):
    """Not readable as what it should be."""

    code = "input.malformed"


class OutOfRange(InputError):
    """A number outside what its type holds."""

    code = "input.out_of_range"


class UnknownReference(InputError):
    """Names something that is not there."""

    code = "input.unknown_reference"


class DuplicateIdentifier(InputError):
    """Names something twice."""

    code = "input.duplicate"


class DisconnectedNetwork(InputError):
    """Parts of the network cannot reach each other."""

    code = "input.disconnected_network"


class BusOutOfReach(InputError):
    """A bus of the grid has no way to the source."""

    code = "grid.bus_out_of_reach"


class MissingImpedance(InputError):
    """A line or transformer without a usable impedance."""

    code = "grid.missing_impedance"


class MemberWithoutBus(InputError):
    """A member or connection point is at no bus of the grid."""

    code = "grid.member_without_bus"


class ReadingRejected(PeerwattError):
    """A meter reading fails validation."""

    code = "oracle.reading_rejected"


class QuorumNotReached(PeerwattError):
    """Fewer oracle signers agree on the period than the threshold asks for."""

    code = "oracle.quorum_not_reached"


class TradeBookOpen(PeerwattError):
    """A period is to be reported while its trades can still be struck out."""

    code = "oracle.trade_book_open"


class ReportRefused(PeerwattError):
    """An oracle signer does not sign the report it was asked for."""

    code = "oracle.report_refused"


class StoreUnavailable(PeerwattError):
    """The store of readings cannot read or write; nothing was acknowledged."""

    code = "oracle.store_unavailable"


class SourceUnavailable(PeerwattError):
    """A source of readings does not answer, or refuses the credentials."""

    code = "oracle.source_unavailable"


class ClearingFailed(PeerwattError):
    """A solver gave no answer that could be certified."""

    code = "market.clearing_failed"


class SolverUnavailable(PeerwattError):
    """The named solver is not installed."""

    code = "market.solver_unavailable"
    exit_code = 2


class PowerFlowFailed(PeerwattError):
    """The AC power flow has no solution, or cannot be run."""

    code = "grid.power_flow_failed"


class ContractRefused(PeerwattError):
    """A contract reverted.

    Args:
        error_name: name of the contract's custom error, `Panic`, or `unknown`.
        arguments: its arguments by name.
    """

    code = "chain.contract_refused"

    def __init__(self, error_name: str, arguments: dict[str, Any], message: str) -> None:
        super().__init__(
            message,
            "read the custom error's description in contracts/src/interfaces; nothing was changed on chain",
        )
        self.error_name = error_name
        self.arguments = arguments

    def as_dict(self) -> dict[str, Any]:
        """As the base, with `error_name` and `arguments`."""
        shown = {name: str(value) for name, value in self.arguments.items()}
        return super().as_dict() | {"error_name": self.error_name, "arguments": shown}


class NoAgreement(PeerwattError):
    """A negotiation between processes has ended without a result."""

    code = "market.no_agreement"


class NodeError(PeerwattError):
    """An Ethereum node did not do what it was asked."""

    code = "chain.node_error"


class NodeUnreachable(NodeError):
    """No Ethereum node answers."""

    code = "chain.node_unreachable"


class NonceTooLow(NodeError):
    """A transaction of the sender with this nonce is in a block already."""

    code = "chain.nonce_too_low"


class FeeTooLow(NodeError):
    """The fee is below what the node takes, or too little above the one it would replace."""

    code = "chain.fee_too_low"


class AlreadyKnown(NodeError):
    """The node has this very transaction."""

    code = "chain.already_known"


class InsufficientFunds(NodeError):
    """The sender cannot pay for gas and value."""

    code = "chain.insufficient_funds"


class NotMined(NodeError):
    """A transaction is in no block after the time allowed."""

    code = "chain.not_mined"


class ReorgTooDeep(NodeError):
    """The chain took back a block that counted as final."""

    code = "chain.reorg_too_deep"


class DatabaseFailed(PeerwattError):
    """The database does not answer, or cannot write."""

    code = "ledger.database_failed"


class SchemaUnknown(PeerwattError):
    """The database is of a version that this software does not know, or holds what it should not."""

    code = "ledger.schema_unknown"


class BookingRefused(PeerwattError):
    """A booking does not balance, is too large, or differs from what was booked under the same reference."""

    code = "ledger.booking_refused"


class BundleUnavailable(PeerwattError):
    """The published data of a final batch is missing, or not what the chain names."""

    code = "ledger.bundle_unavailable"


class BackupDamaged(PeerwattError):
    """A backup is not what was written."""

    code = "ledger.backup_damaged"


class LedgerDamaged(PeerwattError):
    """The ledger contradicts itself."""

    code = "ledger.damaged"


class NodeSilent(NodeError):
    """A node gives no answer in time."""

    code = "chain.node_silent"


class NodeAnswerUnusable(NodeError):
    """A node's answer is too large, no answer to what was asked, or contradicts another of its answers."""

    code = "chain.node_answer_unusable"


class NodesDisagree(NodeError):
    """Two nodes say different things about one chain."""

    code = "chain.nodes_disagree"


class EvidenceDamaged(PeerwattError):
    """An audit's evidence is not what it says it is, or lacks something."""

    code = "audit.evidence_damaged"


class BrokerUnreachable(PeerwattError):
    """The MQTT broker does not answer."""

    code = "negotiation.broker_unreachable"


class LeadershipLost(PeerwattError):
    """Another coordinator is at work on the same community, or went on from the same state first."""

    code = "operator.leadership_lost"


class CoordinatorRefused(PeerwattError):
    """The coordinator did not take what was sent, or does not answer."""

    code = "operator.refused"


class NotFinal(PeerwattError):
    """A period is to be finalised whose batch can still be challenged, or does not stand on the chain."""

    code = "operator.not_final"


class AccountsUncovered(PeerwattError):
    """A batch would have accounts that owe more than stands behind them, and anybody could have it voided for that."""

    code = "operator.accounts_uncovered"


class MembersDiffer(PeerwattError):
    """Configured or reported members are not those of the registry on chain."""

    code = "operator.members_differ"


class BundleStoreFailed(PeerwattError):
    """The place where bundles are kept does not answer, or cannot write."""

    code = "operator.bundle_store_failed"


class DeploymentDiffers(PeerwattError):
    """What is on the chain is not what was to be deployed."""

    code = "deploy.differs"


class AuditFailed(PeerwattError):
    """Recomputation and record differ."""

    code = "audit.failed"


class WebError(PeerwattError):
    """A request to the web API cannot be met."""

    code = "web"


class NotSignedIn(WebError):
    """The request needs a session, or its sign-in is not accepted."""

    code = "web.not_signed_in"


class NotPermitted(WebError):
    """Whoever signed in has no right to what was asked for."""

    code = "web.not_permitted"


class NotThere(WebError):
    """There is no such page, community or record."""

    code = "web.not_there"


class MethodRefused(WebError):
    """The address does not take this method."""

    code = "web.method"


class CrossSite(WebError):
    """Another web site made the browser send the request."""

    code = "web.cross_site"


class TooLarge(WebError):
    """A request's body is larger than the limit."""

    code = "web.too_large"


class TooManyRequests(WebError):
    """Requests come faster than they may.

    Args:
        wait_seconds: after this long it is worth trying again.
    """

    code = "web.too_many_requests"

    def __init__(self, message: str, remedy: str, wait_seconds: int) -> None:
        super().__init__(message, remedy)
        self.wait_seconds = wait_seconds


class TooDear(WebError):
    """The relay does not pay what a transaction costs now."""

    code = "web.too_dear"


class KeyReused(WebError):
    """An idempotency key came again with another request."""

    code = "web.key_reused"


class ChangedMeanwhile(WebError):
    """What the request builds on has changed."""

    code = "web.changed_meanwhile"


class MissingPackage(PeerwattError):
    """An optional package, without which something asked for cannot be done, is not installed."""

    code = "export.missing_package"
    exit_code = 2


class CompilerNotFound(PeerwattError):
    """No Solidity compiler can be had: no native build, and no npm package to stand in."""

    code = "contracts.compiler_not_found"
