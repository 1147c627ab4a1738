"""Logs as lines of JSON: `time`, `level`, `event`, and whatever else is told. No key, password, member or reading belongs in them."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from pathlib import Path

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "taskName", "fields"}
_SHOWN_FRAMES = 8


class JsonLines(logging.Formatter):
    """A record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line = {"time": stamp, "level": record.levelname.lower(), "event": record.getMessage()}
        if record.exc_info and record.exc_info[0] is not None:
            # Where, and not what: a message may show what does not belong here.
            frames = traceback.extract_tb(record.exc_info[2])[-_SHOWN_FRAMES:]
            line["error"] = record.exc_info[0].__name__
            line["at"] = " > ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames)
        return json.dumps(line | extra | getattr(record, "fields", {}), default=str)


def start_logging(name: str, level: int = logging.INFO) -> None:
    """Sends a logger's lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger(name)
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False
