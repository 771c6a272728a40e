"""Tasks that no scheduler's loop queues: backfills, `airflow tasks run`, `airflow dags test --use-executor`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.polling import until
from support.world import Key

from windlass_airflow.ad_hoc import AirflowException


def airflow(*arguments, log):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [str(Path(sys.executable).with_name("airflow")), *arguments]
    return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


class Workers:
    """Plays daemon and workers: each task that is queued and handed over runs and succeeds."""

    def __init__(self, dsn, dag_id, job_log=None):
        self.dsn, self.dag_id, self.job_log = dsn, dag_id, job_log
        self.commands = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(10)

    def _job_sleeps(self):
        """Wait for the next time that a BackfillJob has looked at all rows; then it sleeps for a second."""
        if self.job_log is None:
            return
        before = self._turns()
        until("the BackfillJob tells of its progress", lambda: self._turns() > before, seconds=30)

    def _turns(self):
        return self.job_log.read_text().count("[backfill progress]")

    def _work(self):
        from support.world import World

        world = World(self.dsn)
        while not self._stop.wait(0.1):
            for row in world.sql("SELECT * FROM windlass.handover WHERE dag_id = %s", self.dag_id):
                key = Key(row.dag_id, row.task_id, row.run_id, row.map_index)
                self.commands.append(row.command)
                launch_id = world.claim(key)
                world.worker_starts(key, world.pod(launch_id))
                if row.task_id == "counts":
                    world.sql(
                        "INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value, timestamp) "
                        "SELECT id, %s, -1, 'return_value', dag_id, run_id, '[1, 2]', now() FROM dag_run "
                        "WHERE run_id = %s",
                        row.task_id, row.run_id,
                    )  # fmt: skip
                    world.sql(
                        "INSERT INTO task_map (dag_id, task_id, run_id, map_index, length) VALUES (%s, %s, %s, -1, 2)",
                        row.dag_id, row.task_id, row.run_id,
                    )  # fmt: skip
                self._job_sleeps()
                world.worker_writes(key, "success")
                # A pod ends some time after its worker has written the row, and the job sees that first.
                self._job_sleeps()
                world.settle(launch_id, "success")
                world.close(launch_id)
        world.connection.close()


def test_a_backfill_runs_to_its_end_with_its_own_commands(world, dsn, tmp_path):
    """Mapped tasks too: a BackfillJob expands them when the executor tells of the end of what they map over."""
    with (tmp_path / "log").open("wb") as log, Workers(dsn, "counted", tmp_path / "log") as workers:
        dates = ["--start-date", "2024-03-01", "--end-date", "2024-03-01"]
        backfill = airflow("dags", "backfill", "counted", *dates, "--ignore-dependencies", log=log)
        ended = backfill.wait(150)
    said = (tmp_path / "log").read_text()
    assert ended == 0, said[-3000:]
    run_id = "backfill__2024-03-01T00:00:00+00:00"
    rows = world.sql("SELECT task_id, map_index, state, queued_by_job_id FROM task_instance WHERE run_id = %s", run_id)
    assert sorted((row.task_id, row.map_index, row.state) for row in rows) == [
        ("counts", -1, "success"),
        ("each", 0, "success"),
        ("each", 1, "success"),
    ]
    (job,) = world.sql("SELECT job_type, state FROM job WHERE id = %s", rows[0].queued_by_job_id)
    assert job.job_type == "BackfillJob"
    registered = world.sql("SELECT 1 FROM windlass.scheduler WHERE job_id = %s", rows[0].queued_by_job_id)
    assert len(registered) == 1
    assert len(workers.commands) == 3
    for command in workers.commands:
        assert {"--ignore-dependencies", "--pool"} <= set(command)


def test_a_backfill_of_a_failing_pod_fails_with_its_reason(world, dsn, tmp_path):
    run_id = "backfill__2024-04-01T00:00:00+00:00"
    key = Key("counted", "counts", run_id)
    with (tmp_path / "log").open("wb") as log:
        dates = ["--start-date", "2024-04-01", "--end-date", "2024-04-01"]
        backfill = airflow("dags", "backfill", "counted", *dates, log=log)
        until("it is handed over", lambda: world.handovers(key), seconds=60)
        launch_id = world.claim(key)
        world.fail(launch_id, "PodRejected", "the pod is invalid")
        world.close(launch_id)
        until("Airflow takes the failure", lambda: world.state(key) in ("failed", "up_for_retry"), seconds=60)
        backfill.terminate()
        backfill.wait(60)
    assert world.delivered(launch_id) or "PodRejected: the pod is invalid" in (tmp_path / "log").read_text()


def run_by_executor(key, *arguments):
    """`airflow tasks run` without --local, in this process."""
    from airflow.cli.cli_parser import get_parser
    from airflow.cli.commands.task_command import _run_task_by_executor
    from airflow.executors import executor_loader
    from airflow.models.dagbag import DagBag
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    executor_loader._loaded_executors.clear()
    dag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).get_dag(key.dag_id)
    with create_session() as session:
        ti = session.query(TaskInstance).filter_by(**key._asdict()).one()
        ti.task = dag.get_task(key.task_id)
        args = get_parser().parse_args(["tasks", "run", key.dag_id, key.task_id, key.run_id, *arguments])
        _run_task_by_executor(args, dag, ti)


def test_airflow_tasks_run_is_queued_for_a_scheduler_that_sees_to_its_end(stepper, world, new_run):
    key = Key("single", "t", new_run("single"))
    run_by_executor(key, "--ignore-dependencies")
    row = world.ti(key)
    assert (row.state, row.try_number, row.queued_by_job_id) == ("queued", 1, stepper.job.id)
    (handed,) = world.handovers(key)
    assert "--ignore-dependencies" in handed.command
    assert handed.job_id == stepper.job.id
    launch_id = world.claim(key)
    world.fail(launch_id)
    world.close(launch_id)
    until("the scheduler fails it", lambda: stepper.turn() or world.state(key) == "up_for_retry")
    until("it is delivered", lambda: stepper.turn() or world.delivered(launch_id))


def test_airflow_tasks_run_of_a_task_that_is_over_needs_force(stepper, world, new_run):
    key = Key("single", "t", new_run("single"))
    world.worker_writes(key, "success")
    with pytest.raises(AirflowException, match=r"cannot be run: .* add --force"):
        run_by_executor(key)
    assert world.state(key) == "success"
    run_by_executor(key, "--force")
    assert world.state(key) == "queued"
    with pytest.raises(AirflowException, match="already queued or running"):
        run_by_executor(key, "--force")
    assert len(world.handovers(key)) == 1


def test_without_a_scheduler_airflow_tasks_run_says_so_and_queues_nothing(world, new_run):
    key = Key("single", "t", new_run("single"))
    with pytest.raises(AirflowException, match="Start `airflow scheduler`, or run the task in this process with --loc"):
        run_by_executor(key)
    assert world.state(key) is None
    assert world.handovers(key) == []


def test_dags_test_with_the_executor_goes_through(stepper, world, dsn, tmp_path):
    with (tmp_path / "log").open("wb") as log, Workers(dsn, "counted") as workers:
        test = airflow("dags", "test", "counted", "2024-05-01", "--use-executor", log=log)
        ended = until("its end", lambda: stepper.deliver() or test.poll() is not None, seconds=150, pause=0.5)
    assert ended
    assert test.returncode == 0, (tmp_path / "log").read_text()[-3000:]
    rows = world.sql("SELECT task_id, state, queued_by_job_id FROM task_instance WHERE dag_id = 'counted' "
                     "AND run_id LIKE 'manual__2024-05-01%%'")  # fmt: skip
    assert sorted((row.task_id, row.state) for row in rows) == [("counts", "success"), ("each", "success"),
                                                                ("each", "success")]  # fmt: skip
    assert {row.queued_by_job_id for row in rows} == {stepper.job.id}
    assert len(workers.commands) == 3
