"""How a task ends: retries, exceptions with a meaning, exit codes, signals, timeouts, templates that are wrong."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta

from airflow.decorators import task
from airflow.exceptions import AirflowException, AirflowFailException
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import get_current_context
from common import parity_dag


def attempt() -> int:
    return get_current_context()["ti"].try_number


def nothing(context) -> None:
    print("called back:", context["ti"].task_id)


@parity_dag("retrying")
def retrying():
    @task(retries=1)
    def fails_for_good() -> None:
        raise AirflowException("each time")

    @task(retries=2, retry_exponential_backoff=True)
    def fails_once() -> None:
        if attempt() == 1:
            raise ValueError("the first time")

    @task(retries=1, on_retry_callback=nothing, on_failure_callback=nothing)
    def calls_back() -> None:
        raise ValueError("each time")

    @task(retries=3)
    def fails_at_once() -> None:
        raise AirflowFailException("no retry will help")

    fails_once() >> EmptyOperator(task_id="behind_success")
    fails_for_good() >> EmptyOperator(task_id="behind_failure")
    calls_back()
    fails_at_once()


@parity_dag("ending")
def ending():
    @task(retries=1)
    def killed() -> None:
        """The process of the body, not the one that watches it."""
        if attempt() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    @task
    def exits_with_zero() -> None:
        sys.exit(0)

    @task
    def exits_with_seven() -> None:
        sys.exit(7)

    @task(execution_timeout=timedelta(seconds=2))
    def takes_too_long() -> None:
        time.sleep(120)

    killed()
    exits_with_zero()
    exits_with_seven()
    takes_too_long()
    BashOperator(task_id="exit_code_of_a_skip", bash_command="exit 99")
    BashOperator(task_id="exit_code", bash_command="exit 3", queue="another", priority_weight=7)
    BashOperator(task_id="no_such_template", bash_command="{{ nobody.knows.this }}")


@parity_dag("timing_out", dagrun_timeout=timedelta(seconds=60))
def timing_out():
    """The run is over before its task is, which has begun: the test sees to that."""

    @task
    def runs_on() -> None:
        time.sleep(240)

    runs_on() >> EmptyOperator(task_id="never")


for made in (retrying, ending, timing_out):
    made()
