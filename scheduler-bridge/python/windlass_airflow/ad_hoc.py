"""Tasks that no scheduler's loop queued: `airflow tasks run` without --local, `airflow dags test --use-executor`.

Airflow gives the executor no job then, and the command may end before the task does. So the task is queued as a
scheduler would queue it, for one that lives: that scheduler adopts its outcome as that of its own tasks.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow.configuration import conf
from airflow.exceptions import AirflowException
from airflow.models.taskinstancekey import TaskInstanceKey
from sqlalchemy import text

from windlass_airflow.database import airflow_table, same_key, short_transaction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from windlass_airflow.handover import Noted

OWNER = """
    SELECT s.job_id FROM windlass.scheduler s JOIN {job} j ON j.id = s.job_id
    WHERE j.job_type = 'SchedulerJob' AND j.state = 'running'
      AND j.latest_heartbeat > now() - make_interval(secs => :silent)
    ORDER BY s.seen_at DESC LIMIT 1
"""

# As Airflow's scheduler counts: a try begins where the row is scheduled anew, not where it goes on.
QUEUE = """
    WITH noted AS (
        SELECT * FROM jsonb_to_recordset(CAST(:noted AS jsonb)) AS n(
            dag_id text, task_id text, run_id text, map_index integer, forced boolean)
    )
    UPDATE {task_instance} ti
    SET state = 'queued', queued_dttm = clock_timestamp(), queued_by_job_id = :job_id, updated_at = now(),
        external_executor_id = NULL,
        try_number = coalesce(ti.try_number, 0)
                     + CASE WHEN ti.state IN ('scheduled', 'up_for_reschedule') THEN 0 ELSE 1 END
    FROM noted n
    WHERE {same_key}
      AND (ti.state IS NULL OR ti.state IN ('scheduled', 'up_for_retry', 'up_for_reschedule')
           OR n.forced AND ti.state NOT IN ('queued', 'running', 'restarting', 'deferred'))
    RETURNING ti.dag_id, ti.task_id, ti.run_id, ti.try_number, ti.map_index
"""

NO_SCHEDULER = (
    "WindlassExecutor queues this task for a scheduler, which sees to its end, and no scheduler with WindlassExecutor "
    "has been heard of for {seconds:.0f} s. Start `airflow scheduler`, or run the task in this process with --local."
)
NOT_NOW = (
    "{key} cannot be run: it is not there, already queued or running, or over. "
    "Clear it, or add --force for a task that is over."
)


def find_owner() -> int:
    """Id of the job of a scheduler that lives and has WindlassExecutor."""
    seconds = float(conf.getfloat("scheduler", "scheduler_health_check_threshold", fallback=30.0))
    with short_transaction() as connection:
        job_id = connection.scalar(text(OWNER.format(job=airflow_table("job"))), {"silent": seconds})
    if job_id is None:
        raise AirflowException(NO_SCHEDULER.format(seconds=seconds))
    return int(job_id)


def queue(job_id: int, noted: Iterable[Noted]) -> list[Noted]:
    """Set the rows to `queued` for scheduler `job_id`; the keys come back with the try that will run."""
    commands = {_primary(note.key): note for note in noted}
    rows = [
        {
            "dag_id": note.key.dag_id,
            "task_id": note.key.task_id,
            "run_id": note.key.run_id,
            "map_index": note.key.map_index,
            "forced": "--force" in note.command,
        }
        for note in commands.values()
    ]
    statement = QUEUE.format(task_instance=airflow_table("task_instance"), same_key=same_key("ti", "n"))
    with short_transaction() as connection:
        keys = [
            TaskInstanceKey(*row)
            for row in connection.execute(text(statement), {"noted": json.dumps(rows), "job_id": job_id})
        ]
    queued = [commands.pop(_primary(key))._replace(key=key) for key in keys]
    for note in commands.values():
        raise AirflowException(NOT_NOW.format(key=note.key))
    return queued


def _primary(key: TaskInstanceKey) -> tuple[str, str, str, int]:
    return (key.dag_id, key.task_id, key.run_id, key.map_index)
