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


class CycleState(StrEnum):
    """How far the coordinator is with one version of a period (backend/operator/periods.py).

    collecting -> collected -> prepared -> published -> submitting -> submitted -> final -> stated; a batch that the contract
    refuses (refused) or that is overturned (voided) is prepared again.
    """

    COLLECTING = "collecting"
    COLLECTED = "collected"
    PREPARED = "prepared"
    PUBLISHED = "published"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    FINAL = "final"
    STATED = "stated"
    REFUSED = "refused"
    VOIDED = "voided"
