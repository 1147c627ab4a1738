"""The statements that a bundle lets an auditor check, in words and by what it takes to check them."""

from __future__ import annotations


class S:
    """One name for each statement."""

    BUNDLE_NAMED = "the bundle is the one the batch names"
    READABLE = "the bundle can be read"
    SAME_AS_CHAIN = "bundle and chain say the same"
    TARIFF_WORDS = "the tariff in words is the one in force"
    TRADES_ROOT = "the trades are the ones the batch commits to"

    UNALTERED = "every personal part is unaltered"
    PARTS_READABLE = "every personal part can be read"
    OF_THIS_BATCH = "every personal part is of this batch and account"
    READINGS_SIGNED = "the members' readings are the ones the oracle signed"
    LEDGER_PROOF = "every account's proof leads to the ledger root"
    NOT_WORSE = "nobody pays more or earns less than outside"
    TRADES_SHOWN = "every trade shown is one the batch commits to, and its party's own"
    TRADE_FEES = "every trade pays the fee of its shortest path"
    TRADE_ENERGY = "nobody trades more than its meter shows"

    BOOKS_CLOSED = (
        "nothing could be struck out of the period's trade books any more when it was submitted"
    )
    BOOKS = "the trade books are the ones committed before delivery"
    BOOKS_SIGNED = "both sides signed every trade in the trade books, or it was struck out"
    TRADED = "what trades before delivery brought follows from the trade books, to the nano"
    TRADED_ENERGY = "readings have in them what was sold and bought before delivery"
    TRADED_SUM = "what trades before delivery brought cancels"

    AMOUNTS = "every account's amount is what readings, prices and certificates say, to the nano"
    CONTINUES = "every balance continues the one before"

    MEMBERS_METERED = "every active member and nobody else is in the readings"
    NOBODY_LEFT_OUT = "no account that should be settled is left out"
    TOTALS = "the groups' totals are the sums of their members' readings"
    LEDGER_TREE = "the ledger tree holds exactly these accounts"
    TRADES_AGREE = "sellers and buyers are shown the same trades"
    TRADES_MATCHED = "trades add up to the matched energy of every group in every interval"
    TRADES_FEES = "all trades together pay what the DSO receives"


PUBLIC = (S.BUNDLE_NAMED, S.READABLE, S.SAME_AS_CHAIN, S.TARIFF_WORDS, S.TRADES_ROOT)
# From any one account's part.
PERSONAL = (
    S.UNALTERED,
    S.PARTS_READABLE,
    S.OF_THIS_BATCH,
    S.READINGS_SIGNED,
    S.LEDGER_PROOF,
    S.NOT_WORSE,
    S.TRADES_SHOWN,
    S.TRADE_FEES,
    S.TRADE_ENERGY,
)
# From an account's parts in this batch and the ones it builds on.
LINKED = (S.AMOUNTS, S.CONTINUES)
# From all accounts' parts.
FULL = (
    S.MEMBERS_METERED,
    S.NOBODY_LEFT_OUT,
    S.TOTALS,
    S.LEDGER_TREE,
    S.TRADES_AGREE,
    S.TRADES_MATCHED,
    S.TRADES_FEES,
)
# From the trade books, where members trade before delivery.
FORWARD = (S.BOOKS_CLOSED, S.BOOKS, S.BOOKS_SIGNED)
# And from the readings besides; the sum from everybody's.
FORWARD_PERSONAL = (S.TRADED, S.TRADED_ENERGY)
FORWARD_FULL = (S.TRADED_SUM,)
