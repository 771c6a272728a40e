"""Trouble is logged when it begins and when it ends, not at every turn of the scheduler's loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from windlass_airflow.config import RETRY_AFTER_FAILURE_SECONDS
from windlass_airflow.database import explain

if TYPE_CHECKING:
    import logging


class Health:
    """State of one thing that the plugin does: well, or degraded since some time, with a growing pause."""

    def __init__(self, what: str, meanwhile: str, log: logging.Logger) -> None:
        """Name `what` is done, and what happens `meanwhile` when it cannot be done."""
        self._what = what
        self._meanwhile = meanwhile
        self._log = log
        self._said: str | None = None
        self._pause = RETRY_AFTER_FAILURE_SECONDS[0]
        self._retry_at = 0.0

    @property
    def degraded(self) -> bool:
        """Whether the last try failed."""
        return self._said is not None

    def may_try(self) -> bool:
        """False during the pause after a failure: an unreachable database must not slow the scheduler each turn."""
        return time.monotonic() >= self._retry_at

    def failed(self, error: Exception) -> None:
        """Log the failure unless it is the one that was logged last."""
        said = explain(error)
        if self._said != said:
            self._log.warning("Windlass could not %s: %s. %s", self._what, said, self._meanwhile)
            if self._said is None:
                self._log.debug("The failure in full", exc_info=error)
        self._said = said
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, RETRY_AFTER_FAILURE_SECONDS[1])

    def worked(self) -> None:
        """Log the recovery if there was trouble."""
        if self._said is not None:
            self._log.warning("Windlass can %s again.", self._what)
        self._said = None
        self._retry_at = 0.0
        self._pause = RETRY_AFTER_FAILURE_SECONDS[0]
