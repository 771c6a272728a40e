"""The traps of the contract with Airflow's scheduler: real SchedulerJobRunner and PostgreSQL, one turn at a time.

Workers and daemon are played by SQL.
"""

from __future__ import annotations

import logging
import re
import socket

import psycopg2
import pytest
from support.world import Key

from windlass_airflow import config


@pytest.fixture
def stepper(postgres):
    from support.stepper import Stepper

    stepper = Stepper()
    yield stepper
    stepper.die()


def queued(stepper, new_run, dag_id="single", task_id="t", **kwargs):
    key = Key(dag_id, task_id, new_run(dag_id), **kwargs)
    stepper.queue(key)
    return key


def slots(stepper):
    return {(key.dag_id, key.task_id, key.run_id) for key in stepper.executor.running}


# --- queue_command and handover ---


def test_queue_command_sees_the_old_row_and_only_notes(stepper, world, new_run, monkeypatch):
    key = Key("single", "t", new_run("single"))
    seen = []
    monkeypatch.setattr(
        "windlass_airflow.executor.hand_over",
        lambda *args: seen.append(("handed over", world.state(key))) or {},
    )
    original = type(stepper.executor).queue_command

    def spy(self, ti, command, priority=1, queue=None):
        seen.append((ti.state, ti.queued_dttm, world.state(key), len(world.handovers(key))))
        return original(self, ti, command, priority, queue)

    monkeypatch.setattr(type(stepper.executor), "queue_command", spy)
    stepper.queue(key)
    # In the hook neither the object nor the committed row is queued yet; the handover comes after the commit.
    assert seen == [("scheduled", None, "scheduled", 0), ("handed over", "queued")]


def test_handover_carries_key_try_job_and_command_and_notifies(stepper, world, new_run, dsn):
    listener = psycopg2.connect(dsn)
    listener.autocommit = True
    with listener.cursor() as cursor:
        cursor.execute("LISTEN windlass_wake")
    key = queued(stepper, new_run)
    (row,) = world.handovers(key)
    assert row.try_number == 1
    assert row.job_id == stepper.job.id
    assert row.executor is None
    assert row.command[:6] == ["airflow", "tasks", "run", "single", "t", key.run_id]
    listener.poll()
    assert [notify.channel for notify in listener.notifies] == ["windlass_wake"]
    listener.close()
    (held,) = stepper.executor.running
    assert stepper.executor.running.queued_at(held) == world.ti(key).queued_dttm


def test_the_wake_socket_is_rung_and_a_missing_or_full_one_does_not_matter(
    stepper, world, new_run, monkeypatch, tmp_path
):
    path = str(tmp_path / "wake")
    monkeypatch.setenv("WINDLASS_WAKE_SOCKET", path)
    queued(stepper, new_run)  # nobody there
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        daemon.setblocking(False)
        queued(stepper, new_run)
        assert daemon.recv(16) == b"w"
        for _ in range(2000):
            stepper.executor._wake.ring()  # returns though nobody reads
        assert not stepper.executor._wake.ring()


def test_a_mapped_task_hands_over_each_index(stepper, world, new_run):
    run_id = new_run("mapped")
    keys = [Key("mapped", "t", run_id, index) for index in range(3)]
    for key in keys:
        stepper.queue(key)
    assert [world.handovers(key)[0].command[-2:] for key in keys] == [["--map-index", str(i)] for i in range(3)]


def test_a_rolled_back_scheduling_transaction_takes_no_slot(stepper, world, new_run, monkeypatch):
    key = Key("single", "t", new_run("single"))
    original = type(stepper.executor).queue_command

    def fail_after(self, *args, **kwargs):
        original(self, *args, **kwargs)
        raise RuntimeError("the transaction breaks after queue_command")

    with monkeypatch.context() as patch:
        patch.setattr(type(stepper.executor), "queue_command", fail_after)
        for _ in range(20):
            try:
                stepper.schedule()
            except RuntimeError:
                break
    assert len(stepper.executor.queued_tasks) == 1
    assert world.state(key) == "scheduled"
    stepper.executor.heartbeat()
    assert not stepper.executor.queued_tasks
    assert not stepper.executor.running
    assert stepper.executor.slots_available == stepper.executor.parallelism
    assert not world.handovers(key)
    stepper.queue(key)
    assert len(world.handovers(key)) == 1


def test_slots_and_parallelism(postgres, world, new_run):
    from support.stepper import Stepper

    stepper = Stepper(parallelism=5)
    run_id = new_run("many")
    stepper.turn(5)
    assert (len(stepper.executor.running), stepper.executor.slots_available) == (5, 0)
    rows = world.sql("SELECT count(*) AS n FROM task_instance WHERE run_id = %s AND state = 'queued'", run_id)
    assert rows[0].n == 5
    done = next(iter(stepper.executor.running))
    key = Key(done.dag_id, done.task_id, done.run_id)
    launch_id = world.claim(key)
    world.worker_writes(key, "success")
    world.settle(launch_id, "success")
    stepper.deliver()
    assert stepper.executor.slots_available == 1
    assert world.delivered(launch_id)
    stepper.turn(2)
    assert stepper.executor.slots_available == 0
    stepper.die()


def test_a_requeued_key_takes_over_its_own_slot_at_once(stepper, world, new_run):
    """A deferral that comes back before its outcome does: Airflow's own loop would hold it back for 10 s."""
    key = queued(stepper, new_run)
    first = world.ti(key).queued_dttm
    first_launch = world.claim(key)
    world.worker_writes(key, "scheduled")  # the trigger has fired
    stepper.queue(key)
    second = world.ti(key).queued_dttm
    assert second > first
    (held,) = stepper.executor.running
    assert stepper.executor.running.queued_at(held) == second
    assert len(world.handovers(key)) == 1
    # Late outcome of the earlier queueing: the newer one, its slot and its state are untouched.
    world.fail(first_launch)
    stepper.turn(2)
    assert world.delivered(first_launch)
    assert world.state(key) == "queued"
    assert world.ti(key).queued_dttm == second
    assert held in stepper.executor.running
    assert world.logs(key, "windlass failure") == []


# --- events ---


def test_a_failure_before_the_task_began_is_one_failed_event_with_the_reason(stepper, world, new_run):
    key = queued(stepper, new_run)
    launch_id = world.claim(key)
    world.fail(launch_id, "ImagePull", "image x:1 cannot be pulled: " + "no such tag " * 60)
    stepper.deliver()
    assert world.state(key) == "up_for_retry"
    assert not stepper.executor.running
    assert not world.delivered(launch_id)  # offered, not yet seen as taken
    (mismatch,) = world.logs(key, "state mismatch")
    info = mismatch.split("Extra info: ")[1]
    assert info.startswith("ImagePull: image x:1 cannot be pulled: no such tag")
    assert len(info) <= config.INFO_MAX_CHARACTERS
    (log,) = world.logs(key, "windlass failure")
    assert "What to do: check the image's name and tag" in log
    stepper.deliver()
    assert world.delivered(launch_id)


def test_an_event_that_airflow_lost_is_offered_again(stepper, world, new_run, locker):
    key = queued(stepper, new_run)
    launch_id = world.claim(key)
    world.fail(launch_id)
    with locker.cursor() as cursor:
        cursor.execute("SELECT 1 FROM task_instance WHERE run_id = %s FOR UPDATE", (key.run_id,))
        stepper.deliver()  # Airflow skips the locked row and drops the event
    assert world.state(key) == "queued"
    assert not world.delivered(launch_id)
    locker.rollback()
    stepper.deliver()
    assert world.state(key) == "queued"  # its pause is not over
    stepper.executor._delivery._later._entries[launch_id] = (0.0, 1.0)
    stepper.deliver()
    assert world.state(key) == "up_for_retry"
    assert len(world.logs(key, "windlass failure")) == 1


def test_success_is_never_offered(stepper, world, new_run, monkeypatch):
    key = queued(stepper, new_run)
    launch_id = world.claim(key)
    world.settle(launch_id, "success")
    stepper.deliver()
    assert world.state(key) == "queued"
    assert not world.delivered(launch_id)
    # Nobody explains it: after a minute it is a failure.
    world.sql("UPDATE windlass.launch SET settled_at = now() - interval '2 minutes' WHERE launch_id = %s", launch_id)
    stepper.forget_pauses()
    offered = []
    original = stepper.executor._delivery._offer_failed
    monkeypatch.setattr(
        stepper.executor._delivery, "_offer_failed", lambda *args: offered.append(args) or original(*args)
    )
    stepper.deliver()
    assert [info.split(":")[0] for _, info in offered] == ["WorkerDidNotStart"]
    assert world.state(key) == "up_for_retry"


@pytest.mark.parametrize("state", ["success", "failed", "up_for_retry", "deferred", "up_for_reschedule", "scheduled"])
def test_an_end_that_the_worker_reported_only_frees_the_slot(stepper, world, new_run, state):
    key = queued(stepper, new_run)
    launch_id = world.claim(key)
    world.worker_starts(key, world.pod(launch_id))
    world.worker_writes(key, state)
    before = world.ti(key)
    world.settle(launch_id, "failure", "TaskFailed", "exit code 1")
    stepper.deliver()
    assert world.delivered(launch_id)
    assert not stepper.executor.running
    assert world.ti(key) == before
    assert world.logs(key, "windlass failure") == []


def test_a_backlog_is_worked_off_in_passes_of_one_size(stepper, world, new_run, monkeypatch):
    from windlass_airflow import delivery

    monkeypatch.setattr(delivery, "DELIVERY_ROWS_MAX", 2)
    kept = queued(stepper, new_run)
    world.settle(world.claim(kept), "success")  # nothing to do yet: must not hold up what is behind it
    others = [running(stepper, world, new_run) for _ in range(4)]
    for key, launch_id in others:
        world.worker_writes(key, "success")
        world.settle(launch_id, "success")
    for _ in range(3):
        stepper.deliver()
    assert all(world.delivered(launch_id) for _, launch_id in others)
    assert slots(stepper) == {(kept.dag_id, kept.task_id, kept.run_id)}
    stepper.deliver()  # from the start again
    assert stepper.executor._delivery._cursor == delivery.START


# --- callbacks: once ---


def callback_requests(world, key):
    rows = world.sql("SELECT callback_data FROM callback_request WHERE callback_type = 'TaskCallbackRequest'")
    return [row for row in rows if key.run_id in str(row.callback_data)]


def test_callbacks_of_a_queued_task_are_asked_for_once(stepper, world, new_run):
    key = queued(stepper, new_run, "noted")
    launch_id = world.claim(key)
    world.fail(launch_id, "ImagePull", "no such image")
    for _ in range(3):
        stepper.deliver()
        stepper.forget_pauses()
    assert len(callback_requests(world, key)) == 1
    assert world.launch(launch_id).callback_sent_at is not None
    assert not world.delivered(launch_id)
    assert world.state(key) == "queued"  # until the DAG processor has handled the failure
    assert not stepper.executor.running
    assert len(world.logs(key, "windlass failure")) == 1
    assert world.logs(key, "state mismatch") == []  # no event, so Airflow sends no request of its own
    world.worker_writes(key, "up_for_retry")
    stepper.deliver()
    assert world.delivered(launch_id)


def test_the_mark_is_committed_before_the_callback_is_sent(stepper, world, new_run, monkeypatch):
    key = queued(stepper, new_run, "noted")
    launch_id = world.claim(key)
    world.worker_starts(key, world.pod(launch_id))
    marks = []

    def crash(request):
        marks.append(world.launch(launch_id).callback_sent_at)
        raise ConnectionError("the pipe broke")

    monkeypatch.setattr(stepper.executor.callback_sink, "send", crash)
    world.fail(launch_id)
    stepper.deliver()
    stepper.forget_pauses()
    stepper.deliver()
    assert len(marks) == 1  # never again: a second one could come back on a newer try
    assert marks[0] is not None


def test_callbacks_of_a_running_task_are_asked_for_once(stepper, world, new_run):
    key = queued(stepper, new_run, "noted")
    launch_id = world.claim(key)
    world.worker_starts(key, world.pod(launch_id))
    world.fail(launch_id)
    for _ in range(3):
        stepper.deliver()
        stepper.forget_pauses()
    assert len(callback_requests(world, key)) == 1
    assert "OomKilled: container base used 1Gi of 1Gi" in str(callback_requests(world, key)[0].callback_data)
    assert world.state(key) == "running"


def test_no_callback_when_zombie_detection_sends_its_own(stepper, world, new_run):
    key = queued(stepper, new_run, "noted")
    launch_id = world.claim(key)
    world.worker_starts(key, world.pod(launch_id), job_state="success")
    world.fail(launch_id)
    stepper.deliver()
    assert callback_requests(world, key) == []
    assert world.launch(launch_id).callback_sent_at is None
    stepper.runner._find_and_purge_zombies()
    assert len(callback_requests(world, key)) == 1


def test_a_restarting_task_gets_its_callback_though_its_job_has_ended(stepper, world, new_run):
    """Zombie detection looks at running tasks only."""
    key = queued(stepper, new_run, "noted")
    launch_id = world.claim(key)
    world.worker_starts(key, world.pod(launch_id), job_state="success")
    world.worker_writes(key, "restarting")
    world.fail(launch_id)
    stepper.deliver()
    assert len(callback_requests(world, key)) == 1


@pytest.mark.parametrize("state", ["queued", "running"])
def test_e_mail_is_not_sent_from_the_scheduler(stepper, world, new_run, monkeypatch, state):
    monkeypatch.setattr("airflow.models.taskinstance.send_email", lambda *a, **k: pytest.fail("mail in the scheduler"))
    key = queued(stepper, new_run, "mailed")
    launch_id = world.claim(key)
    if state == "running":
        world.worker_starts(key, world.pod(launch_id))
    world.fail(launch_id)
    stepper.deliver()
    assert len(callback_requests(world, key)) == 1
    assert world.state(key) == state


def test_a_task_with_mail_switched_off_needs_no_callback(stepper, world, new_run):
    key = queued(stepper, new_run, "switched_off")
    launch_id = world.claim(key)
    world.worker_starts(key, world.pod(launch_id))
    world.fail(launch_id)
    stepper.deliver()
    assert callback_requests(world, key) == []
    assert world.state(key) == "failed"


# --- a running task's death ---


def running(stepper, world, new_run, dag_id="single", task_id="t", **worker):
    key = queued(stepper, new_run, dag_id, task_id)
    launch_id = world.claim(key)
    world.worker_starts(key, worker.pop("hostname", None) or world.pod(launch_id), **worker)
    return key, launch_id


def test_a_dead_worker_fails_its_task_at_once_with_the_reason(stepper, world, new_run):
    key, launch_id = running(stepper, world, new_run)
    world.fail(launch_id)
    stepper.deliver()
    assert world.state(key) == "up_for_retry"
    assert not stepper.executor.running
    (log,) = world.logs(key, "windlass failure")
    assert log.startswith("OomKilled: container base used 1Gi of 1Gi\nWhat to do: raise resources.limits.memory")
    assert len(world.logs(key, "failed")) == 1  # Airflow's own row of handle_failure
    history = world.sql("SELECT state FROM task_instance_history WHERE run_id = %s", key.run_id)
    assert len(history) == 1
    stepper.deliver()
    assert world.delivered(launch_id)


def test_a_dead_worker_without_retries_left_is_failed(stepper, world, new_run):
    key, launch_id = running(stepper, world, new_run, "plain", "once")
    world.fail(launch_id)
    stepper.deliver()
    assert world.state(key) == "failed"


def test_a_task_of_a_dag_that_is_gone_is_ended_all_the_same(stepper, world, new_run, monkeypatch):
    key, launch_id = running(stepper, world, new_run)
    monkeypatch.setattr("windlass_airflow.running_death.TaskCache.get", lambda *args: None)
    world.fail(launch_id)
    stepper.deliver()
    assert world.state(key) == "up_for_retry"


def test_the_end_of_another_pod_leaves_the_running_task_alone(stepper, world, new_run):
    """I6: pod-a runs the task, pod-b of the same try ends."""
    key = queued(stepper, new_run)
    launch_id = world.claim(key)
    other = world.pod(launch_id)[:-8] + "otherpod"
    world.worker_starts(key, other, heartbeat_age=3600)
    before = world.ti(key)
    world.fail(launch_id)
    stepper.deliver()
    stepper.forget_pauses()
    stepper.deliver()
    assert world.ti(key) == before
    assert not world.delivered(launch_id)
    world.worker_writes(key, "success")
    stepper.forget_pauses()
    stepper.deliver()
    assert world.delivered(launch_id)
    assert world.state(key) == "success"


def test_a_hidden_hostname_waits_for_two_missed_heartbeats(stepper, world, new_run):
    key, launch_id = running(stepper, world, new_run, hostname="10.1.2.3", heartbeat_age=1)
    world.fail(launch_id)
    stepper.deliver()
    assert world.state(key) == "running"
    world.sql("UPDATE job SET latest_heartbeat = now() - interval '11 seconds' WHERE id = %s", world.ti(key).job_id)
    stepper.forget_pauses()
    stepper.deliver()
    assert world.state(key) == "up_for_retry"


def test_a_pod_given_up_while_it_waited_may_have_started_after_all(stepper, world, new_run):
    key, launch_id = running(stepper, world, new_run)
    world.fail(launch_id, "PendingTimeout", "the pod did not start within 300 s")
    stepper.deliver()
    assert world.state(key) == "running"  # a body runs in it, and its LocalTaskJob says so
    world.sql("UPDATE job SET latest_heartbeat = now() - interval '11 seconds' WHERE id = %s", world.ti(key).job_id)
    stepper.forget_pauses()
    stepper.deliver()
    assert world.state(key) == "up_for_retry"


def test_a_restarting_task_is_retried_when_its_pod_ends(stepper, world, new_run):
    """Airflow ignores an executor's failure for a restarting task for ever."""
    key, launch_id = running(stepper, world, new_run, "plain", "once")
    world.worker_writes(key, "restarting")
    world.fail(launch_id, "PodDeleted", "somebody deleted the pod")
    stepper.deliver()
    assert world.state(key) == "up_for_retry"  # cleared: it runs again although it has no retries


def test_a_row_that_changes_between_reading_and_locking_is_left_alone(stepper, world, new_run, monkeypatch):
    key, launch_id = running(stepper, world, new_run)
    world.fail(launch_id)
    delivery = stepper.executor._delivery
    original = delivery._undelivered

    def then_the_worker_reports():
        found = original()
        world.worker_writes(key, "success")
        return found

    monkeypatch.setattr(delivery, "_undelivered", then_the_worker_reports)
    stepper.deliver()
    assert world.state(key) == "success"
    assert world.logs(key, "windlass failure") == []


def test_a_locked_row_is_skipped_without_waiting(stepper, world, new_run, locker):
    key, launch_id = running(stepper, world, new_run)
    world.fail(launch_id)
    with locker.cursor() as cursor:
        cursor.execute("SELECT 1 FROM task_instance WHERE run_id = %s FOR UPDATE", (key.run_id,))
        stepper.deliver()
        assert world.state(key) == "running"
    locker.rollback()
    stepper.forget_pauses()
    stepper.deliver()
    assert world.state(key) == "up_for_retry"


def test_one_broken_task_does_not_hold_up_the_others(stepper, world, new_run, monkeypatch, caplog):
    from airflow.models.taskinstance import TaskInstance

    bad, bad_launch = running(stepper, world, new_run)
    good, good_launch = running(stepper, world, new_run)
    original = TaskInstance.handle_failure

    def listener_raises(self, *args, **kwargs):
        if self.run_id == bad.run_id:
            raise ValueError("a listener broke")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(TaskInstance, "handle_failure", listener_raises)
    world.fail(bad_launch)
    world.fail(good_launch)
    stepper.deliver()
    assert world.state(good) == "up_for_retry"
    assert world.state(bad) == "running"
    assert any("Could not hand the failure of" in record.getMessage() for record in caplog.records)


def test_outcomes_of_a_finished_run_are_closed_without_a_write(stepper, world, new_run):
    key, launch_id = running(stepper, world, new_run)
    world.sql("UPDATE dag_run SET state = 'failed' WHERE run_id = %s", key.run_id)
    before = world.ti(key)
    world.fail(launch_id)
    stepper.deliver()
    assert world.delivered(launch_id)
    assert world.ti(key) == before


def test_outcomes_of_others_are_closed_only_when_nothing_is_left_to_deliver(stepper, world, new_run):
    key, launch_id = running(stepper, world, new_run)
    over, over_launch = running(stepper, world, new_run)
    for each in (key, over):
        world.sql("UPDATE task_instance SET queued_by_job_id = 1000000 WHERE run_id = %s", each.run_id)
        world.sql("UPDATE windlass.launch SET scheduler_job_id = 1000000 WHERE run_id = %s", each.run_id)
    world.worker_writes(over, "success")
    world.fail(launch_id)
    world.fail(over_launch)
    stepper.deliver()
    assert not world.delivered(over_launch)  # its owner comes first
    world.sql("UPDATE windlass.launch SET settled_at = now() - interval '2 minutes' WHERE outcome IS NOT NULL")
    stepper.deliver()
    assert world.delivered(over_launch)
    assert not world.delivered(launch_id)
    assert world.state(key) == "running"


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


def age(world, key, seconds):
    world.sql(
        "UPDATE task_instance SET queued_dttm = queued_dttm - make_interval(secs => %s) WHERE run_id = %s",
        seconds, key.run_id,
    )  # fmt: skip


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
    assert world.state(key) == "scheduled"


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


# --- degraded ---


@pytest.fixture
def without_schema(world):
    world.sql("ALTER SCHEMA windlass RENAME TO hidden")
    yield
    world.sql("ALTER SCHEMA hidden RENAME TO windlass")


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


def test_a_backfill_is_refused(postgres):
    from airflow.exceptions import AirflowException
    from airflow.jobs.job import Job
    from airflow.utils.session import create_session

    from windlass_airflow import WindlassExecutor

    executor = WindlassExecutor()
    job = Job(executor=executor)
    job.job_type = "BackfillJob"
    with create_session() as session:
        session.add(job)
    executor.job_id = job.id
    with pytest.raises(AirflowException, match="this is BackfillJob"):
        executor.start()


def test_airflow_tasks_run_is_refused_before_anything_is_queued(world, new_run):
    from argparse import Namespace

    from airflow.cli.commands.task_command import _run_task_by_executor
    from airflow.exceptions import AirflowException
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    key = Key("single", "t", new_run("single"))
    with create_session() as session:
        ti = session.query(TaskInstance).filter_by(**key._asdict()).one()
    with pytest.raises(AirflowException, match="Start a DAG run with `airflow dags trigger`"):
        _run_task_by_executor(Namespace(ship_dag=False), None, ti)
    assert world.handovers(key) == []
    assert world.state(key) is None


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
