"""Outcomes reach Airflow's state machine once, and only where they belong.

Real SchedulerJobRunner and PostgreSQL, one turn of the loop at a time; workers and daemon are played by SQL.
"""

from __future__ import annotations

import pytest
from support.steps import callback_requests, queued, running, slots

from windlass_airflow import config

# --- events ---


def test_a_failure_before_the_task_began_is_one_failed_event_with_the_reason(stepper, world, new_run):
    key = queued(stepper, new_run)
    launch_id = world.claim(key)
    world.fail(launch_id, "ImagePull", "image x:1 cannot be pulled: " + "no such tag " * 60)
    stepper.deliver()
    # Its image may come before the pod is removed, and then the task runs after all.
    assert world.state(key) == "queued"
    world.close(launch_id)
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


def test_callbacks_of_a_queued_task_are_asked_for_once(stepper, world, new_run):
    key = queued(stepper, new_run, "noted")
    launch_id = world.claim(key)
    world.fail(launch_id, "ImagePull", "no such image")
    stepper.deliver()
    # Executed late, it would turn whatever a pod that starts after all has made of the task.
    assert callback_requests(world, key) == []
    world.close(launch_id)
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
