"""What a user does in Airflow's UI, for the lab: one JSON object a line in, one a line out.

A process that stays: starting `airflow dags trigger` takes 3 seconds of CPU each time.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

# Airflow logs to standard output: that becomes standard error, the answers keep the real one.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

from airflow.api.common.trigger_dag import trigger_dag  # noqa: E402
from airflow.models import DagBag, DagModel, DagRun, TaskInstance  # noqa: E402
from airflow.models.taskinstance import clear_task_instances  # noqa: E402
from airflow.utils import timezone  # noqa: E402
from airflow.utils.session import create_session  # noqa: E402
from airflow.utils.state import DagRunState, TaskInstanceState  # noqa: E402
from airflow.utils.types import DagRunType  # noqa: E402


def load_dags() -> list[str]:
    """Parse the DAG folder into the database, as the DAG processor does, and unpause all."""
    bag = DagBag(include_examples=False)
    if bag.import_errors:
        raise RuntimeError(f"DAG files that cannot be imported: {bag.import_errors}")
    bag.sync_to_db()
    with create_session() as session:
        session.query(DagModel).filter(DagModel.dag_id.in_(bag.dags)).update({"is_paused": False})
    return sorted(bag.dags)


def trigger(dag_id: str, run_id: str, conf: dict[str, Any] | None = None, date: str | None = None) -> str:
    """Make a manual DAG run, of this moment if no logical date is given."""
    when = timezone.parse(date) if date else timezone.utcnow()
    run = trigger_dag(dag_id, run_id=run_id, conf=conf or {}, execution_date=when, replace_microseconds=False)
    if run is None:
        raise RuntimeError(f"no run of {dag_id} was made")
    return str(run.run_id)


def schedule(dag_id: str, run_id: str, date: str) -> str:
    """Make a DAG run as the scheduler does when a data interval is over."""
    dag = DagBag(read_dags_from_db=True).get_dag(dag_id)
    when = timezone.parse(date)
    dag.create_dagrun(
        run_id=run_id,
        run_type=DagRunType.SCHEDULED,
        state=DagRunState.QUEUED,
        execution_date=when,
        data_interval=dag.infer_automated_data_interval(when),
        external_trigger=False,
    )
    return run_id


def clear(dag_id: str, run_id: str, task_ids: list[str]) -> int:
    """Clear task instances, as the UI's button does: a running one becomes `restarting`."""
    dag = DagBag(read_dags_from_db=True).get_dag(dag_id)
    with create_session() as session:
        found = session.query(TaskInstance).filter(
            TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, TaskInstance.task_id.in_(task_ids)
        )
        instances = found.all()
        clear_task_instances(instances, session, dag=dag, dag_run_state=DagRunState.QUEUED)
        return len(instances)


def mark(dag_id: str, run_id: str, task_id: str, state: str, map_indexes: list[int] | None = None) -> int:
    """Mark a task instance as success or failed, as the UI's buttons do."""
    dag = DagBag(read_dags_from_db=True).get_dag(dag_id)
    with create_session() as session:
        changed = dag.set_task_instance_state(
            task_id=task_id,
            map_indexes=map_indexes,
            run_id=run_id,
            state=TaskInstanceState(state),
            commit=True,
            session=session,
        )
        return len(changed)


def mark_run(dag_id: str, run_id: str, state: str) -> None:
    """Set the state of a DAG run, and with a final state that of its unfinished task instances."""
    from airflow.api.common import mark_tasks

    dag = DagBag(read_dags_from_db=True).get_dag(dag_id)
    change = {
        "failed": mark_tasks.set_dag_run_state_to_failed,
        "success": mark_tasks.set_dag_run_state_to_success,
    }[state]
    with create_session() as session:
        if not session.query(DagRun).filter_by(dag_id=dag_id, run_id=run_id).count():
            raise RuntimeError(f"no run {run_id} of {dag_id}")
        change(dag=dag, run_id=run_id, commit=True, session=session)


OPERATIONS = {operation.__name__: operation for operation in (load_dags, trigger, schedule, clear, mark, mark_run)}

for line in sys.stdin:
    request = json.loads(line)
    try:
        result = OPERATIONS[request.pop("operation")](**request)
        answer = {"result": result}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    answers.write(json.dumps(answer) + "\n")
