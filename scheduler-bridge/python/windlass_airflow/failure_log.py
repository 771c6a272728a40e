"""Writes why a pod failed, and its last lines, into the task's own log: where a DAG author looks first.

A worker that was killed has not uploaded its log, and its pod may be gone. Airflow's task handler, told to write for
another component, adds a file beside the task's (local folder or remote storage, as `[logging]` says), and the UI shows
both as one. Remote storage is slow: a thread of its own writes, and what it cannot keep up with is left out, for the
event log of the task has the same text.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING

from airflow.configuration import conf

from windlass_airflow.database import explain

if TYPE_CHECKING:
    import logging

    from windlass_airflow.outcome import Settled

COMPONENT = "windlass"
"""Part of the file's name: `attempt=1.log.windlass.log`."""

WAITING_MAX = 256


class FailureLog:
    """The queue and its thread, started with the first failure."""

    def __init__(self, log: logging.Logger) -> None:
        """Start nothing yet."""
        self._log = log
        self._waiting: queue.Queue[Settled] = queue.Queue(WAITING_MAX)
        self._thread: threading.Thread | None = None

    def write(self, settled: Settled) -> None:
        """Have it written. Returns at once."""
        if not conf.getboolean("logging", "enable_task_context_logger", fallback=True):
            return
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(settled)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="windlass-failure-log", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Wait until all is written."""
        self._waiting.join()

    def _work(self) -> None:
        from airflow.utils.log.task_context_logger import TaskContextLogger

        logger = TaskContextLogger(COMPONENT)
        while True:
            settled = self._waiting.get()
            try:
                # Not the text as a format: it may hold any character.
                logger.error("%s", settled.log_text, ti=settled.key)
            except Exception as error:
                self._log.warning("The log of %s does not tell why its pod failed: %s", settled.key, explain(error))
            finally:
                self._waiting.task_done()
