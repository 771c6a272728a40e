"""The load of the change-over: mapped tasks whose bodies the light worker plays (tests/suite/src/bin)."""

from __future__ import annotations

from datetime import datetime

from airflow.decorators import dag, task


@dag("changeover", schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def changeover():
    @task
    def held(number: int) -> None:
        raise AssertionError("the light worker runs instead, until the file `go` is there")

    held.expand(number=list(range(100)))


changeover()
