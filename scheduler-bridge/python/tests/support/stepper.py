"""The real SchedulerJobRunner, one turn of its loop at a time, in the test's process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.callbacks.database_callback_sink import DatabaseCallbackSink
from airflow.executors import executor_loader
from airflow.executors.executor_loader import ExecutorLoader
from airflow.jobs.job import Job, perform_heartbeat
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.utils.session import create_session
from airflow.utils.state import JobState

if TYPE_CHECKING:
    from support.world import Key


class Stepper:
    """A scheduler that moves when told to. Its callback sink is the table that a standalone DAG processor reads."""

    def __init__(self, parallelism: int = 64) -> None:
        executor_loader._loaded_executors.clear()  # one scheduler per process is what Airflow reckons with
        self.executor: Any = ExecutorLoader.get_default_executor()
        self.executor.parallelism = parallelism
        self.job = Job(executor=self.executor)
        self.runner = SchedulerJobRunner(self.job, subdir=None)
        self.runner._standalone_dag_processor = True
        self.job.job_type = "SchedulerJob"
        self.job.state = JobState.RUNNING
        with create_session() as session:
            session.add(self.job)
        self.executor.job_id = self.job.id
        self.executor.callback_sink = DatabaseCallbackSink()
        self.executor.start()

    def schedule(self) -> int:
        """The first part of a turn: up to the commit of the queueings."""
        with create_session() as session:
            return int(self.runner._do_scheduling(session))

    def turn(self, times: int = 1) -> None:
        """As _run_scheduler_loop does it."""
        for _ in range(times):
            with create_session() as session:
                self.runner._do_scheduling(session)
                self.deliver(session)
            self.flush_log()

    def deliver(self, session: Any = None) -> None:
        """The second part of a turn, with the sign of life that the loop gives of itself now and then."""
        perform_heartbeat(self.job, self.runner.heartbeat_callback, only_if_necessary=True)
        if session is None:
            with create_session() as own:
                self.deliver(own)
            self.flush_log()
            return
        self.executor._delivery._due_at = 0.0  # no waiting for the pause between passes
        self.executor.heartbeat()
        session.expunge_all()
        self.runner._process_executor_events(executor=self.executor, session=session)

    def flush_log(self) -> None:
        with create_session() as session:
            self.runner._process_task_event_logs(self.executor._task_event_logs, session)

    def housekeep(self) -> None:
        self.executor._housekeeping._due_at = 0.0
        self.executor._delivery._due_at = float("inf")
        self.executor.sync()
        self.executor._delivery._due_at = 0.0

    def queue(self, key: Key) -> None:
        """Turn until the task is queued."""
        from support.polling import until

        def queued() -> bool:
            self.turn()
            return state_of(key) == "queued"

        until(f"{key} is queued", queued, seconds=20)

    def forget_pauses(self) -> None:
        self.executor._delivery._later._entries.clear()

    def die(self, state: JobState = JobState.FAILED) -> None:
        with create_session() as session:
            session.query(Job).filter(Job.id == self.job.id).update({"state": state})


def state_of(key: Key) -> str | None:
    from airflow.models.taskinstance import TaskInstance

    with create_session() as session:
        return session.query(TaskInstance.state).filter_by(**key._asdict()).scalar()
