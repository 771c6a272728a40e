"""The DAGs of the end-to-end suite: one for each way in which a task can go."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.decorators import dag, task
from airflow.sensors.python import PythonSensor
from airflow.triggers.temporal import TimeDeltaTrigger
from airflow.models.baseoperator import BaseOperator
from airflow.operators.python import get_current_context
from journal import FOLDER, note, ran, wait_for

DEFAULTS = {"retry_delay": timedelta(seconds=1)}


def suite_dag(name: str):
    return dag(name, schedule=None, start_date=datetime(2024, 1, 1), catchup=False, default_args=DEFAULTS)


def ti():
    return get_current_context()["ti"]


@suite_dag("chain")
def chain():
    @task
    def first() -> int:
        ran(ti())
        return 41

    @task
    def second(number: int) -> int:
        ran(ti())
        return number + 1

    second(first())


def failed(context) -> None:
    note("callbacks", f"failure {context['ti'].task_id} {context['ti'].run_id} {context['ti'].try_number}")


def retried(context) -> None:
    note("callbacks", f"retry {context['ti'].task_id} {context['ti'].run_id} {context['ti'].try_number}")


@suite_dag("failing")
def failing():
    @task(retries=1, on_retry_callback=retried, on_failure_callback=failed)
    def fails() -> None:
        ran(ti())
        raise ValueError("this body always fails")

    @task(retries=1)
    def fails_once() -> None:
        ran(ti())
        if ti().try_number == 1:
            raise ValueError("this body fails once")

    fails()
    fails_once()


@suite_dag("mapped")
def mapped():
    @task
    def one(number: int) -> int:
        ran(ti())
        return number

    one.expand(number=list(range(5)))


class Defers(BaseOperator):
    """Defers once for a moment: its second part runs as a new queueing of the same try."""

    def execute(self, context) -> None:
        ran(context["ti"])
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="resume")

    def resume(self, context, event=None) -> None:
        note("resumed", f"{context['ti'].run_id} {context['ti'].try_number}")


@suite_dag("deferrable")
def deferrable():
    Defers(task_id="defers")


def third_look() -> bool:
    ran(ti())
    with open(FOLDER / "journal", encoding="utf-8") as journal:
        run_id = ti().run_id
        return sum(f"looks {run_id} " in line for line in journal) >= 3


@suite_dag("rescheduling")
def rescheduling():
    PythonSensor(task_id="looks", python_callable=third_look, mode="reschedule", poke_interval=1, timeout=300)


def override(**spec):
    """An executor_config for a task that wants another pod; only where the Kubernetes client is installed."""
    try:
        from kubernetes.client import models as k8s
    except ImportError:
        return {}
    container = k8s.V1Container(name="base", env=[k8s.V1EnvVar(name="SUITE_OVERRIDE", value="seen")])
    metadata = k8s.V1ObjectMeta(labels={"suite": "override"})
    return {"pod_override": k8s.V1Pod(metadata=metadata, spec=k8s.V1PodSpec(containers=[container], **spec))}


@suite_dag("overridden")
def overridden():
    @task(executor_config=override())
    def reads() -> None:
        ran(ti())
        assert os.environ["SUITE_OVERRIDE"] == "seen"

    reads()


@suite_dag("pending")
def pending():
    """Its pod waits for a scheduler that is not there: until the test binds it, it is Pending."""

    @task(executor_config=override(scheduler_name="nobody"))
    def waits() -> None:
        ran(ti())

    waits()


@suite_dag("blocking")
def blocking():
    """Its bodies run until the test lets them go on, or ends them."""

    @task
    def blocks() -> None:
        ran(ti())
        wait_for(f"go-{ti().run_id}")

    @task(retries=1)
    def blocks_with_a_retry() -> None:
        ran(ti())
        if ti().try_number == 1:
            wait_for(f"go-{ti().run_id}")

    @task(retries=0, on_failure_callback=failed)
    def blocks_with_a_callback() -> None:
        ran(ti())
        wait_for(f"go-{ti().run_id}")

    blocks()
    blocks_with_a_retry()
    blocks_with_a_callback()


@suite_dag("single")
def single():
    """One body that runs until the test lets it go on."""

    @task(retries=1)
    def blocks() -> None:
        ran(ti())
        print("the body of blocks writes this line", flush=True)
        wait_for(f"go-{ti().run_id}")

    blocks()


@suite_dag("many")
def many():
    @task
    def counts(number: int) -> None:
        ran(ti())

    counts.expand(number=list(range(int(os.environ.get("SUITE_MANY", "300")))))


@suite_dag("bad")
def bad():
    """A task whose executor_config is no pod, beside one that is well: the bad one fails alone."""

    @task(executor_config={"pod_override": {"metadata": {"labels": {"a": "b"}}}})
    def no_pod() -> None:
        ran(ti())

    @task
    def well() -> None:
        ran(ti())

    no_pod()
    well()


@suite_dag("hooked")
def hooked():
    """Its pod is changed by the pod_mutation_hook of the suite's local settings."""

    @task
    def reads() -> None:
        ran(ti())
        note("hooked", f"{ti().run_id} {os.environ['SUITE_HOOKED']}")

    reads()


@suite_dag("hook_fails")
def hook_fails():
    """The hook raises for its pods."""

    @task
    def never() -> None:
        ran(ti())

    never()


@dag("nightly", schedule="@daily", start_date=datetime(2024, 1, 1), end_date=datetime(2024, 3, 31), catchup=False)
def nightly():
    """For backfills, which go by a schedule; that is over, so that the scheduler makes no runs of it.

    Nothing is mapped over a task: a worker expands that when its task ends, and a BackfillJob of Airflow ends with an
    error when the row that it waits for is expanded by somebody else.
    """

    @task(depends_on_past=True)
    def loads() -> None:
        ran(ti())

    @task
    def reports() -> None:
        ran(ti())

    loads() >> reports()


@suite_dag("by_hand")
def by_hand():
    """Run once more by `airflow tasks run`."""

    @task
    def once() -> None:
        ran(ti())

    once()


for made in (
    chain, failing, mapped, deferrable, rescheduling, overridden, pending, blocking, single, many, bad, hooked,
    hook_fails, nightly, by_hand,
):  # fmt: skip
    made()
