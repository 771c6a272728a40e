"""The DAGs of `cargo xtask demo`: one for each way in which a task can go."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta

from airflow.decorators import dag, task
from airflow.models.baseoperator import BaseOperator
from airflow.operators.python import get_current_context
from airflow.triggers.temporal import TimeDeltaTrigger
from kubernetes.client import models as k8s

ARGUMENTS = {
    "schedule": None,
    "start_date": datetime(2024, 1, 1),
    "catchup": False,
    "default_args": {"retry_delay": timedelta(seconds=1)},
    "tags": ["demo"],
}


@dag(**ARGUMENTS)
def chain():
    """Three tasks that hand a value on."""

    @task
    def extract() -> list[int]:
        return [1, 2, 3]

    @task
    def transform(numbers: list[int]) -> int:
        return sum(numbers)

    @task
    def load(total: int) -> None:
        assert total == 6

    load(transform(extract()))


@dag(**ARGUMENTS)
def mapped():
    """Fifty mapped tasks and one that needs them all."""

    @task
    def square(number: int) -> int:
        return number * number

    @task
    def total(squares) -> None:
        assert sum(squares) == sum(number * number for number in range(50))

    total(square.expand(number=list(range(50))))


@dag(**ARGUMENTS)
def retry():
    """Fails once by itself."""

    @task(retries=1)
    def fails_once() -> None:
        if get_current_context()["ti"].try_number == 1:
            raise ValueError("the first try of this task always fails")

    fails_once()


class Waits(BaseOperator):
    """Waits in the triggerer, without a pod; the second half runs in a pod of its own."""

    def execute(self, context) -> None:
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=2)), method_name="after")

    def after(self, context, event=None) -> str:
        return "waited"


@dag(**ARGUMENTS)
def deferrable():
    """A deferrable task."""
    Waits(task_id="waits")


@dag(**ARGUMENTS)
def override():
    """A task with a pod of its own making."""
    greeting = k8s.V1EnvVar(name="GREETING", value="hello from executor_config")
    container = k8s.V1Container(name="base", env=[greeting])
    pod = k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(labels={"team": "demo"}),
        spec=k8s.V1PodSpec(containers=[container]),
    )

    @task(executor_config={"pod_override": pod})
    def reads_its_environment() -> str:
        return os.environ["GREETING"]

    reads_its_environment()


@dag(**ARGUMENTS)
def killed():
    """The demo kills the containers of first tries with SIGKILL, as the kernel does when memory runs out."""

    def blocks_on_first_try() -> None:
        if get_current_context()["ti"].try_number == 1:
            time.sleep(600)

    @task(retries=1)
    def has_a_retry() -> None:
        blocks_on_first_try()

    @task(retries=0)
    def has_none() -> None:
        blocks_on_first_try()

    has_a_retry()
    has_none()


chain()
mapped()
retry()
deferrable()
override()
killed()
