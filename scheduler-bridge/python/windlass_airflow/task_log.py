"""What the webserver shows of a running task until its own log is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from windlass_airflow.database import explain, short_transaction

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

LAUNCH = text("""
    SELECT namespace, pod_name, stage FROM windlass.launch
    WHERE dag_id = :dag_id AND task_id = :task_id AND run_id = :run_id AND map_index = :map_index
      AND try_number = :try_number
    ORDER BY queued_dttm DESC LIMIT 1
""")


def where_to_read(ti: TaskInstance, try_number: int) -> list[str]:
    """Name the pod and the command that prints its log. Never raises: the log page must not fail for it."""
    key = {
        "dag_id": ti.dag_id,
        "task_id": ti.task_id,
        "run_id": ti.run_id,
        "map_index": ti.map_index,
        "try_number": try_number,
    }
    try:
        with short_transaction() as connection:
            row = connection.execute(LAUNCH, key).one_or_none()
    except Exception as error:
        return [f"Windlass could not look up the task's pod: {explain(error)}"]
    if row is None:
        return ["Windlass has no launch of this try: it may be kept no longer."]
    return [
        f"The task runs in pod {row.namespace}/{row.pod_name} (launch {row.stage}). Until its log is here: "
        f"kubectl -n {row.namespace} logs {row.pod_name} --all-containers --follow"
    ]
