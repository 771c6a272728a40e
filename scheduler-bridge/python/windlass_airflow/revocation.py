"""Takes a queueing back when Airflow finds it stuck in queued, or says why it must stay.

Airflow's requeue has no state guard: it would put a task that has just started back to scheduled. And it fails the
task without a retry at the third time, also when the cause is that no daemon runs. So a queueing is held back while
there is a reason that ends by itself within a stated bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from windlass_airflow.config import CALLBACK_PATIENCE_SECONDS, WORKER_START_SECONDS, hold_limit_seconds
from windlass_airflow.database import airflow_table, same_key, short_transaction

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy.engine import Row

READ = """
    SELECT ti.state, ti.try_number = :try_number AND ti.queued_dttm = :queued_dttm AS is_same,
           CAST(extract(epoch FROM now() - ti.queued_dttm) AS float) AS queued_seconds,
           l.launch_id, l.stage, l.outcome, l.delivered_at, l.namespace, l.pod_name, l.lost,
           CAST(extract(epoch FROM now() - l.settled_at) AS float) AS settled_seconds,
           CAST(extract(epoch FROM now() - l.running_at) AS float) AS running_seconds
    FROM {task_instance} ti
    LEFT JOIN windlass.launch l ON {same_launch} AND l.try_number = ti.try_number AND l.queued_dttm = ti.queued_dttm
    WHERE ti.dag_id = :dag_id AND ti.task_id = :task_id AND ti.run_id = :run_id AND ti.map_index = :map_index
"""

WITHDRAW = text("""
    UPDATE windlass.launch SET withdrawn_at = now()
    WHERE launch_id = :launch_id AND withdrawn_at IS NULL AND outcome IS NULL
""")

TAKE_BACK = text("UPDATE windlass.launch SET withdrawn_at = NULL WHERE launch_id = :launch_id AND outcome IS NULL")


class HeldError(Exception):
    """The queueing stays; the text says why and for how long at most."""


def withdraw(ti: TaskInstance) -> str:
    """Commit the withdrawal, then look again. Returns what the task waited for; raises HeldError if it must stay."""
    key: dict[str, Any] = {
        "dag_id": ti.dag_id,
        "task_id": ti.task_id,
        "run_id": ti.run_id,
        "map_index": ti.map_index,
        "try_number": ti.try_number,
        "queued_dttm": ti.queued_dttm,
    }
    read = text(READ.format(task_instance=airflow_table("task_instance"), same_launch=same_key("l", "ti")))
    with short_transaction() as connection:
        row = connection.execute(read, key).one_or_none()
        hold(row)
        if row is None or row.launch_id is None:
            return "no daemon has launched it"
        connection.execute(WITHDRAW, {"launch_id": row.launch_id})
    with short_transaction() as connection:
        again = connection.execute(read, key).one_or_none()
        try:
            refuse_if_started(again)
        except HeldError:
            connection.execute(TAKE_BACK, {"launch_id": row.launch_id})
            connection.commit()
            raise
    lost = f"; an earlier pod was lost: {row.lost}" if row.lost else ""
    pod = f"pod {row.namespace}/{row.pod_name}"
    if row.stage == "claimed":  # what the API server says to the create is known to the daemon alone
        mapped = f" --map-index {ti.map_index}" if ti.map_index >= 0 else ""
        explain = f"windlass explain {ti.dag_id} {ti.task_id} {ti.run_id}{mapped}"
        return f"{pod} could not be created; `{explain}` says why{lost}"
    return f"{pod} did not start (launch {row.stage}){lost}"


def refuse_if_started(row: Row | None) -> None:
    """Raise HeldError if the row is no longer what Airflow's stuck handling has read."""
    if row is None:
        return
    if row.state != "queued" or not row.is_same:
        raise HeldError(f"it is no longer this queueing in queued (now {row.state})")


def hold(row: Row | None) -> None:
    """Raise HeldError if the task has started, or waits for something that ends within a bound."""
    refuse_if_started(row)
    if row is None:
        return
    limit = hold_limit_seconds()
    if row.outcome == "failure" and row.delivered_at is None:
        if row.settled_seconds < CALLBACK_PATIENCE_SECONDS:
            raise HeldError(f"its failure is being handed to Airflow (at most {CALLBACK_PATIENCE_SECONDS:.0f} s)")
    elif row.stage == "running":
        if row.running_seconds is None or row.running_seconds < WORKER_START_SECONDS:
            raise HeldError(f"its pod's container has started (at most {WORKER_START_SECONDS:.0f} s)")
    elif row.launch_id is None and row.queued_seconds < limit:
        raise HeldError(f"no daemon has taken it yet (at most {limit:.0f} s, [windlass] hold_limit_seconds)")
    elif row.stage == "claimed" and row.queued_seconds < limit:
        raise HeldError(f"its pod could not be created yet (at most {limit:.0f} s, [windlass] hold_limit_seconds)")
