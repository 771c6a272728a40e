"""Hands the queueings of one turn of the scheduler's loop to the daemon, after they are committed.

queue_command is called inside the scheduling transaction and sees the row as it was before. So it only notes; here,
after the commit, one statement looks the rows up by primary key, writes a handover row for each that is really queued,
learns its queued_dttm and notifies the daemon. What was rolled back is not there and takes no slot.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from airflow.models.taskinstancekey import TaskInstanceKey
from sqlalchemy import text

from windlass_airflow.database import LIVE_STATES, airflow_table, same_key, short_transaction

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

CHANNEL = "windlass_wake"

HAND_OVER = """
    WITH noted AS (
        SELECT * FROM jsonb_to_recordset(CAST(:noted AS jsonb)) AS n(
            dag_id text, task_id text, run_id text, map_index integer, try_number integer,
            executor text, command text[])
    ), seen AS (
        SELECT n.*, ti.state, ti.queued_dttm
        FROM noted n JOIN {task_instance} ti ON {same_key}
        WHERE ti.try_number = n.try_number AND ti.queued_by_job_id = :job_id
          AND ti.queued_dttm IS NOT NULL AND ti.state IN {live_states}
    ), written AS (
        INSERT INTO windlass.handover (dag_id, task_id, run_id, map_index, try_number, job_id, executor, command)
        SELECT dag_id, task_id, run_id, map_index, try_number, :job_id, executor, command
        FROM seen WHERE state = 'queued'
    )
    SELECT dag_id, task_id, run_id, map_index, try_number, queued_dttm,
           (SELECT CAST(pg_notify('{channel}', '') AS text))
    FROM seen
"""


class Noted(NamedTuple):
    """What queue_command was told."""

    key: TaskInstanceKey
    executor: str | None
    command: list[str]


def hand_over(job_id: int, noted: Iterable[Noted]) -> dict[TaskInstanceKey, datetime]:
    """Write the handover rows. Returns the queueings that are committed and live; the others never happened."""
    document = [
        {
            "dag_id": note.key.dag_id,
            "task_id": note.key.task_id,
            "run_id": note.key.run_id,
            "map_index": note.key.map_index,
            "try_number": note.key.try_number,
            "executor": note.executor,
            "command": note.command,
        }
        for note in noted
    ]
    statement = HAND_OVER.format(
        task_instance=airflow_table("task_instance"),
        same_key=same_key("ti", "n"),
        live_states=LIVE_STATES,
        channel=CHANNEL,
    )
    with short_transaction() as connection:
        rows = connection.execute(text(statement), {"noted": json.dumps(document), "job_id": job_id}).all()
    return {
        TaskInstanceKey(row.dag_id, row.task_id, row.run_id, row.try_number, row.map_index): row.queued_dttm
        for row in rows
    }
