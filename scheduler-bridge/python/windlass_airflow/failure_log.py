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
import time
from typing import TYPE_CHECKING

from airflow.configuration import conf
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from windlass_airflow.database import explain, short_transaction

if TYPE_CHECKING:
    import logging

    from airflow.utils.log.task_context_logger import TaskContextLogger

    from windlass_airflow.outcome import Settled

COMPONENT = "windlass"
"""Part of the file's name: `attempt=1.log.windlass.log`."""

WAITING_MAX = 256

TAIL_WITHIN_SECONDS = 5.0
"""The daemon reads the pod's last lines while it settles the launch, and waits for them no longer."""

TAIL_PAUSE_SECONDS = 0.25

TAIL = text("SELECT log_tail FROM windlass.launch WHERE launch_id = :launch_id")


class FailureLog:
    """The queue and its thread, started with the first failure."""

    def __init__(self, log: logging.Logger) -> None:
        """Start nothing yet."""
        self._log = log
        self._waiting: queue.Queue[tuple[Settled, float]] = queue.Queue(WAITING_MAX)
        self._thread: threading.Thread | None = None

    def write(self, settled: Settled) -> None:
        """Have it written. Returns at once."""
        if not conf.getboolean("logging", "enable_task_context_logger", fallback=True):
            return
        with contextlib.suppress(queue.Full):
            # Counted from its settling, so that those behind it do not wait once more.
            tail_until = time.monotonic() + TAIL_WITHIN_SECONDS - settled.settled_seconds
            self._waiting.put_nowait((settled, tail_until))
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
            settled, tail_until = self._waiting.get()
            try:
                self._write(logger, settled, tail_until)
            except Exception as error:
                self._log.warning("The log of %s does not tell why its pod failed: %s", settled.key, explain(error))
            finally:
                self._waiting.task_done()

    def _write(self, logger: TaskContextLogger, settled: Settled, tail_until: float) -> None:
        # Not the text as a format: it may hold any character.
        logger.error("%s", settled._replace(log_tail=self._tail(settled, tail_until)).log_text, ti=settled.key)

    @staticmethod
    def _tail(settled: Settled, until: float) -> str | None:
        """The pod's last lines, once they are there. A pod that never ran has none.

        A database in trouble has none either: the reason is known without it, and delivery tells of the trouble.
        """
        if settled.log_tail is not None or not settled.ran:
            return settled.log_tail
        while True:
            try:
                with short_transaction() as connection:
                    tail = connection.scalar(TAIL, {"launch_id": settled.launch_id})
            except SQLAlchemyError:
                return None
            if tail is not None or time.monotonic() > until:
                return None if tail is None else str(tail)
            time.sleep(TAIL_PAUSE_SECONDS)
