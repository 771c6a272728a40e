"""Tasks of a scheduler that is gone, tasks stuck in queued, and the executor's own records.

Real SchedulerJobRunner and PostgreSQL, one turn of the loop at a time; workers and daemon are played by SQL.
"""

from __future__ import annotations

import logging

import psycopg2
import pytest
from support.steps import age, queued, running, slots

# --- hook sessions, adoption ---


def test_adoption_carries_the_new_job_id_and_keeps_the_schedulers_locks(stepper, world, new_run, dsn, monkeypatch):
    from support.stepper import Stepper

    started, _ = running(stepper, world, new_run)
    waiting = queued(stepper, new_run)  # not claimed
    finished, launch_id = running(stepper, world, new_run)
    cleared, cleared_launch = running(stepper, world, new_run)  # restarting, pod gone, outcome taken
    world.settle(cleared_launch, "superseded")
    world.worker_writes(cleared, "restarting")
    world.fail(launch_id)
    stepper.die()
    heir = Stepper()
    locks = []
    original = type(heir.executor).try_adopt_task_instances

    def spy(self, tis):
        left = original(self, tis)
        other = psycopg2.connect(dsn)
        with other.cursor() as cursor:
            cursor.execute("SELECT 1 FROM task_instance WHERE run_id = %s FOR UPDATE SKIP LOCKED", (started.run_id,))
            locks.append(cursor.fetchall())
        other.close()
        return left

    monkeypatch.setattr(type(heir.executor), "try_adopt_task_instances", spy)
    heir.runner.adopt_or_reset_orphaned_tasks()
    assert locks == [[]]  # the scheduler's row locks still stand
    for key, state in ((started, "running"), (waiting, "queued"), (finished, "running")):
        row = world.ti(key)
        assert (row.state, row.queued_by_job_id, row.try_number) == (state, heir.job.id, 1)
        assert (key.dag_id, key.task_id, key.run_id) in slots(heir)
    assert (world.ti(cleared).state, world.ti(cleared).queued_by_job_id) == (None, None)
    heir.deliver()
    assert world.state(finished) == "up_for_retry"  # the heir delivers
    heir.die()


def test_adoption_is_one_query(stepper, world, new_run, postgres):
    from airflow import settings
    from sqlalchemy import event
    from support.stepper import Stepper

    new_run("many")
    stepper.turn(5)
    queued_now = len(stepper.executor.running)
    assert queued_now == 16  # [core] max_active_tasks_per_dag
    stepper.die()
    heir = Stepper()
    statements = []

    def count(conn, cursor, statement, *rest):
        statements.append(statement)

    original = type(heir.executor).try_adopt_task_instances

    def counted(tis):
        event.listen(settings.engine, "before_cursor_execute", count)
        try:
            return original(heir.executor, tis)
        finally:
            event.remove(settings.engine, "before_cursor_execute", count)

    heir.executor.try_adopt_task_instances = counted
    heir.runner.adopt_or_reset_orphaned_tasks()
    assert len(heir.executor.running) == queued_now
    assert len(statements) == 2  # the limits and the query
    heir.die()


# --- stuck in queued ---


def test_a_stuck_task_whose_pod_does_not_start_is_withdrawn_and_queued_again(stepper, world, new_run):
    key = queued(stepper, new_run)
    age(world, key, 100)
    launch_id = world.claim(key)
    stepper.runner._handle_tasks_stuck_in_queued()
    stepper.flush_log()
    assert world.launch(launch_id).withdrawn_at is not None
    assert world.state(key) == "scheduled"
    assert not stepper.executor.running
    (log,) = world.logs(key, "windlass withdrawn")
    assert f"pod etl/{world.pod(launch_id)} did not start (launch created)" in log
    stepper.queue(key)
    assert world.ti(key).try_number == 1
    world.settle(launch_id, "withdrawn")
    stepper.deliver()
    assert world.delivered(launch_id)
    assert world.state(key) == "queued"


@pytest.mark.parametrize(
    ("change", "age_seconds"),
    [
        (None, 10),  # not taken by a daemon, within hold_limit_seconds (30 here)
        ("stage = 'claimed', pod_uid = NULL", 10),
        ("stage = 'running', running_at = now()", 100),
        ("stage = 'settled', outcome = 'failure', reason = 'ImagePull', settled_at = now()", 100),
    ],
)
def test_a_stuck_task_that_is_held_for_a_known_reason_stays(stepper, world, new_run, change, age_seconds):
    key = queued(stepper, new_run)
    age(world, key, age_seconds)
    if change:
        launch_id = world.claim(key)
        world.sql(f"UPDATE windlass.launch SET {change} WHERE launch_id = %s", launch_id)
    before = world.ti(key)
    stepper.runner._handle_tasks_stuck_in_queued()
    assert world.ti(key) == before
    assert stepper.executor.running
    assert world.logs(key, "stuck in queued reschedule") == []


@pytest.mark.parametrize("claimed", [True, False])
def test_holding_is_bounded(stepper, world, new_run, claimed):
    key = queued(stepper, new_run)
    age(world, key, 31)
    if claimed:
        launch_id = world.claim(key)
        world.sql("UPDATE windlass.launch SET stage = 'claimed', pod_uid = NULL WHERE launch_id = %s", launch_id)
    stepper.runner._handle_tasks_stuck_in_queued()
    stepper.flush_log()
    assert world.state(key) == "scheduled"
    (log,) = world.logs(key, "windlass withdrawn")
    explain = f"windlass explain {key.dag_id} {key.task_id} {key.run_id}"
    why = f"could not be created; `{explain}` says why." if claimed else "no daemon has launched it."
    assert log.endswith(why)


def test_a_task_that_starts_during_the_withdrawal_is_vetoed(stepper, world, new_run, monkeypatch):
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    from windlass_airflow import revocation

    key = queued(stepper, new_run)
    age(world, key, 100)
    launch_id = world.claim(key)
    original = revocation.hold

    def then_it_starts(row):
        original(row)
        world.worker_starts(key, world.pod(launch_id))

    monkeypatch.setattr(revocation, "hold", then_it_starts)
    with create_session() as session:
        ti = session.query(TaskInstance).filter_by(**key._asdict()).one()
        with pytest.raises(NotImplementedError, match="no longer this queueing in queued"):
            stepper.executor.revoke_task(ti=ti)
    assert world.launch(launch_id).withdrawn_at is None
    assert world.state(key) == "running"
    assert stepper.executor.cleanup_stuck_queued_tasks([ti]) == []


def test_before_airflow_2_10_4_a_stuck_task_fails_this_try_unless_it_is_held(stepper, world, new_run, monkeypatch):
    """Its scheduler knows no requeue: it asks for a clean-up, and handles the failure with its next turn."""
    from airflow.executors.base_executor import BaseExecutor
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    stuck, held = queued(stepper, new_run), queued(stepper, new_run)
    for key in (stuck, held):
        age(world, key, 100)
    launches = {key: world.claim(key) for key in (stuck, held)}
    world.sql("UPDATE windlass.launch SET stage = 'running', running_at = now() WHERE launch_id = %s", launches[held])
    with create_session() as session:
        tis = [session.query(TaskInstance).filter_by(**key._asdict()).one() for key in (stuck, held)]
        session.expunge_all()
    monkeypatch.delattr(BaseExecutor, "revoke_task", raising=False)
    assert stepper.executor.cleanup_stuck_queued_tasks(tis) == [repr(tis[0])]
    assert world.launch(launches[stuck]).withdrawn_at is not None
    assert world.launch(launches[held]).withdrawn_at is None
    stepper.deliver()
    assert (world.state(stuck), world.state(held)) == ("up_for_retry", "queued")
    assert world.ti(stuck).try_number == 1
    assert len(world.logs(stuck, "windlass withdrawn")) == 1


# --- housekeeping ---


def test_slots_of_cleared_tasks_are_found_by_housekeeping(stepper, world, new_run):
    cleared = queued(stepper, new_run)
    kept = queued(stepper, new_run)
    pod_lives = queued(stepper, new_run)
    world.claim(pod_lives)
    for key in (cleared, pod_lives):
        world.sql("UPDATE task_instance SET state = NULL WHERE run_id = %s", key.run_id)
    stepper.housekeep()
    assert slots(stepper) == {(k.dag_id, k.task_id, k.run_id) for k in (kept, pod_lives)}


def test_the_scheduler_row_says_who_it_is_and_is_refreshed(stepper, world):
    (row,) = world.sql("SELECT * FROM windlass.scheduler WHERE job_id = %s", stepper.job.id)
    from airflow.version import version

    assert row.executor_names == ["WindlassExecutor", "windlass_airflow.WindlassExecutor"]
    assert (row.is_default, row.airflow_version, row.plugin_version) == (True, version, "0.1.0")
    assert (row.has_pod_mutation_hook, row.parallelism) == (False, 64)
    stepper.housekeep()
    (again,) = world.sql("SELECT seen_at FROM windlass.scheduler WHERE job_id = %s", stepper.job.id)
    assert again.seen_at > row.seen_at


def test_an_absent_daemon_is_named_once_and_its_return_too(stepper, world, new_run, caplog):
    key = queued(stepper, new_run)
    world.sql("UPDATE windlass.handover SET made_at = now() - interval '40 seconds'")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        stepper.housekeep()
        stepper.housekeep()
        world.claim(key)
        stepper.housekeep()
    said = [record.getMessage() for record in caplog.records if "daemon" in record.getMessage()]
    assert len(said) == 2
    assert "`kubectl logs <scheduler pod> -c windlass`" in said[0]
    assert said[1] == "A Windlass daemon takes queued tasks again."


def test_a_pod_mutation_hook_is_reported(stepper):
    from airflow import settings
    from airflow.policies import hookimpl

    from windlass_airflow import registration

    class Hook:
        @hookimpl
        def pod_mutation_hook(self, pod):
            """Changes nothing."""

    hook = Hook()
    settings.POLICY_PLUGIN_MANAGER.register(hook)
    try:
        assert registration.has_pod_mutation_hook()
    finally:
        settings.POLICY_PLUGIN_MANAGER.unregister(hook)
    assert not registration.has_pod_mutation_hook()
