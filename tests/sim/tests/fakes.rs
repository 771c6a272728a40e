//! The seam for the conformance suite: the simulated database and cluster answer one question at a time.

use windlass_core::cluster::{CreateAnswer, DeleteAnswer, GetAnswer};
use windlass_core::ids::{Attempt, Epoch, LaunchId, PodRef, Queueing, TaskKey};
use windlass_core::store::{Claim, ClaimAnswer, IntakePass, TermAnswer};
use windlass_core::task::TaskState;
use windlass_core::time::{Millis, UtcMicros};
use windlass_engine::{Answer, Ask};
use windlass_sim::Fakes;

fn queueing() -> Queueing {
    let key = TaskKey { dag_id: "d".into(), task_id: "t".into(), run_id: "r".into(), map_index: -1 };
    Queueing { key, try_number: 1, queued_at: UtcMicros(7) }
}

fn claim(launch: &LaunchId, epoch: i64) -> Ask {
    let pod = PodRef { namespace: "etl".into(), name: "d-t-1".into() };
    let claim =
        Claim { launch: launch.clone(), queueing: queueing(), pod, scheduler_job_id: 1, priority_weight: 1 };
    Ask::Claim { epoch: Epoch(epoch), claims: vec![claim] }
}

#[test]
fn the_database_claims_once_and_for_the_current_term_alone() {
    let mut fakes = Fakes::default();
    let launch = fakes.put_task(&queueing(), TaskState::Queued, "etl");
    let acquire = Ask::AcquireTerm { lease_ms: 1_000 };
    assert_eq!(fakes.answer("a", &acquire), Answer::Term(TermAnswer::Held { epoch: Epoch(1) }));
    let Answer::Intake(Ok(found)) = fakes.answer("a", &Ask::Intake { pass: IntakePass::Full, limit: 10 })
    else {
        panic!("no intake")
    };
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].launch, launch);
    assert_eq!(
        fakes.answer("a", &claim(&launch, 1)),
        Answer::Claimed(Ok(Some(vec![ClaimAnswer::Claimed(launch.clone())])))
    );
    let Answer::Claimed(Ok(Some(again))) = fakes.answer("a", &claim(&launch, 1)) else { panic!("fenced") };
    assert!(matches!(again[..], [ClaimAnswer::Exists(_)]), "{again:?}");
    fakes.pass(1_001);
    assert_eq!(fakes.answer("b", &acquire), Answer::Term(TermAnswer::Held { epoch: Epoch(2) }));
    assert_eq!(fakes.answer("a", &claim(&launch, 1)), Answer::Claimed(Ok(None)), "fenced");
}

#[test]
fn the_cluster_tells_its_own_pod_from_anothers_and_deletes_by_uid() {
    let mut fakes = Fakes::default();
    let launch = fakes.put_task(&queueing(), TaskState::Queued, "etl");
    let pod = PodRef { namespace: "etl".into(), name: "d-t-1".into() };
    let (attempt, start_by) = (Attempt::FIRST, Millis(u64::MAX));
    let Answer::Intake(Ok(found)) = fakes.answer("a", &Ask::Intake { pass: IntakePass::Full, limit: 10 })
    else {
        panic!("no intake")
    };
    let create = Ask::Create {
        launch: launch.clone(),
        attempt,
        pod: pod.clone(),
        spec: found[0].spec.clone(),
        timeout_ms: 1_000,
        start_by,
    };
    fakes.quota_full("etl", true);
    let full = fakes.answer("a", &create);
    assert!(matches!(full, Answer::Created(CreateAnswer::QuotaFull { .. })), "{full:?}");
    fakes.quota_full("etl", false);
    let Answer::Created(CreateAnswer::Created(view)) = fakes.answer("a", &create) else {
        panic!("not created")
    };
    let again = fakes.answer("a", &create);
    assert!(matches!(again, Answer::Created(CreateAnswer::Adopted(_))), "{again:?}");
    fakes.bind(&pod);
    let moved = Some(view.resource_version.clone());
    let delete =
        |resource_version| Ask::DeletePod { pod: pod.clone(), uid: view.uid.clone(), resource_version };
    assert_eq!(fakes.answer("a", &delete(moved)), Answer::Deleted(DeleteAnswer::Moved));
    assert_eq!(fakes.answer("a", &delete(None)), Answer::Deleted(DeleteAnswer::Accepted));
    let get = fakes.answer("a", &Ask::GetPod { launch, attempt, pod: pod.clone() });
    let Answer::Got(GetAnswer::Found(Some(left))) = get else {
        panic!("bound: its kubelet ends it first: {get:?}")
    };
    assert!(left.deleting);
}
