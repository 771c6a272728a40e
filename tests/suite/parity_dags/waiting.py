"""What tasks wait for: triggers, sensors in each mode, pools, other runs."""

from __future__ import annotations

from datetime import timedelta

from airflow.decorators import task
from airflow.models.baseoperator import BaseOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sensors.python import PythonSensor
from airflow.triggers.temporal import TimeDeltaTrigger
from common import parity_dag


class Defers(BaseOperator):
    """Defers until a moment is over, or until its patience is."""

    def __init__(self, *, seconds: float, patience: float | None = None, wrong: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.seconds = seconds
        self.patience = patience
        self.wrong = wrong

    def execute(self, context) -> None:
        self.defer(
            trigger=TimeDeltaTrigger(timedelta(seconds=self.seconds)),
            method_name="resume",
            timeout=None if self.patience is None else timedelta(seconds=self.patience),
        )

    def resume(self, context, event=None) -> None:
        if self.wrong:
            raise ValueError("what came is not what was waited for")


@parity_dag("deferring")
def deferring():
    Defers(task_id="defers", seconds=1) >> EmptyOperator(task_id="behind")
    Defers(task_id="fails_when_it_resumes", seconds=1, wrong=True, retries=1)
    Defers(task_id="waits_too_long", seconds=600, patience=2)


@parity_dag("sensing")
def sensing():
    PythonSensor(task_id="at_once", python_callable=lambda: True)
    PythonSensor(
        task_id="soft", python_callable=lambda: False, mode="reschedule", poke_interval=1, timeout=3, soft_fail=True
    ) >> EmptyOperator(task_id="behind_soft")
    PythonSensor(task_id="hard", python_callable=lambda: False, poke_interval=0.5, timeout=1)

    @task.sensor(mode="reschedule", poke_interval=1, timeout=120)
    def second_look(ti=None) -> bool:
        """A row of task_reschedule is left by each look before."""
        from airflow.models.taskreschedule import TaskReschedule
        from airflow.utils.session import create_session

        with create_session() as session:
            return session.query(TaskReschedule).filter_by(run_id=ti.run_id, task_id=ti.task_id).count() >= 1

    second_look()


@parity_dag("pooled")
def pooled():
    """The pool `narrow` has two slots."""

    @task(pool="narrow", pool_slots=2)
    def wide() -> None:
        pass

    @task(pool="narrow")
    def slim(number: int) -> None:
        pass

    wide()
    slim.expand(number=[0, 1])


@parity_dag("triggering")
def triggering():
    settings = {"trigger_dag_id": "triggered", "wait_for_completion": True, "poke_interval": 1}
    TriggerDagRunOperator(task_id="waits", trigger_run_id="for_waits", conf={"fail": False}, **settings)
    TriggerDagRunOperator(
        task_id="defers", trigger_run_id="for_defers", conf={"fail": True}, deferrable=True, **settings
    )


@parity_dag("triggered")
def triggered():
    @task
    def obeys(dag_run=None) -> None:
        if dag_run.conf.get("fail"):
            raise ValueError("as told")

    obeys()


for made in (deferring, sensing, pooled, triggering, triggered):
    made()
