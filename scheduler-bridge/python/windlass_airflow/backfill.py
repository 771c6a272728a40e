"""What a BackfillJob has to be told in time.

It expands what is mapped over a task's result when the executor tells of the task's end, and only as long as it takes
the task for running: it looks at the row itself right after it has read the events. A pod ends some time after its
worker has written the row, so its outcome comes too late for that, and the job would call itself deadlocked.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.state import TaskInstanceState
from sqlalchemy import text

from windlass_airflow.database import airflow_table, same_key, short_transaction

if TYPE_CHECKING:
    from windlass_airflow.delivery import ReportEnd
    from windlass_airflow.running import RunningTasks

SUCCEEDED = """
    SELECT h.dag_id, h.task_id, h.run_id, h.try_number, h.map_index
    FROM jsonb_to_recordset(CAST(:held AS jsonb))
        AS h (dag_id text, task_id text, run_id text, map_index integer, try_number integer)
    JOIN {task_instance} ti ON {same_ti}
    WHERE ti.state = 'success'
"""


class Successes:
    """Tells of each success of a backfill's tasks once, by their rows."""

    def __init__(self, running: RunningTasks, report: ReportEnd) -> None:
        """Nothing was told."""
        self._running = running
        self._report = report
        self._told: set[TaskInstanceKey] = set()

    def look(self) -> None:
        """Look at the rows of tasks whose pods have not ended; raises what the database raises."""
        self._told &= self._running
        keys = set(self._running) - self._told
        if not keys:
            return
        held = [key._asdict() for key in keys]
        statement = SUCCEEDED.format(task_instance=airflow_table("task_instance"), same_ti=same_key("ti", "h"))
        with short_transaction() as connection:
            rows = connection.execute(text(statement), {"held": json.dumps(held)}).all()
        for row in rows:
            key = TaskInstanceKey(*row)
            self._told.add(key)
            self._report(key, TaskInstanceState.SUCCESS)
