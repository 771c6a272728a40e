"""What is queued reaches the daemon, after the commit and with the right slots.

Real SchedulerJobRunner and PostgreSQL, one turn of the loop at a time; workers and daemon are played by SQL.
"""

from __future__ import annotations

import socket

import psycopg2
from support.steps import queued
from support.world import Key


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
