"""Hands outcomes to Airflow's own state machine, and closes those that it has taken.

An outcome is delivered when the row shows it: the task instance has left queued, running and restarting, or was queued
anew. Until then it is offered again. The only event ever offered is FAILED: Airflow turns an offered SUCCESS for a
task that it cannot load into the success of a task that never ran.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from sqlalchemy import text

from windlass_airflow.config import (
    DELIVERY_PAUSE_SECONDS,
    DELIVERY_ROWS_MAX,
    FAILURE_BUDGET_SECONDS,
    FAILURES_PER_PASS_MAX,
    REDELIVERY_FIRST_SECONDS,
    REDELIVERY_MAX_SECONDS,
    worker_silent_seconds,
)
from windlass_airflow.database import LIVE_STATES, airflow_table, same_key, short_transaction
from windlass_airflow.outcome import Settled, Verdict, judge

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from airflow.callbacks.callback_requests import CallbackRequest
    from airflow.models.taskinstancekey import TaskInstanceKey

    from windlass_airflow.running import RunningTasks
    from windlass_airflow.running_death import TaskEnder

    ReportEnd = Callable[[TaskInstanceKey, str | None], None]
    OfferFailed = Callable[[TaskInstanceKey, str], None]
    SendCallback = Callable[[CallbackRequest], None]

# The candidates are cut first: a pass costs the same behind any backlog.
UNDELIVERED = """
    WITH s AS MATERIALIZED (
        SELECT * FROM windlass.launch
        WHERE outcome IS NOT NULL AND delivered_at IS NULL
          AND (settled_at, launch_id) > (CAST(:after_time AS timestamptz), CAST(:after_id AS text))
        ORDER BY settled_at, launch_id
        LIMIT :rows
    )
    SELECT s.launch_id, s.dag_id, s.task_id, s.run_id, s.map_index, s.try_number, s.queued_dttm,
           s.scheduler_job_id, s.namespace, s.pod_name, s.outcome, s.reason, s.message, s.exit_code, s.log_tail,
           s.callback_sent_at IS NOT NULL, s.stage = 'closed', s.settled_at,
           CAST(extract(epoch FROM now() - s.settled_at) AS float),
           ti.state, ti.try_number, ti.queued_dttm, ti.queued_by_job_id, ti.hostname, ti.job_id,
           coalesce(j.state <> 'running' OR j.latest_heartbeat < now() - make_interval(secs => :silent), true),
           coalesce(dr.state NOT IN ('queued', 'running'), true)
    FROM s
    LEFT JOIN {task_instance} ti ON {same_ti}
    LEFT JOIN {job} j ON j.id = ti.job_id
    LEFT JOIN {dag_run} dr ON dr.dag_id = s.dag_id AND dr.run_id = s.run_id
    ORDER BY s.settled_at, s.launch_id
"""

START = (datetime.min.replace(tzinfo=timezone.utc), "")

# Rows that the daemon is writing just now are left for the next pass: a lock wait would stop the scheduler's loop.
CLOSE = text("""
    UPDATE windlass.launch SET delivered_at = now()
    WHERE launch_id IN (SELECT launch_id FROM windlass.launch
                        WHERE launch_id = ANY(:launch_ids) AND delivered_at IS NULL AND outcome IS NOT NULL
                        ORDER BY launch_id FOR NO KEY UPDATE SKIP LOCKED)
""")


class Delivery:
    """The part of sync() that reads outcomes."""

    def __init__(
        self,
        running: RunningTasks,
        offer_failed: OfferFailed,
        send_callback: SendCallback,
        log: logging.Logger,
    ) -> None:
        """Take the executor's slots and its two ways to Airflow: events and callback requests."""
        self._running = running
        self._offer_failed = offer_failed
        self._send_callback = send_callback
        self._log = log
        self.reports_ends: ReportEnd | None = None
        """Told of each task of ours whose row has moved on; a scheduler reads the rows instead."""
        self._later = Later()
        self._ender: TaskEnder | None = None
        self._due_at = 0.0
        self._cursor = START

    def run(self, job_id: int) -> None:
        """One pass, unless the last one was just now. Raises what the database raises."""
        if time.monotonic() < self._due_at:
            return
        found = self._undelivered()
        if len(found) < DELIVERY_ROWS_MAX:
            self._due_at = time.monotonic() + DELIVERY_PAUSE_SECONDS
        done: list[Settled] = []
        failures: list[tuple[Settled, Verdict]] = []
        for settled in found:
            verdict = judge(settled, job_id)
            if verdict is Verdict.CLOSE:
                done.append(settled)
            elif verdict is not Verdict.WAIT and self._later.is_due(settled.launch_id):
                failures.append((settled, verdict))
        self._close(done)
        self._fail(job_id, failures)

    def _undelivered(self) -> list[Settled]:
        """The next outcomes in the order of their settling; from the start again behind the last."""
        statement = UNDELIVERED.format(
            task_instance=airflow_table("task_instance"),
            job=airflow_table("job"),
            dag_run=airflow_table("dag_run"),
            same_ti=same_key("ti", "s"),
        )
        after_time, after_id = self._cursor
        values = {
            "after_time": after_time,
            "after_id": after_id,
            "silent": worker_silent_seconds(),
            "rows": DELIVERY_ROWS_MAX,
        }
        with short_transaction() as connection:
            found = [Settled(*row) for row in connection.execute(text(statement), values)]
        more = len(found) == DELIVERY_ROWS_MAX
        self._cursor = (found[-1].settled_at, found[-1].launch_id) if more else START
        return found

    def _close(self, done: list[Settled]) -> None:
        """Mark as delivered what the rows show as taken, and free the slots of those queueings."""
        if not done:
            return
        with short_transaction() as connection:
            connection.execute(CLOSE, {"launch_ids": [settled.launch_id for settled in done]})
        for settled in done:
            self._later.forget(settled.launch_id)
            if self._running.queued_at(settled.key) is None and settled.ti_state in LIVE_STATES:
                continue  # not known which queueing holds the slot, and a newer one is alive: housekeeping finds out
            if self._running.release(settled.key, settled.queued_dttm) and self.reports_ends is not None:
                self.reports_ends(settled.key, settled.ti_state)

    def _fail(self, job_id: int, failures: list[tuple[Settled, Verdict]]) -> None:
        """Hand failures to Airflow within the budget of one pass."""
        deadline = time.monotonic() + FAILURE_BUDGET_SECONDS
        for settled, verdict in failures[:FAILURES_PER_PASS_MAX]:
            if time.monotonic() > deadline:
                return
            first_time = self._later.put_off(settled.launch_id)
            try:
                self._fail_one(job_id, settled, verdict, first_time)
            except Exception:
                # A listener of Airflow's, or a DAG that does not load: this task waits, the others go on.
                self._log.exception("Could not hand the failure of %s to Airflow; it is tried again", settled.key)

    def _fail_one(self, job_id: int, settled: Settled, verdict: Verdict, first_time: bool) -> None:
        if self._ender is None:
            from windlass_airflow.running_death import TaskEnder  # Airflow 2.x only

            self._ender = TaskEnder(self._send_callback, self._log)
        if verdict is Verdict.FAIL_QUEUED and not self._ender.needs_callback(settled):
            self._log.info("Failing %s, which never began: %s", settled.key, settled.sentence)
            if first_time:
                self._ender.tell(settled)
            self._running.release(settled.key, settled.queued_dttm)  # Airflow ignores events of keys it finds there
            self._offer_failed(settled.key, settled.sentence)
        elif self._ender.end(job_id, settled, first_time):
            self._running.release(settled.key, settled.queued_dttm)


class Later:
    """Failures not to be offered for a while: they were, and are not yet seen as taken."""

    CAPACITY = 4_096
    """Entries kept; the oldest is forgotten, which only means that it is offered again earlier."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def put_off(self, launch_id: str) -> bool:
        """Not before a pause that doubles each time. True if it is the first time."""
        entry = self._entries.pop(launch_id, None)
        pause = REDELIVERY_FIRST_SECONDS if entry is None else min(entry[1] * 2, REDELIVERY_MAX_SECONDS)
        self._entries[launch_id] = (time.monotonic() + pause, pause)
        if len(self._entries) > self.CAPACITY:
            self._entries.popitem(last=False)
        return entry is None

    def is_due(self, launch_id: str) -> bool:
        """Whether it may be offered (again)."""
        entry = self._entries.get(launch_id)
        return entry is None or entry[0] <= time.monotonic()

    def forget(self, launch_id: str) -> None:
        """It was delivered."""
        self._entries.pop(launch_id, None)
