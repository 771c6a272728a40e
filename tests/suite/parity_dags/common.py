"""What the DAGs of the comparison share: no schedule of their own, retries after a second."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.decorators import dag


def parity_dag(name: str, **more):
    """A DAG that runs when the test makes a run of it."""
    defaults = {"retry_delay": timedelta(seconds=1), **more.pop("default_args", {})}
    settings = {"schedule": None, "start_date": datetime(2024, 1, 1), "catchup": False, **more}
    return dag(name, default_args=defaults, **settings)
