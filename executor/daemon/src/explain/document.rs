//! The story as one JSON document. Times are RFC 3339.

use serde_json::{Value, json};
use windlass_core::doctor::{Job, LaunchFacts, Story, TaskFacts, Why};
use windlass_core::time::UtcMicros;

use super::page::{events, of_pod};

/// All of it. `blind`: why the pods are not known.
pub(super) fn json(story: &Story, why: &Why, blind: Option<&str>) -> Value {
    let term = &story.facts.database.term;
    let launches: Vec<Value> = story.launches.iter().map(|launch| of_launch(story, launch)).collect();
    json!({
        "key": story.key,
        "now": time(story.facts.database.now),
        "why": why,
        "task_instance": story.task.as_ref().map(of_task),
        "handed_over_at": story.handed_over.map(time),
        "term": {
            "epoch": term.epoch, "holder": term.holder, "live": term.is_live(story.facts.database.now),
        },
        "launches": launches,
        "pods_unknown": blind,
    })
}

fn time(at: UtcMicros) -> String {
    at.to_string()
}

fn of_task(task: &TaskFacts) -> Value {
    json!({
        "state": task.state.as_str(),
        "try_number": task.try_number,
        "queued_dttm": task.queued_at.map(time),
        "queued_by_job_id": task.queued_by,
        "queued_by_job": task.queued_by_job.as_ref().map(of_job),
        "executor": task.executor,
        "hostname": task.hostname,
        "worker": task.worker.as_ref().map(of_job),
        "run_type": task.run_type,
        "run_state": task.run_state,
    })
}

fn of_job(job: &Job) -> Value {
    json!({"id": job.id, "type": job.kind, "state": job.state, "latest_heartbeat": job.heartbeat.map(time)})
}

fn of_launch(story: &Story, launch: &LaunchFacts) -> Value {
    let row = &launch.row;
    let events: Vec<Value> =
        events(launch).into_iter().map(|(at, what)| json!({"at": time(at), "what": what})).collect();
    let pods: Vec<Value> = story
        .pods_of(&row.launch)
        .map(|pod| json!({"view": pod.view, "node": pod.node, "summary": of_pod(story, launch, pod)}))
        .collect();
    json!({
        "launch_id": row.launch,
        "try_number": row.queueing.try_number,
        "queued_dttm": time(row.queueing.queued_at),
        "current": story.current().is_some_and(|now| now.row.launch == row.launch),
        "stage": row.stage,
        "attempt": row.attempt,
        "pod": row.pod,
        "pod_uid": row.uid,
        "epoch": launch.epoch,
        "lost": launch.lost,
        "outcome": row.outcome,
        "remedy": row.outcome.as_ref().and_then(|outcome| outcome.reason).map(|reason| reason.hint()),
        "events": events,
        "pods": pods,
    })
}
