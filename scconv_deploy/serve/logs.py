"""Log records -> one JSON object a line on standard error, for machines; or plain lines, for people."""

from __future__ import annotations

import json
import logging
import sys
import time

LOGGER = "scconv_deploy.serve"
FIELDS = "fields"


class JsonLines(logging.Formatter):
    """``{"time": ..., "level": ..., "message": ..., <fields>}``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def log(level: int, message: str, **fields: object) -> None:
    """A structured record."""
    logging.getLogger(LOGGER).log(level, message, extra={FIELDS: fields})


def exception(message: str, error: BaseException, **fields: object) -> None:
    """A mistake of this program, with its traceback."""
    logging.getLogger(LOGGER).error(message, exc_info=error, extra={FIELDS: fields})


def configure(*, quiet: bool = False) -> None:
    """Send this server's records to standard error as JSON lines; ``quiet``: warnings and worse only."""
    logger = logging.getLogger(LOGGER)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
