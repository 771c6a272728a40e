"""The load of the fault runs: mapped tasks whose bodies the light worker plays (tests/suite/src/bin).

Nothing here ever runs; Airflow's scheduler needs to know the tasks, and that they may be retried: faults end workers.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.decorators import dag, task

QUICK = int(os.environ.get("FAULTS_QUICK", "20"))
SLOW = int(os.environ.get("FAULTS_SLOW", "5"))


@dag(
    "faults",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=100,
    default_args={"retries": 12, "retry_delay": timedelta(seconds=1)},
)
def faults():
    @task
    def quick(number: int) -> None:
        raise AssertionError("the light worker runs instead")

    @task
    def slow(number: int) -> None:
        raise AssertionError("the light worker runs instead")

    quick.expand(number=list(range(QUICK)))
    slow.expand(number=list(range(SLOW)))


faults()
