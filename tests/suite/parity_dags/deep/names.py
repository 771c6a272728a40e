"""Names that no label and no pod may have, in a folder below the DAG folder."""

from __future__ import annotations

from airflow.decorators import task, task_group
from common import parity_dag


@parity_dag("Names.With_All-that.is_allowed.Äpfel")
def names():
    @task(task_id="Größe_in.Metern-" + "x" * 60)
    def long(number: int) -> int:
        return number

    @task_group(group_id="outer_" + "y" * 30)
    def outer():
        @task_group(group_id="inner")
        def inner():
            long.expand(number=[7])

        inner()

    outer()


names()
