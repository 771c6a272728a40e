"""What needs no database."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from airflow.models.taskinstancekey import TaskInstanceKey

from windlass_airflow import WindlassExecutor, adoption, registration
from windlass_airflow.delivery import Later
from windlass_airflow.health import Health
from windlass_airflow.outcome import Settled, Verdict, judge
from windlass_airflow.reasons import GIVEN_UP_WHILE_WAITING, HINTS
from windlass_airflow.running import RunningTasks

QUEUED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
KEY = TaskInstanceKey("d", "t", "r", 1, -1)
POD = "d-t-abcdefgh"


def settled(**changes) -> Settled:
    row = Settled(
        launch_id="a" * 26,
        dag_id="d",
        task_id="t",
        run_id="r",
        map_index=-1,
        try_number=1,
        queued_dttm=QUEUED,
        scheduler_job_id=5,
        namespace="etl",
        pod_name=POD,
        outcome="failure",
        reason="OomKilled",
        message="container base used 1Gi of 1Gi",
        exit_code=137,
        log_tail="",
        callback_sent=False,
        closed=False,
        settled_at=QUEUED,
        settled_seconds=1.0,
        ti_state="running",
        ti_try_number=1,
        ti_queued_dttm=QUEUED,
        ti_queued_by_job_id=5,
        ti_hostname=POD,
        ti_job_id=9,
        worker_silent=False,
        run_over=False,
    )
    return row._replace(**changes)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.FAIL_RUNNING),
        ({"ti_state": "restarting"}, Verdict.FAIL_RUNNING),
        # the daemon is reading the pod's last lines, was killed before it had them, or has none to read
        ({"log_tail": None}, Verdict.WAIT),
        ({"log_tail": None, "ti_state": "queued", "ti_hostname": ""}, Verdict.WAIT),
        ({"log_tail": None, "settled_seconds": 5.0}, Verdict.FAIL_RUNNING),
        ({"log_tail": None, "exit_code": None}, Verdict.FAIL_RUNNING),
        ({"log_tail": None, "ti_state": "failed"}, Verdict.CLOSE),
        ({"reason": "ImagePull"}, Verdict.WAIT),
        ({"reason": "ImagePull", "worker_silent": True}, Verdict.FAIL_RUNNING),
        ({"reason": "ImagePull", "ti_state": "queued"}, Verdict.WAIT),
        ({"reason": "ImagePull", "ti_state": "queued", "closed": True}, Verdict.FAIL_QUEUED),
        ({"ti_state": "queued", "ti_hostname": ""}, Verdict.FAIL_QUEUED),
        ({"ti_hostname": f"{POD}.etl.svc.cluster.local"}, Verdict.FAIL_RUNNING),
        # I6: another pod of the task runs it, dead or alive
        ({"ti_hostname": "d-t-zyxwvuts"}, Verdict.WAIT),
        ({"ti_hostname": "d-t-zyxwvuts", "worker_silent": True}, Verdict.WAIT),
        ({"ti_hostname": "d-t-zyxwvuts", "ti_state": "restarting"}, Verdict.WAIT),
        ({"ti_hostname": "d-t-zyxwvuts", "ti_state": "restarting", "worker_silent": True}, Verdict.FAIL_RUNNING),
        # hostname_callable hides the pod: the worker's heartbeat tells
        ({"ti_hostname": "10.0.0.7"}, Verdict.WAIT),
        ({"ti_hostname": "10.0.0.7", "worker_silent": True}, Verdict.FAIL_RUNNING),
        ({"ti_hostname": None, "worker_silent": True}, Verdict.FAIL_RUNNING),
        # late: the row has moved on
        ({"ti_state": "success"}, Verdict.CLOSE),
        ({"ti_state": None}, Verdict.CLOSE),
        ({"ti_state": "deferred"}, Verdict.CLOSE),
        ({"ti_state": "scheduled"}, Verdict.CLOSE),
        ({"ti_try_number": 2}, Verdict.CLOSE),
        ({"ti_queued_dttm": QUEUED + timedelta(microseconds=1)}, Verdict.CLOSE),
        ({"ti_state": "queued", "ti_queued_dttm": QUEUED + timedelta(seconds=9)}, Verdict.CLOSE),
        ({"run_over": True}, Verdict.CLOSE),
        # other outcomes offer nothing
        ({"outcome": "superseded", "reason": None}, Verdict.CLOSE),
        ({"outcome": "withdrawn", "reason": None}, Verdict.CLOSE),
        ({"outcome": "success", "reason": None}, Verdict.WAIT),
        ({"outcome": "success", "reason": None, "settled_seconds": 61.0}, Verdict.FAIL_RUNNING),
        ({"callback_sent": True}, Verdict.WAIT),
        # another scheduler's
        ({"ti_queued_by_job_id": 6}, Verdict.WAIT),
        ({"ti_queued_by_job_id": 6, "settled_seconds": 999.0}, Verdict.WAIT),
        ({"ti_queued_by_job_id": 6, "ti_state": "success"}, Verdict.CLOSE),
        ({"scheduler_job_id": 6, "ti_state": "success"}, Verdict.CLOSE),
        ({"ti_queued_by_job_id": 6, "scheduler_job_id": 6, "ti_state": "success"}, Verdict.WAIT),
        (
            {"ti_queued_by_job_id": 6, "scheduler_job_id": 6, "ti_state": "success", "settled_seconds": 61.0},
            Verdict.CLOSE,
        ),
    ],
)
def test_what_is_done_with_an_outcome(changes, verdict):
    assert judge(settled(**changes), 5) is verdict


def test_info_stays_under_the_limit_that_kills_the_scheduler_and_is_one_line():
    sentence = settled(message="first\nsecond " + "x" * 1000 + " the cause").sentence
    assert sentence.startswith("OomKilled: first second xxx")
    assert sentence.endswith("x the cause")
    assert len(sentence) == 240


def test_the_log_text_names_reason_remedy_and_pod():
    assert settled().log_text == (
        "OomKilled: container base used 1Gi of 1Gi\n"
        "What to do: raise resources.limits.memory in pod_override or the pod template.\n"
        f"Pod etl/{POD}, exit code 137, launch {'a' * 26}."
    )
    assert settled(log_tail="loading\n50%").log_text.endswith(f"{'a' * 26}.\nLast lines of its log:\nloading\n50%")


def test_an_end_that_nobody_reported_gets_a_reason():
    row = settled(outcome="success", reason=None, message="done", exit_code=0, ti_state="queued")
    assert row.sentence == f"WorkerDidNotStart: pod {POD} ended well, but the task is still queued"


def test_the_tables_of_reasons_are_those_of_the_core():
    source = (Path(__file__).resolve().parents[3] / "executor/core/src/outcome.rs").read_text()
    hints = source[source.index("pub fn hint") :]
    assert dict(re.findall(r'Self::(\w+) =>\s*\{?\s*"((?:[^"\\]|\\.)*)"', hints)) == HINTS
    waiting = re.search(r"fn leaves_a_waiting_pod.*?matches!\(self, (.*?)\)", source, re.DOTALL)
    assert set(re.findall(r"Self::(\w+)", waiting[1])) == GIVEN_UP_WHILE_WAITING


class TestRunning:
    def test_it_is_a_set_for_airflow(self):
        running = RunningTasks()
        running.add(KEY)
        assert KEY in running
        assert len(running) == 1
        running.remove(KEY)
        assert not running
        with pytest.raises(KeyError):
            running.remove(KEY)
        running.discard(KEY)

    def test_a_late_outcome_does_not_free_the_slot_of_a_newer_queueing(self):
        running = RunningTasks()
        running.hold(KEY, QUEUED + timedelta(seconds=5))
        assert not running.release(KEY, QUEUED)
        assert KEY in running
        running.add(KEY)  # Airflow may add it again
        assert running.queued_at(KEY) == QUEUED + timedelta(seconds=5)
        assert running.release(KEY, QUEUED + timedelta(seconds=5))
        assert KEY not in running


def test_trouble_is_said_when_it_begins_changes_and_ends(caplog):
    health = Health("read outcomes", "They stay.", logging.getLogger("test"))
    with caplog.at_level(logging.WARNING):
        health.failed(ValueError("one"))
        health.failed(ValueError("one"))
        health.failed(ValueError("two"))
        assert not health.may_try()
        health.worked()
        health.worked()
    assert [record.getMessage() for record in caplog.records] == [
        "Windlass could not read outcomes: ValueError: one. They stay.",
        "Windlass could not read outcomes: ValueError: two. They stay.",
        "Windlass can read outcomes again.",
    ]
    assert health.may_try()


def test_put_off_outcomes_are_bounded():
    later = Later()
    assert later.put_off("a")
    assert not later.put_off("a")
    assert not later.is_due("a")
    assert later.is_due("b")
    for number in range(Later.CAPACITY):
        later.put_off(str(number))
    assert later.is_due("a")  # forgotten


@pytest.mark.parametrize(
    ("state", "has_pod", "fails_soon", "adopted"),
    [
        ("queued", False, False, True),
        ("queued", True, False, True),
        ("running", False, False, True),
        ("restarting", True, False, True),
        ("restarting", False, True, True),
        ("restarting", False, False, False),
    ],
)
def test_who_is_adopted(state, has_pod, fails_soon, adopted):
    assert adoption.is_adopted(state, has_pod=has_pod, fails_soon=fails_soon) is adopted


def test_names_that_a_task_may_call_the_executor_by():
    from airflow.executors.executor_utils import ExecutorName

    executor = WindlassExecutor()
    assert registration.executor_names(executor) == ["WindlassExecutor", "windlass_airflow.executor.WindlassExecutor"]
    executor.name = ExecutorName("windlass_airflow.WindlassExecutor", alias="w")
    assert registration.executor_names(executor) == ["WindlassExecutor", "w", "windlass_airflow.WindlassExecutor"]


def test_what_is_no_scheduler_is_refused_with_the_remedy():
    class Connection:
        def scalar(self, *_):
            return "LocalTaskJob"

    with pytest.raises(
        registration.AirflowException, match=r"this is LocalTaskJob 7\. Start a DAG run with `airflow da"
    ):
        registration.refuse_other_jobs(Connection(), 7)
    with pytest.raises(registration.AirflowException, match="move the metadata database to PostgreSQL"):
        registration.refuse_other_databases("mysql")


def test_import_and_construction_touch_no_database_and_little_else():
    program = (
        "import sys; from airflow.executors.base_executor import BaseExecutor; before = set(sys.modules)\n"
        "from windlass_airflow import WindlassExecutor; WindlassExecutor()\n"
        "from airflow import settings; assert settings.engine.pool.checkedout() == 0\n"
        "assert settings.engine.pool.checkedin() == 0\n"
        "new = set(sys.modules) - before\n"
        "assert 'windlass_airflow.running_death' not in new and not any(m.startswith('kubernetes') for m in new)\n"
        "print(sorted(m for m in new if not m.startswith('windlass_airflow')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_daemon_knows_every_option_of_the_installed_provider():
    """docs/CONFIGURATION.md is generated from the daemon's own table, each option with what is done about it."""
    info = pytest.importorskip("airflow.providers.cncf.kubernetes.get_provider_info", reason="no provider here")
    options = info.get_provider_info()["config"]["kubernetes_executor"]["options"]
    manual = (Path(__file__).resolve().parents[3] / "docs" / "CONFIGURATION.md").read_text()
    known = set(re.findall(r"^\| \[kubernetes_executor\] (\w+) \|", manual, re.MULTILINE))
    assert len(options) > 20
    assert set(options) - known == set()
