"""DAGs for the plugin's tests. Their tasks never run: the tests play the workers by SQL."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.python import PythonOperator


def note(context):
    """Callback that leaves a line: the tests count them."""
    ti = context["ti"]
    with open(os.path.join(os.environ["AIRFLOW_HOME"], "callbacks"), "a") as file:
        file.write(f"{ti.dag_id} {ti.task_id} {ti.run_id} {ti.try_number} {context['exception']}\n")


def dag(dag_id, **kwargs):
    return DAG(
        dag_id,
        schedule=None,
        start_date=datetime(2024, 1, 1),
        is_paused_upon_creation=False,
        default_args={"retry_delay": timedelta(days=1), **kwargs},
    )


def task(task_id, **kwargs):
    return PythonOperator(task_id=task_id, python_callable=print, **kwargs)


with dag("plain"):
    task("once")
    task("again", retries=2)

with dag("single"):
    task("t", retries=1)

with dag("noted", retries=1, on_failure_callback=note, on_retry_callback=note):
    task("t")

with dag("mailed", email=["oncall@example.org"]):
    task("t")

with dag("switched_off", email=["oncall@example.org"], email_on_failure=False, email_on_retry=False):
    task("t")

with dag("mapped", retries=1):
    PythonOperator.partial(task_id="t", python_callable=print).expand(op_args=[[1], [2], [3]])

with dag("many"):
    for number in range(40):
        task(f"t{number}")

# For backfills, which go by a schedule; paused, so that it makes no runs of its own.
with DAG("counted", schedule="@daily", start_date=datetime(2024, 1, 1), is_paused_upon_creation=True):
    counts = task("counts")
    PythonOperator.partial(task_id="each", python_callable=print).expand(op_args=counts.output.map(lambda n: [n]))

# Airflow refuses a DAG whose tasks name an executor that is not configured.
if "LocalExecutor" in os.environ["AIRFLOW__CORE__EXECUTOR"]:
    with dag("chosen"):
        task("local", executor="LocalExecutor")
        task("alias", executor="w")
        task("path", executor="windlass_airflow.WindlassExecutor")
        task("bare", executor="WindlassExecutor")
