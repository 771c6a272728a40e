"""What tasks hand on: mapped tasks in all their forms, XComs small and large, runs that look at the run before."""

from __future__ import annotations

from airflow.decorators import task, task_group
from airflow.exceptions import AirflowSkipException
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import get_current_context
from airflow.utils.trigger_rule import TriggerRule
from common import parity_dag

LARGE = 300_000
"""More than a line of a log or a packet holds."""


@task
def numbers() -> list[int]:
    return [1, 2]


@parity_dag("mapping")
def mapping():
    @task
    def some_end_badly(number: int) -> int:
        if number == 1:
            raise AirflowSkipException("one is skipped")
        if number == 2:
            raise ValueError("two fails")
        return number

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def total(found) -> int:
        return sum(number or 0 for number in found)

    @task(max_active_tis_per_dag=1)
    def one_at_a_time(number: int, plus: int) -> int:
        return number + plus

    @task
    def nothing_to_do() -> list[int]:
        return []

    @task
    def never(number: int) -> None:
        raise AssertionError(number)

    @task
    def doubled(number: int) -> int:
        return 2 * number

    @task_group
    def each(number: int):
        doubled(number) >> EmptyOperator(task_id="after")

    total(some_end_badly.expand(number=[0, 1, 2]))
    many = numbers()
    one_at_a_time.partial(plus=1).expand(number=many)
    each.expand(number=many)
    empty = never.expand(number=nothing_to_do())
    empty >> EmptyOperator(task_id="behind_nothing")
    empty >> EmptyOperator(task_id="behind_nothing_at_the_end", trigger_rule=TriggerRule.ALL_DONE)


@parity_dag("handing_on")
def handing_on():
    @task(multiple_outputs=True)
    def gives() -> dict:
        return {"large": "x" * LARGE, "unicode": "ÄÖü ✓", "none": None}

    @task
    def takes(large: str, unicode: str, none: None) -> None:
        assert (len(large), unicode, none) == (LARGE, "ÄÖü ✓", None)
        assert get_current_context()["ti"].xcom_pull(task_ids="nobody") is None

    given = gives()
    takes(given["large"], given["unicode"], given["none"])


@parity_dag("looking_back", schedule="@daily", max_active_runs=1)
def looking_back():
    """Three runs of days long ago: the second fails, so that nothing of the third may start."""

    @task(depends_on_past=True)
    def steps() -> None:
        if get_current_context()["logical_date"].day == 2:
            raise ValueError("the second of the month")

    steps() >> EmptyOperator(task_id="behind", wait_for_downstream=True)


for made in (mapping, handing_on, looking_back):
    made()
