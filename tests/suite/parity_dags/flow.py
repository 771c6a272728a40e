"""Which tasks run at all: trigger rules, branches, short circuits, groups, setup and teardown, the latest run only."""

from __future__ import annotations

from airflow.decorators import setup, task, task_group, teardown
from airflow.exceptions import AirflowSkipException
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.latest_only import LatestOnlyOperator
from airflow.utils.trigger_rule import TriggerRule
from common import parity_dag


@task
def well(word: str = "well") -> str:
    return word


@task
def fails() -> None:
    raise ValueError("this body always fails")


@task
def skips() -> None:
    raise AirflowSkipException("not today")


@parity_dag("trigger_rules")
def trigger_rules():
    """Each rule behind one task that is well, one that fails and one that is skipped, and behind the well one alone.

    The skip comes after the failure: `all_success` goes by the first of the two that the scheduler sees.
    """
    ends = {"well": well(), "fails": fails(), "skips": skips.override(trigger_rule=TriggerRule.ALL_DONE)()}
    ends["fails"] >> ends["skips"]
    for rule in sorted(TriggerRule.all_triggers()):
        mixed = EmptyOperator(task_id=f"mixed_{rule}", trigger_rule=rule)
        if rule == TriggerRule.ALWAYS or "setup" in rule:
            continue
        list(ends.values()) >> mixed
        ends["well"] >> EmptyOperator(task_id=f"alone_{rule}", trigger_rule=rule)
    # And two bodies that an executor runs.
    for rule in (TriggerRule.ONE_FAILED, TriggerRule.ALL_DONE):
        list(ends.values()) >> BashOperator(task_id=f"body_{rule}", bash_command="true", trigger_rule=rule)


@parity_dag("branches")
def branches():
    @task.branch
    def chooses() -> list[str]:
        return ["left", "inner.chosen"]

    @task.short_circuit
    def stops() -> bool:
        return False

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def stops_the_next() -> bool:
        return False

    @task_group
    def inner():
        (
            EmptyOperator(task_id="chosen")
            >> stops_the_next()
            >> EmptyOperator(task_id="next")
            >> EmptyOperator(task_id="all_done", trigger_rule=TriggerRule.ALL_DONE)
        )

    left, right = EmptyOperator(task_id="left"), EmptyOperator(task_id="right")
    join = EmptyOperator(task_id="join", trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    group = inner()
    chooses() >> [left, right, group]
    (
        [left, right]
        >> join
        >> stops()
        >> well.override(task_id="behind")("never")
        >> EmptyOperator(task_id="far_behind", trigger_rule=TriggerRule.ALL_DONE)
    )


@parity_dag("setups")
def setups():
    """The teardown runs though the work failed; the second one decides that the run has failed."""

    @setup
    def cluster() -> str:
        return "made"

    @teardown
    def remove(made: str) -> None:
        assert made == "made"

    @teardown(on_failure_fail_dagrun=True)
    def must_be_removed(made: str) -> None:
        raise ValueError("it is still there")

    @task_group
    def work():
        made = cluster()
        made >> fails() >> well.override(task_id="never")() >> remove(made)

    @task_group
    def more_work():
        made = cluster.override(task_id="other")()
        made >> well() >> must_be_removed(made)

    work()
    more_work()


@parity_dag("latest", schedule="@daily")
def latest():
    """With a run of a day long ago, and one by hand, which is always the latest."""
    only = LatestOnlyOperator(task_id="only")
    only >> well.override(task_id="if_latest")()
    only >> EmptyOperator(task_id="always", trigger_rule=TriggerRule.ALL_DONE)


for made in (trigger_rules, branches, setups, latest):
    made()
