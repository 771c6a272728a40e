"""Takes over the task instances of a scheduler that is gone.

What is not adopted Airflow resets, which burns a try and may start a second body beside a living pod. So all that
Windlass launches or will launch is adopted, after a clean exit of the scheduler as well as after its death.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from airflow.models.taskinstancekey import TaskInstanceKey
from sqlalchemy import text

from windlass_airflow.database import airflow_table, same_key, short_transaction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow.models.taskinstance import TaskInstance

LOOK_UP = """
    WITH orphan AS (
        SELECT * FROM jsonb_to_recordset(CAST(:orphans AS jsonb)) AS o(
            dag_id text, task_id text, run_id text, map_index integer)
    )
    SELECT ti.dag_id, ti.task_id, ti.run_id, ti.map_index, ti.try_number, ti.queued_dttm, ti.state,
           l.launch_id IS NOT NULL AND l.outcome IS NULL AS has_pod,
           l.outcome = 'failure' AND l.delivered_at IS NULL AS fails_soon
    FROM orphan o
    JOIN {task_instance} ti ON {same_ti}
    LEFT JOIN windlass.launch l ON {same_launch} AND l.try_number = ti.try_number AND l.queued_dttm = ti.queued_dttm
"""

PrimaryKey = tuple[str, str, str, int]


class Adopted(NamedTuple):
    """A queueing that this scheduler owns from now on."""

    key: TaskInstanceKey
    queued_at: datetime | None


def primary_key(ti: TaskInstance) -> PrimaryKey:
    """Key columns, which are loaded; each other attribute of these objects would be one more query."""
    return (ti.dag_id, ti.task_id, ti.run_id, ti.map_index)


def look_up(tis: Sequence[TaskInstance]) -> dict[PrimaryKey, Adopted]:
    """Find out, in one query, which of the orphans to adopt."""
    orphans = [dict(zip(("dag_id", "task_id", "run_id", "map_index"), primary_key(ti), strict=True)) for ti in tis]
    statement = LOOK_UP.format(
        task_instance=airflow_table("task_instance"),
        same_ti=same_key("ti", "o"),
        same_launch=same_key("l", "ti"),
    )
    with short_transaction() as connection:
        rows = connection.execute(text(statement), {"orphans": json.dumps(orphans)}).all()
    return {
        (row.dag_id, row.task_id, row.run_id, row.map_index): Adopted(
            TaskInstanceKey(row.dag_id, row.task_id, row.run_id, row.try_number, row.map_index),
            row.queued_dttm,
        )
        for row in rows
        if is_adopted(row.state, has_pod=bool(row.has_pod), fails_soon=bool(row.fails_soon))
    }


def is_adopted(state: str | None, *, has_pod: bool, fails_soon: bool) -> bool:
    """Queued and running: always (launched, finished and undelivered, or not claimed yet).

    A restarting task waits for its worker's end. Without a pod and without an outcome to deliver nothing would ever
    end it; reset, Airflow runs it again, which is what the clearing asked for.
    """
    return state != "restarting" or has_pod or fails_soon
