"""Now and then: refresh the scheduler's row, compare `running` with the rows, see whether a daemon works."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from airflow.models.taskinstancekey import TaskInstanceKey
from sqlalchemy import text

from windlass_airflow.config import DAEMON_AWAY_SECONDS, FOLLOW_SECONDS, HOUSEKEEPING_SECONDS, RESYNC_KEYS_MAX
from windlass_airflow.database import LIVE_STATES, airflow_table, same_key, short_transaction
from windlass_airflow.registration import SchedulerRow, register

if TYPE_CHECKING:
    import logging

    from sqlalchemy.engine import Connection

    from windlass_airflow.running import RunningTasks

COMPARE = """
    WITH held AS (
        SELECT * FROM jsonb_to_recordset(CAST(:held AS jsonb)) AS h(
            dag_id text, task_id text, run_id text, map_index integer, try_number integer, queued_at timestamptz)
    )
    SELECT h.*,
           CASE WHEN ti.state IN {live_states} AND ti.try_number = h.try_number
                 AND ti.queued_by_job_id = :job_id THEN ti.queued_dttm END AS live_queued_at,
           EXISTS (SELECT FROM windlass.launch l
                   WHERE {same_launch} AND l.try_number = h.try_number AND l.queued_dttm = h.queued_at
                     AND l.outcome IS NULL) AS has_live_launch
    FROM held h LEFT JOIN {task_instance} ti ON {same_ti}
"""

DAEMON = text("""
    SELECT coalesce(extract(epoch FROM now() - (SELECT min(made_at) FROM windlass.handover WHERE job_id = :job_id)), 0)
               AS oldest_handover_seconds,
           (SELECT expires_at < now() - make_interval(secs => :away) FROM windlass.term) AS no_leader
""")

AWAY = (
    "No Windlass daemon is taking queued tasks (%s): they stay queued and start when it is back. "
    "See that the windlass container of the scheduler pod runs: `kubectl logs <scheduler pod> -c windlass`, "
    "`windlass status`, `windlass doctor`."
)


class Housekeeping:
    """The timed part of the executor's sync()."""

    def __init__(self, running: RunningTasks, log: logging.Logger) -> None:
        """Nothing is due before start."""
        self._running = running
        self._log = log
        self._due_at = 0.0
        self._cursor = 0
        self._daemon_away = False

    def due(self) -> bool:
        """Whether it is time again."""
        return time.monotonic() >= self._due_at

    def run(self, row: SchedulerRow) -> None:
        """One round in one transaction; raises what the database raises."""
        with short_transaction() as connection:
            register(connection, row)
            self._compare_running(connection, row.job_id)
            self._look_for_daemon(connection, row.job_id)
        self._due_at = time.monotonic() + HOUSEKEEPING_SECONDS

    def follow(self, job_id: int) -> None:
        """The round of a process that waits for tasks which scheduler `job_id` owns."""
        with short_transaction() as connection:
            self._compare_running(connection, job_id)
        self._due_at = time.monotonic() + FOLLOW_SECONDS

    def _compare_running(self, connection: Connection, job_id: int) -> None:
        """Free the slots of queueings that ended without an outcome of ours (cleared, rolled back, gone)."""
        keys = self._next_keys()
        if not keys:
            return
        statement = COMPARE.format(
            live_states=LIVE_STATES,
            task_instance=airflow_table("task_instance"),
            same_ti=same_key("ti", "h"),
            same_launch=same_key("l", "h"),
        )
        held = [
            key._asdict() | {"queued_at": at.isoformat() if (at := self._running.queued_at(key)) else None}
            for key in keys
        ]
        for row in connection.execute(text(statement), {"held": json.dumps(held), "job_id": job_id}):
            key = TaskInstanceKey(row.dag_id, row.task_id, row.run_id, row.try_number, row.map_index)
            if row.live_queued_at is not None:
                self._running.hold(key, row.live_queued_at)
            elif not row.has_live_launch:
                self._log.info("Freeing the slot of %s: it is no longer queued or running here", key)
                self._running.discard(key)

    def _next_keys(self) -> list[TaskInstanceKey]:
        """The next RESYNC_KEYS_MAX keys, round robin, so that a round's cost is bounded."""
        keys = list(self._running)
        if len(keys) > RESYNC_KEYS_MAX:
            keys.sort()
            start = self._cursor % len(keys)
            self._cursor = start + RESYNC_KEYS_MAX
            keys = (keys + keys)[start : start + RESYNC_KEYS_MAX]
        return keys

    def _look_for_daemon(self, connection: Connection, job_id: int) -> None:
        seen = connection.execute(DAEMON, {"job_id": job_id, "away": DAEMON_AWAY_SECONDS}).one()
        why = None
        if seen.oldest_handover_seconds > DAEMON_AWAY_SECONDS:
            why = f"the oldest handed over task has waited for {int(seen.oldest_handover_seconds)} s"
        elif seen.no_leader and self._running:
            why = f"no daemon has held the term of leadership for {int(DAEMON_AWAY_SECONDS)} s"
        if why is not None and not self._daemon_away:
            self._log.warning(AWAY, why)
        if why is None and self._daemon_away:
            self._log.warning("A Windlass daemon takes queued tasks again.")
        self._daemon_away = why is not None
