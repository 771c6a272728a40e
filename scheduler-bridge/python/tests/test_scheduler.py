"""A real scheduler process with its DAG processor, real PostgreSQL; daemon and workers are played by SQL."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support.polling import until
from support.world import Key

QUEUED_TIMEOUT = 12


@pytest.fixture(scope="module")
def folder(postgres):
    folder = Path(os.environ["AIRFLOW_HOME"]) / "schedulers"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def start(folder, dsn):
    """Starts schedulers and ends the last one; a test that needs it alone kills it itself."""
    from support.process import SchedulerProcess
    from support.world import World

    world = World(dsn)
    started = []

    def start(**environment):
        times = {
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": str(QUEUED_TIMEOUT),
            "AIRFLOW__WINDLASS__HOLD_LIMIT_SECONDS": "600",
        }
        started.append(SchedulerProcess(folder, world, **{**times, **environment}))
        return started[-1]

    start.last = lambda: started[-1] if started and started[-1].alive() else start()
    yield start
    for scheduler in started:
        scheduler.kill()


@pytest.fixture
def scheduler(start):
    scheduler = start.last()
    yield scheduler
    assert scheduler.alive(), scheduler.tail()


def queued(world, key, seconds=40):
    until(f"{key} is handed over", lambda: world.state(key) == "queued" and world.handovers(key), seconds)
    return world.claim(key)


def started(world, key):
    launch_id = queued(world, key)
    world.worker_starts(key, world.pod(launch_id))
    return launch_id


def callbacks(key):
    path = Path(os.environ["AIRFLOW_HOME"]) / "callbacks"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if key.run_id in line]


def test_a_run_goes_through(scheduler, world, new_run):
    run_id = new_run("plain")
    keys = [Key("plain", task_id, run_id) for task_id in ("once", "again")]
    launches = [started(world, key) for key in keys]
    for key, launch_id in zip(keys, launches, strict=True):
        assert world.ti(key).queued_by_job_id == scheduler.job_id
        world.worker_writes(key, "success")
        world.settle(launch_id, "success")
    until("both are delivered", lambda: all(world.delivered(launch_id) for launch_id in launches))
    state = "SELECT state FROM dag_run WHERE run_id = %s"
    until("the run succeeds", lambda: world.sql(state, run_id)[0].state == "success")


def test_a_killed_worker_is_retried_within_five_seconds_with_the_reason_in_the_event_log(scheduler, world, new_run):
    key = Key("single", "t", new_run("single"))
    launch_id = started(world, key)
    world.fail(launch_id, "Killed", "the worker was killed by signal 9")
    at = time.monotonic()
    until("it is up for retry", lambda: world.state(key) == "up_for_retry")
    assert time.monotonic() - at < 5
    (log,) = world.logs(key, "windlass failure")
    assert log.startswith("Killed: the worker was killed by signal 9\nWhat to do: see who stopped the pod")
    until("it is delivered", lambda: world.delivered(launch_id))
    assert world.logs(key, "heartbeat timeout") == []


@pytest.mark.parametrize("begun", [True, False])
def test_callbacks_run_once(scheduler, world, new_run, begun):
    key = Key("noted", "t", new_run("noted"))
    launch_id = started(world, key) if begun else queued(world, key)
    world.fail(launch_id, "Evicted", "the node ran out of memory")
    until("the DAG processor has retried it", lambda: world.state(key) == "up_for_retry", 60)
    until("it is delivered", lambda: world.delivered(launch_id))
    # A whole task later there is still one call of the callback, which knows the reason.
    other = Key("single", "t", new_run("single"))
    other_launch = queued(world, other)
    world.fail(other_launch)
    until("the other is delivered", lambda: world.delivered(other_launch))
    assert len(callbacks(key)) == 1
    assert "Evicted: the node ran out of memory" in callbacks(key)[0]
    assert world.ti(key).try_number == 1


def test_a_hidden_schema_stops_neither_scheduling_nor_the_scheduler(scheduler, world, new_run):
    before = Key("single", "t", new_run("single"))
    launch_id = started(world, before)
    world.sql("ALTER SCHEMA windlass RENAME TO hidden")
    try:
        during = Key("single", "t", new_run("single"))
        until("Airflow goes on queueing", lambda: world.state(during) == "queued")
        until("it is said", lambda: "run `windlass migrate`" in scheduler.log.read_text())
    finally:
        world.sql("ALTER SCHEMA hidden RENAME TO windlass")
    assert world.handovers(during) == []
    world.claim(during)  # the daemon's full pass
    world.fail(launch_id)
    until("delivery goes on", lambda: world.state(before) == "up_for_retry", 45)
    # Each of the three things that it does there says so once; a pass over stuck tasks speaks of each task.
    lines = [line for line in scheduler.log.read_text().splitlines() if "run `windlass migrate`" in line]
    said = [line for line in lines if "has been queued for long, and stays" not in line]
    assert len(said) <= 3, lines

    def hands_over():
        key = Key("single", "t", new_run("single"))
        until("it is queued", lambda: world.state(key) == "queued")
        return world.handovers(key)

    # What is queued in the pause after a failure is left to the full pass.
    until("it hands over again", hands_over, 60, pause=1)


def test_a_task_stuck_in_queued_is_requeued(scheduler, world, new_run):
    key = Key("single", "t", new_run("single"))
    launch_id = queued(world, key)
    queued_at = world.ti(key).queued_dttm
    until("it is withdrawn", lambda: world.launch(launch_id).withdrawn_at, QUEUED_TIMEOUT + 20)
    until("and queued again", lambda: world.handovers(key))
    again = world.ti(key)
    assert (again.state, again.try_number) == ("queued", 1)
    assert again.queued_dttm > queued_at
    assert any("did not start" in text for text in until("why", lambda: world.logs(key, "windlass withdrawn")))


def test_a_task_that_no_daemon_takes_is_held(scheduler, world, new_run):
    key = Key("single", "t", new_run("single"))
    until("it is queued", lambda: world.state(key) == "queued")
    queued_at = world.ti(key).queued_dttm
    name = f"run_id='{key.run_id}'"
    held = "no daemon has taken it yet"
    until(
        "the veto is said",
        lambda: any(name in line and held in line for line in scheduler.log.read_text().splitlines()),
        QUEUED_TIMEOUT + 20,
    )
    assert (world.state(key), world.ti(key).queued_dttm) == ("queued", queued_at)


@pytest.mark.parametrize("ending", ["kill", "terminate"])
def test_adoption_after_an_end(start, world, new_run, ending):
    old = start.last()
    runs = {name: Key("single", "t", new_run("single")) for name in ("running", "waiting", "unclaimed", "dead")}
    launches = {"running": started(world, runs["running"]), "waiting": queued(world, runs["waiting"])}
    launches["dead"] = started(world, runs["dead"])
    until("it is queued", lambda: world.state(runs["unclaimed"]) == "queued")
    getattr(old, ending)()
    world.fail(launches["dead"])  # while no scheduler is there
    queued_at = {name: world.ti(key).queued_dttm for name, key in runs.items()}
    new = start()
    for name in ("running", "waiting", "unclaimed"):
        until(f"{name} is adopted", lambda name=name: world.ti(runs[name]).queued_by_job_id == new.job_id)
    until("the death is delivered", lambda: world.state(runs["dead"]) == "up_for_retry")
    # Nothing was reset: the same try, the same queueing.
    for name, key in runs.items():
        assert (world.ti(key).try_number, world.ti(key).queued_dttm) == (1, queued_at[name]), name
    world.worker_writes(runs["running"], "success")
    world.settle(launches["running"], "success")
    until("the heir closes it", lambda: world.delivered(launches["running"]))
    assert new.alive()


def test_beside_another_executor_under_an_alias(start, world, new_run, dsn):
    start.last().terminate()
    executors = {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor,w:windlass_airflow.WindlassExecutor"}
    scheduler = start(**executors)
    (row,) = world.sql("SELECT * FROM windlass.scheduler WHERE job_id = %s", scheduler.job_id)
    assert row.executor_names == ["WindlassExecutor", "w", "windlass_airflow.WindlassExecutor"]
    assert not row.is_default
    until("the DAG processor has read it", lambda: world.sql("SELECT 1 FROM serialized_dag WHERE dag_id = 'chosen'"))
    run_id = new_run("chosen")
    for task_id, name in (("alias", "w"), ("path", "windlass_airflow.WindlassExecutor"), ("bare", "WindlassExecutor")):
        key = Key("chosen", task_id, run_id)
        until(f"{key} is handed over", lambda key=key: world.handovers(key))
        assert [row.executor for row in world.handovers(key)] == [name]
        launch_id = world.claim(key)
        world.fail(launch_id)
        until("it fails", lambda key=key: world.state(key) == "failed")
    local = Key("chosen", "local", run_id)
    until("LocalExecutor has run its own", lambda: world.state(local) == "success", 60)
    assert world.handovers(local) == []
    scheduler.terminate()
