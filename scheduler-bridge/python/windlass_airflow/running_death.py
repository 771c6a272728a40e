"""Ends a task whose worker died, or that never began and has callbacks. Not needed (nor loaded) in Airflow 3.x.

Airflow 2.x ignores an executor's failure for a running task until the zombie timeout (300 s), and for a restarting one
for ever. Here the row is locked and compared, then Airflow's own code for a failure runs: retries, listeners, history
and the log table come out as always. Tasks with callbacks or e-mail go to the DAG processor by one request, because
neither user code nor SMTP may run in the scheduler's thread.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from airflow import settings
from airflow.callbacks.callback_requests import TaskCallbackRequest
from airflow.jobs.job import Job
from airflow.models.dagbag import DagBag
from airflow.models.log import Log
from airflow.models.taskinstance import SimpleTaskInstance, TaskInstance
from sqlalchemy import select, text
from sqlalchemy.orm import Session, selectinload

from windlass_airflow.config import DAG_CACHE_MAX
from windlass_airflow.database import LIMITS
from windlass_airflow.failure_log import FailureLog

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from airflow.callbacks.callback_requests import CallbackRequest

    from windlass_airflow.outcome import Settled

LOG_EVENT = "windlass failure"
"""Event of the row in Airflow's log table."""

CALLBACK_SENT = text("""
    UPDATE windlass.launch SET callback_sent_at = now()
    WHERE launch_id = :launch_id AND callback_sent_at IS NULL AND delivered_at IS NULL AND outcome = 'failure'
""")


class TaskEnder:
    """Applies failures to task instances, each in one transaction of its own."""

    def __init__(self, send_callback: Callable[[CallbackRequest], None], log: logging.Logger) -> None:
        """Take the executor's way to the DAG processor."""
        self._send_callback = send_callback
        self._log = log
        self._tasks = TaskCache()
        self._failure_log = FailureLog(log)

    def needs_callback(self, settled: Settled) -> bool:
        """Whether the failure must go through the DAG processor."""
        with new_session() as session:
            return needs_callback(self._tasks.get(settled.dag_id, settled.task_id, session))

    def tell(self, settled: Settled) -> None:
        """Put the reason into Airflow's log table and into the task's own log."""
        self._failure_log.write(settled)
        with new_session() as session:
            session.add(log_row(settled))
            session.commit()

    def end(self, job_id: int, settled: Settled, first_time: bool) -> bool:
        """Fail or retry the task if its row still stands as `settled` has seen it. False: not now."""
        with new_session() as session:
            ti = lock_unchanged(session, job_id, settled)
            if ti is None:
                return False
            task = self._tasks.get(settled.dag_id, settled.task_id, session)
            if needs_callback(task):
                return self._end_by_callback(session, ti, settled)
            self._log.warning("Task %s has lost its worker: %s", settled.key, settled.sentence)
            if first_time:
                self._failure_log.write(settled)
                session.add(log_row(settled))
            ti.task = task
            try:
                ti.handle_failure(error=settled.sentence, session=session)  # commits
            except RecursionError:
                # A very long chain of tasks; Airflow's scheduler gives up on such a task in the same way.
                session.rollback()
                self._log.error("The DAG of %s is too deep to handle its failure; zombie detection will", settled.key)
                return False
            session.commit()
            return True

    def _end_by_callback(self, session: Session, ti: TaskInstance, settled: Settled) -> bool:
        """Send exactly one callback request, and only if nobody else does. The row is locked."""
        if ti.state == "running" and not self._worker_job_running(session, ti):
            return False  # zombie detection sends its own within [scheduler] zombie_detection_interval (10 s)
        sent = session.execute(CALLBACK_SENT, {"launch_id": settled.launch_id})
        if sent.rowcount != 1:
            return False
        self._failure_log.write(settled)
        session.add(log_row(settled))
        request = TaskCallbackRequest(
            full_filepath=ti.dag_model.fileloc,
            simple_task_instance=SimpleTaskInstance.from_ti(ti),
            msg=settled.sentence,
            processor_subdir=ti.dag_model.processor_subdir,
        )
        # Committed first: a request whose mark was lost would be sent again, and the DAG processor runs a late one
        # on whatever the task has become by then (I3). A mark whose request was lost costs a timeout of Airflow's.
        session.commit()
        self._log.warning("Task %s failed, its callbacks are asked for: %s", settled.key, settled.sentence)
        self._send_callback(request)
        return True

    @staticmethod
    def _worker_job_running(session: Session, ti: TaskInstance) -> bool:
        return bool(session.scalar(select(Job.state).where(Job.id == ti.job_id)) == "running")


class TaskCache:
    """Tasks out of the serialized DAGs used last; an unchanged DAG is read once."""

    def __init__(self) -> None:
        """Read nothing yet."""
        # Extra links stay unloaded, as in the scheduler's own DagBag: loading them imports the providers.
        self._bag = DagBag(read_dags_from_db=True, load_op_links=False)
        self._used: OrderedDict[str, None] = OrderedDict()

    def get(self, dag_id: str, task_id: str, session: Session) -> Any | None:
        """Return the task, or None if the DAG or the task is gone (Airflow then decides by try number alone)."""
        dag = self._bag.get_dag(dag_id, session=session)
        self._used[dag_id] = None
        self._used.move_to_end(dag_id)
        while len(self._used) > DAG_CACHE_MAX:
            oldest, _ = self._used.popitem(last=False)
            for cache in (self._bag.dags, self._bag.dags_last_fetched, self._bag.dags_hash):
                cache.pop(oldest, None)
        return dag.get_task(task_id) if dag is not None and dag.has_task(task_id) else None


def new_session() -> Session:
    """Open a session of our own with Airflow's options, and our limits set in its first transaction."""
    session = Session(settings.engine, autoflush=False, expire_on_commit=False)
    session.execute(LIMITS)
    return session


def lock_unchanged(session: Session, job_id: int, settled: Settled) -> TaskInstance | None:
    """Lock the row if nobody else has it, and return it if nothing that was judged has changed."""
    ti = session.scalar(
        select(TaskInstance)
        .where(
            TaskInstance.dag_id == settled.dag_id,
            TaskInstance.task_id == settled.task_id,
            TaskInstance.run_id == settled.run_id,
            TaskInstance.map_index == settled.map_index,
        )
        .options(selectinload(TaskInstance.dag_model))
        .with_for_update(of=TaskInstance, skip_locked=True, key_share=True)
    )
    if ti is None:
        return None
    now = (ti.state, ti.try_number, ti.queued_dttm, ti.queued_by_job_id, ti.job_id, ti.hostname)
    seen = (
        settled.ti_state,
        settled.try_number,
        settled.queued_dttm,
        job_id,
        settled.ti_job_id,
        settled.ti_hostname,
    )
    return ti if now == seen else None


def needs_callback(task: Any | None) -> bool:
    """Whether handling the failure runs user code or sends e-mail."""
    if task is None:
        return False
    if task.on_failure_callback or task.on_retry_callback:
        return True
    # A mapped operator does not tell the two switches (both default to true).
    switches = (getattr(task, "email_on_failure", True), getattr(task, "email_on_retry", True))
    return bool(task.email) and any(switches)


def log_row(settled: Settled) -> Log:
    """Row for Airflow's log table, which the UI shows as the task's event log."""
    return Log(event=LOG_EVENT, task_instance=settled.key, extra=settled.log_text)
