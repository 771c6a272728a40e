"""The reason of a failure in the task's own log, written by Airflow's task handler."""

from __future__ import annotations

import os
from pathlib import Path

from support.steps import running


def written(stepper, key):
    """What our file beside the task's log holds."""
    stepper.executor._delivery._ender._failure_log.flush()
    folder = Path(os.environ["AIRFLOW__LOGGING__BASE_LOG_FOLDER"])
    folder = folder / "dag_id=single" / f"run_id={key.run_id}" / "task_id=t"
    (file,) = folder.glob("attempt=1.log*")
    assert file.name == "attempt=1.log.windlass.log"
    return file.read_text()


def test_reason_and_last_lines_are_told_at_once(stepper, world, new_run):
    """In the task's own log and in the event log: a settle does not wait for the lines, its delivery does."""
    key, launch_id = running(stepper, world, new_run)
    world.settle(launch_id, "failure", "OomKilled", "container base used 1Gi of 1Gi", 137)
    stepper.deliver()
    assert world.state(key) == "running"
    assert not world.logs(key, "windlass failure")
    world.keep_log(launch_id, "reading 100% of it\nlast")
    stepper.deliver()
    assert world.state(key) == "up_for_retry"
    (event,) = world.logs(key, "windlass failure")
    for told in (written(stepper, key), event):
        assert "OomKilled: container base used 1Gi of 1Gi\nWhat to do: raise resources.limits.memory" in told
        assert "Last lines of its log:\nreading 100% of it\nlast" in told


def test_last_lines_that_never_come_cost_a_failure_five_seconds(stepper, world, new_run):
    """A daemon killed between the outcome and the lines: the next one does not read them."""
    key, launch_id = running(stepper, world, new_run)
    world.settle(launch_id, "failure", "OomKilled", "container base used 1Gi of 1Gi", 137)
    world.sql("UPDATE windlass.launch SET settled_at = now() - interval '6 s' WHERE launch_id = %s", launch_id)
    stepper.deliver()
    assert world.state(key) == "up_for_retry"
    text = written(stepper, key)
    assert "OomKilled: container base used 1Gi of 1Gi" in text
    assert "Last lines" not in text


def test_a_task_log_that_cannot_be_written_costs_nothing_but_a_line(stepper, world, new_run, monkeypatch, caplog):
    from airflow.utils.log.task_context_logger import TaskContextLogger

    def refuse(*_args, **_kwargs):
        raise OSError("no space left on the storage")

    monkeypatch.setattr(TaskContextLogger, "_log", refuse)
    key, launch_id = running(stepper, world, new_run)
    world.fail(launch_id)
    stepper.deliver()
    stepper.executor._delivery._ender._failure_log.flush()
    assert world.state(key) == "up_for_retry"
    assert "does not tell why its pod failed: OSError: no space left on the storage" in caplog.text
