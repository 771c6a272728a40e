"""With something missing the scheduler goes on, and the log says what to do.

Real SchedulerJobRunner and PostgreSQL, one turn of the loop at a time; workers and daemon are played by SQL.
"""

from __future__ import annotations

import logging
import re

import pytest
from support.steps import age, queued, running, slots


@pytest.fixture
def without_schema(world):
    world.sql("ALTER SCHEMA windlass RENAME TO hidden")
    yield
    world.sql("ALTER SCHEMA hidden RENAME TO windlass")


# --- degraded ---


def test_a_missing_schema_stops_nothing_and_is_named(stepper, world, new_run, caplog, request):
    held = queued(stepper, new_run)
    request.getfixturevalue("without_schema")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        key = queued(stepper, new_run)  # Airflow goes on scheduling
        stepper.turn(2)
        assert list(stepper.executor.try_adopt_task_instances([])) == []
    warnings = [record.getMessage() for record in caplog.records if "Windlass could not" in record.getMessage()]
    assert len(warnings) == 2  # one for the handover, one for sync; not one per turn
    assert all("run `windlass migrate`" in warning for warning in warnings)
    assert {(k.dag_id, k.task_id, k.run_id) for k in (held, key)} == slots(stepper)


def test_after_trouble_the_queueing_is_learned_and_delivery_goes_on(stepper, world, new_run):
    world.sql("ALTER SCHEMA windlass RENAME TO hidden")
    try:
        key = queued(stepper, new_run)
    finally:
        world.sql("ALTER SCHEMA hidden RENAME TO windlass")
    (held,) = stepper.executor.running
    assert stepper.executor.running.queued_at(held) is None
    stepper.executor._registering._retry_at = 0.0
    stepper.housekeep()
    assert stepper.executor.running.queued_at(held) == world.ti(key).queued_dttm
    assert not stepper.executor._registering.degraded


def test_a_missing_grant_is_named(stepper, new_run, monkeypatch, caplog, world, dsn):
    import sqlalchemy
    from airflow import settings

    world.sql("DROP ROLE IF EXISTS bare")
    world.sql("CREATE ROLE bare LOGIN")
    world.sql("GRANT pg_read_all_data, pg_write_all_data TO bare")
    world.sql("REVOKE ALL ON SCHEMA windlass FROM bare")
    bare = sqlalchemy.create_engine(dsn.replace("postgres@", "bare@"), future=True)
    world.sql("REVOKE pg_read_all_data, pg_write_all_data FROM bare")
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(settings, "engine", bare)
        stepper.housekeep()
    bare.dispose()
    world.sql("DROP ROLE bare")
    assert any("grant Airflow's database user the plugin's rights" in record.getMessage() for record in caplog.records)


def test_the_shipped_grants_are_enough(stepper, world, new_run, monkeypatch, caplog, dsn):
    import sqlalchemy
    from airflow import settings
    from support.airflow_home import PACKAGE

    grants = (PACKAGE.parents[1] / "deploy" / "sql" / "grants.sql").read_text()
    world.sql("CREATE ROLE airflow_user LOGIN")
    world.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO airflow_user")
    world.sql("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO airflow_user")
    for grant in re.findall(r'^GRANT [^;]*:"airflow_role";', grants, re.MULTILINE):
        world.sql(grant.replace(':"airflow_role"', "airflow_user"))
    role = sqlalchemy.create_engine(dsn.replace("postgres@", "airflow_user@"), future=True)
    try:
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            patch.setattr(settings, "engine", role)
            key, launch_id = running(stepper, world, new_run)
            _, noted_launch = running(stepper, world, new_run, "noted")
            stuck = queued(stepper, new_run)
            age(world, stuck, 100)
            stuck_launch = world.claim(stuck)
            stepper.executor.start()
            stepper.housekeep()
            world.fail(launch_id)
            world.fail(noted_launch)
            stepper.deliver()
            stepper.deliver()
            stepper.runner._handle_tasks_stuck_in_queued()
    finally:
        role.dispose()
        world.sql("DROP OWNED BY airflow_user")
        world.sql("DROP ROLE airflow_user")
    assert (world.state(key), world.delivered(launch_id)) == ("up_for_retry", True)
    assert world.launch(noted_launch).callback_sent_at is not None
    assert world.launch(stuck_launch).withdrawn_at is not None
    assert not [record for record in caplog.records if "Windlass" in record.getMessage()]


def test_an_unreachable_database_is_left_in_peace_for_a_while(stepper, monkeypatch, caplog):
    import sqlalchemy
    from airflow import settings

    tries = []
    away = sqlalchemy.create_engine("postgresql+psycopg2://postgres:s3cret@127.0.0.1:1/airflow", future=True)
    sqlalchemy.event.listen(away, "do_connect", lambda *args: tries.append(1))
    with caplog.at_level(logging.WARNING):
        monkeypatch.setattr(settings, "engine", away)
        for _ in range(5):
            stepper.executor._housekeeping._due_at = 0.0
            stepper.executor.heartbeat()
        assert len(tries) == 2  # one to register, one to deliver, then the pause
    assert "[database] sql_alchemy_conn" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_blocked_windlass_table_costs_the_scheduler_two_seconds_at_most(stepper, new_run, locker, caplog):
    import time

    with locker.cursor() as cursor:
        cursor.execute("LOCK TABLE windlass.handover IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        with caplog.at_level(logging.WARNING):
            queued(stepper, new_run)
        assert time.monotonic() - started < 5
    locker.rollback()
    assert "over the plugin's limit of 2000 ms" in caplog.text


# --- other ways to load an executor ---


def test_the_log_page_names_the_pod_and_never_fails(stepper, world, new_run, request):
    key, launch_id = running(stepper, world, new_run)
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        ti = session.query(TaskInstance).filter_by(**key._asdict()).one()
    (message,), logs = stepper.executor.get_task_log(ti, 1)
    assert f"kubectl -n etl logs {world.pod(launch_id)} --all-containers --follow" in message
    assert logs == []
    assert stepper.executor.get_task_log(ti, 7)[0] == ["Windlass has no launch of this try: it may be kept no longer."]
    request.getfixturevalue("without_schema")
    assert "run `windlass migrate`" in stepper.executor.get_task_log(ti, 1)[0][0]


def test_the_kubernetes_commands_stay_on_the_command_line():
    from windlass_airflow import WindlassExecutor

    pytest.importorskip("airflow.providers.cncf.kubernetes", reason="the provider is not installed")
    assert [group.name for group in WindlassExecutor.get_cli_commands()] == ["kubernetes"]
