"""States of what takes time. A state is stored before the effect it announces, so that a restart knows what may have happened."""

from __future__ import annotations

from enum import StrEnum


class BatchState(StrEnum):
    """prepared -> submitted -> final; or refused by the contract; or voided by a challenge."""

    PREPARED = "prepared"
    SUBMITTED = "submitted"
    REFUSED = "refused"
    VOIDED = "voided"
    FINAL = "final"
