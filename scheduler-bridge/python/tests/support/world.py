"""The rows: the daemon's part and the workers' part, played by SQL."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import psycopg2
import psycopg2.extras


class Key(NamedTuple):
    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1


WHERE_KEY = "dag_id = %(dag_id)s AND task_id = %(task_id)s AND run_id = %(run_id)s AND map_index = %(map_index)s"


class World:
    """A connection that commits each statement."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        # A test that leaves a lock behind fails its neighbour instead of hanging it.
        self.connection = psycopg2.connect(dsn, options="-c lock_timeout=10s -c statement_timeout=30s")
        self.connection.autocommit = True

    def sql(self, statement: str, /, *values: Any, **named: Any) -> list[Any]:
        with self.connection.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cursor:
            cursor.execute(statement, named or values or None)
            return cursor.fetchall() if cursor.description else []

    # --- Airflow's rows ---

    def ti(self, key: Key) -> Any:
        rows = self.sql(f"SELECT * FROM task_instance WHERE {WHERE_KEY}", **key._asdict())
        return rows[0] if rows else None

    def state(self, key: Key) -> str | None:
        row = self.ti(key)
        return row.state if row else "gone"

    def worker_starts(self, key: Key, hostname: str, heartbeat_age: float = 0.0, job_state: str = "running") -> int:
        """What LocalTaskJob and _check_and_change_state_before_execution write."""
        (job,) = self.sql(
            "INSERT INTO job (dag_id, state, job_type, start_date, latest_heartbeat, hostname) "
            "VALUES (%s, %s, 'LocalTaskJob', now(), now() - make_interval(secs => %s), %s) RETURNING id",
            key.dag_id, job_state, heartbeat_age, hostname,
        )  # fmt: skip
        self.sql(
            "UPDATE task_instance SET state = 'running', hostname = %(hostname)s, job_id = %(job)s, pid = 7, "
            f"start_date = now(), end_date = NULL WHERE {WHERE_KEY}",
            hostname=hostname, job=job.id, **key._asdict(),
        )  # fmt: skip
        return int(job.id)

    def worker_writes(self, key: Key, state: str) -> None:
        self.sql(
            f"UPDATE task_instance SET state = %(state)s, end_date = now() WHERE {WHERE_KEY}",
            state=state, **key._asdict(),
        )  # fmt: skip

    def logs(self, key: Key, event: str) -> list[str]:
        rows = self.sql(
            f"SELECT extra FROM log WHERE event = %(event)s AND {WHERE_KEY} ORDER BY id", event=event, **key._asdict()
        )
        return [row.extra for row in rows]

    # --- Windlass's rows ---

    def claim(self, key: Key) -> str:
        """A launch for the queueing that the row shows now, its pod created."""
        launch_id = "".join(random.choices("abcdefghijklmnopqrstuvwxyz234567", k=26))
        self.sql(f"DELETE FROM windlass.handover WHERE {WHERE_KEY}", **key._asdict())
        done = self.sql(
            "INSERT INTO windlass.launch (launch_id, dag_id, task_id, run_id, map_index, try_number, queued_dttm, "
            "scheduler_job_id, priority_weight, epoch, stage, namespace, pod_name, pod_uid, created_at) "
            "SELECT %(id)s, dag_id, task_id, run_id, map_index, try_number, queued_dttm, queued_by_job_id, "
            "priority_weight, 1, 'created', 'etl', %(pod)s, 'uid-1', now() "
            f"FROM task_instance WHERE state = 'queued' AND {WHERE_KEY} RETURNING launch_id",
            id=launch_id, pod=pod_name(key, launch_id), **key._asdict(),
        )  # fmt: skip
        assert done, f"{key} is not queued: {self.ti(key)}"
        return launch_id

    def settle(
        self, launch_id: str, outcome: str, reason: str | None = None, message: str = "", exit_code: int | None = None
    ) -> None:
        rows = self.sql(
            "UPDATE windlass.launch SET stage = 'settled', outcome = %s, reason = %s, message = %s, exit_code = %s, "
            "settled_at = now() WHERE launch_id = %s AND outcome IS NULL RETURNING 1",
            outcome, reason, message, exit_code, launch_id,
        )  # fmt: skip
        assert rows, f"launch {launch_id} is not there or has an outcome"

    def fail(self, launch_id: str, reason: str = "OomKilled", message: str = "container base used 1Gi of 1Gi") -> None:
        self.settle(launch_id, "failure", reason, message, 137)
        self.keep_log(launch_id, "")

    def keep_log(self, launch_id: str, log: str) -> None:
        """What the daemon does after it has settled a launch whose pod ran; the log is empty if there is none."""
        self.sql("UPDATE windlass.launch SET log_tail = %s WHERE launch_id = %s", log, launch_id)

    def close(self, launch_id: str) -> None:
        """Nothing is left of its pod."""
        self.sql("UPDATE windlass.launch SET stage = 'closed', closed_at = now() WHERE launch_id = %s", launch_id)

    def launch(self, launch_id: str) -> Any:
        (row,) = self.sql("SELECT * FROM windlass.launch WHERE launch_id = %s", launch_id)
        return row

    def pod(self, launch_id: str) -> str:
        return str(self.launch(launch_id).pod_name)

    def delivered(self, launch_id: str) -> bool:
        return self.launch(launch_id).delivered_at is not None

    def handovers(self, key: Key) -> list[Any]:
        return self.sql(f"SELECT * FROM windlass.handover WHERE {WHERE_KEY} ORDER BY id", **key._asdict())


def pod_name(key: Key, launch_id: str) -> str:
    return f"{key.dag_id}-{key.task_id}".replace("_", "-")[:54] + "-" + launch_id[:8]
