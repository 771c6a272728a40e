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


def test_the_tasks_own_log_tells_the_reason_and_the_pods_last_lines(stepper, world, new_run):
    """Also lines that come after the outcome: a settle does not wait for them."""
    key, launch_id = running(stepper, world, new_run)
    world.fail(launch_id)
    stepper.deliver()
    assert world.state(key) == "up_for_retry"
    world.sql("UPDATE windlass.launch SET log_tail = %s WHERE launch_id = %s", "reading 100% of it\nlast", launch_id)
    text = written(stepper, key)
    assert "OomKilled: container base used 1Gi of 1Gi\nWhat to do: raise resources.limits.memory" in text
    assert "Last lines of its log:\nreading 100% of it\nlast" in text


def test_a_database_in_trouble_costs_the_last_lines_but_not_the_reason(stepper, world, new_run, caplog):
    key, launch_id = running(stepper, world, new_run)
    world.fail(launch_id)
    stepper.deliver()
    world.sql("ALTER SCHEMA windlass RENAME TO hidden")
    try:
        text = written(stepper, key)
    finally:
        world.sql("ALTER SCHEMA hidden RENAME TO windlass")
    assert "OomKilled: container base used 1Gi of 1Gi" in text
    assert "Last lines" not in text
    assert "does not tell why its pod failed" not in caplog.text


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
