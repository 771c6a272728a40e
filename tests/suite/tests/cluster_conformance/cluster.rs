//! Questions to the cluster.

use anyhow::{Result, bail, ensure};
use windlass_core::cluster::{CreateAnswer, DeleteAnswer, GetAnswer};
use windlass_core::ids::{Attempt, PodRef, PodUid};
use windlass_core::pod_view::{PodPhase, PodView};
use windlass_core::store::QueuedTask;
use windlass_core::task::TaskState;
use windlass_core::time::Millis;
use windlass_engine::{Answer, Ask};

use crate::backend::{Backend, queueing};

async fn queued(backend: &mut Backend, task: &str) -> Result<QueuedTask> {
    let launch = backend.put_task(&queueing(task), TaskState::Queued)?;
    let found = backend.intake(10).await?.into_iter().find(|found| found.launch == launch);
    found.ok_or_else(|| anyhow::anyhow!("{task} is not seen"))
}

async fn create(backend: &mut Backend, task: &QueuedTask) -> Result<CreateAnswer> {
    let ask = Ask::Create {
        launch: task.launch.clone(),
        attempt: Attempt::FIRST,
        pod: task.pod.clone(),
        spec: task.spec.clone(),
        timeout_ms: 10_000,
        start_by: Millis(u64::MAX),
    };
    match backend.ask("a", ask).await {
        Answer::Created(answer) => Ok(answer),
        other => bail!("no create: {other:?}"),
    }
}

async fn created(backend: &mut Backend, task: &str) -> Result<(QueuedTask, Box<PodView>)> {
    let task = queued(backend, task).await?;
    match create(backend, &task).await? {
        CreateAnswer::Created(view) => Ok((task, view)),
        other => bail!("not created: {other:?}"),
    }
}

async fn get(backend: &mut Backend, task: &QueuedTask, pod: &PodRef) -> Result<GetAnswer> {
    let ask = Ask::GetPod { launch: task.launch.clone(), attempt: Attempt::FIRST, pod: pod.clone() };
    match backend.ask("a", ask).await {
        Answer::Got(answer) => Ok(answer),
        other => bail!("no answer about the pod: {other:?}"),
    }
}

async fn delete(
    backend: &mut Backend,
    pod: &PodRef,
    uid: &PodUid,
    resource_version: Option<String>,
) -> Result<DeleteAnswer> {
    let ask = Ask::DeletePod { pod: pod.clone(), uid: uid.clone(), resource_version };
    match backend.ask("a", ask).await {
        Answer::Deleted(answer) => Ok(answer),
        other => bail!("no delete: {other:?}"),
    }
}

pub(crate) async fn a_second_create_adopts_the_first_pod(backend: &mut Backend) -> Result<()> {
    let (task, view) = created(backend, "t").await?;
    ensure!((&view.launch, view.attempt, &view.pod) == (&task.launch, Attempt::FIRST, &task.pod), "{view:?}");
    ensure!(!view.bound && !view.deleting && view.phase == PodPhase::Pending, "{view:?}");
    let CreateAnswer::Adopted(again) = create(backend, &task).await? else { bail!("not adopted") };
    ensure!(again.uid == view.uid && again.resource_version == view.resource_version, "{again:?}");
    let GetAnswer::Found(Some(got)) = get(backend, &task, &task.pod).await? else { bail!("not found") };
    ensure!(got.uid == view.uid);
    Ok(())
}

pub(crate) async fn a_pod_of_another_launch_is_not_ours(backend: &mut Backend) -> Result<()> {
    let (first, _) = created(backend, "first").await?;
    let second = queued(backend, "second").await?;
    ensure!(get(backend, &second, &first.pod).await? == GetAnswer::Found(None));
    ensure!(get(backend, &second, &second.pod).await? == GetAnswer::Gone);
    Ok(())
}

pub(crate) async fn a_full_quota_lets_nothing_in(backend: &mut Backend) -> Result<()> {
    let task = queued(backend, "t").await?;
    backend.quota(true).await?;
    let answer = create(backend, &task).await?;
    ensure!(matches!(answer, CreateAnswer::QuotaFull { .. }), "{answer:?}");
    ensure!(get(backend, &task, &task.pod).await? == GetAnswer::Gone);
    backend.quota(false).await?;
    // Admission keeps what it knows of quotas for a moment.
    for _ in 0..100 {
        match create(backend, &task).await? {
            CreateAnswer::Created(_) => return Ok(()),
            CreateAnswer::QuotaFull { .. } => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            other => bail!("{other:?}"),
        }
    }
    bail!("the quota is gone and nothing is let in")
}

pub(crate) async fn a_namespace_that_is_not_there_is_not_ready(backend: &mut Backend) -> Result<()> {
    backend.namespace_gone();
    let task = queued(backend, "t").await?;
    let answer = create(backend, &task).await?;
    ensure!(matches!(answer, CreateAnswer::NamespaceNotReady { .. }), "{answer:?}");
    ensure!(get(backend, &task, &task.pod).await? == GetAnswer::Gone);
    Ok(())
}

pub(crate) async fn an_unbound_pod_goes_at_once_and_by_its_uid_alone(backend: &mut Backend) -> Result<()> {
    let (task, view) = created(backend, "t").await?;
    // Another pod has the name: the one of that uid is gone.
    let other = PodUid("6f1c8f8e-0000-4000-8000-000000000000".into());
    ensure!(delete(backend, &task.pod, &other, None).await? == DeleteAnswer::Gone);
    ensure!(matches!(get(backend, &task, &task.pod).await?, GetAnswer::Found(Some(_))));
    let seen = Some(view.resource_version.clone());
    ensure!(delete(backend, &task.pod, &view.uid, seen).await? == DeleteAnswer::Accepted);
    ensure!(get(backend, &task, &task.pod).await? == GetAnswer::Gone);
    ensure!(delete(backend, &task.pod, &view.uid, None).await? == DeleteAnswer::Gone);
    let CreateAnswer::Created(next) = create(backend, &task).await? else { bail!("the name is free") };
    ensure!(next.uid != view.uid);
    Ok(())
}

pub(crate) async fn a_bound_pod_waits_for_its_kubelet(backend: &mut Backend) -> Result<()> {
    let (task, view) = created(backend, "t").await?;
    backend.bind(&task.pod).await?;
    let old = Some(view.resource_version.clone());
    ensure!(delete(backend, &task.pod, &view.uid, old).await? == DeleteAnswer::Moved);
    ensure!(delete(backend, &task.pod, &view.uid, None).await? == DeleteAnswer::Accepted);
    let GetAnswer::Found(Some(left)) = get(backend, &task, &task.pod).await? else {
        bail!("its kubelet ends it first");
    };
    ensure!(left.deleting && left.bound && left.uid == view.uid, "{left:?}");
    let answer = create(backend, &task).await?;
    ensure!(matches!(answer, CreateAnswer::NameTaken { .. }), "terminating: {answer:?}");
    Ok(())
}
