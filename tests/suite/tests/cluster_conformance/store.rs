//! Questions to the database.

use anyhow::{Result, bail, ensure};
use windlass_core::ids::{Attempt, Epoch, PodRef, PodUid};
use windlass_core::outcome::Outcome;
use windlass_core::store::{ClaimAnswer, LaunchChange, StoredStage, TermAnswer};
use windlass_core::task::TaskState;
use windlass_engine::{Answer, Ask};

use crate::backend::{Backend, LEASE_MS, NAMESPACE, queueing, requeued};

const ACQUIRE: Ask = Ask::AcquireTerm { lease_ms: LEASE_MS };

fn created(attempt: u32) -> LaunchChange {
    LaunchChange::Created { attempt: Attempt(attempt), uid: PodUid(format!("u{attempt}")) }
}

fn running(attempt: u32) -> LaunchChange {
    LaunchChange::Running { attempt: Attempt(attempt), uid: PodUid(format!("u{attempt}")) }
}

fn settle() -> LaunchChange {
    LaunchChange::Settle { outcome: Outcome::success("the worker reported success") }
}

pub(crate) async fn the_term_has_one_holder(backend: &mut Backend) -> Result<()> {
    let renew = |epoch| Ask::RenewTerm { epoch, lease_ms: LEASE_MS };
    let of = |holder: &str| TermAnswer::HeldByOther { holder: holder.into() };
    let first = backend.lead("a").await?;
    ensure!(backend.term("b", ACQUIRE).await? == of("a"));
    ensure!(backend.term("a", renew(first)).await? == TermAnswer::Held { epoch: first });
    ensure!(backend.term("b", renew(first)).await? == of("a"));
    // A restarted process of the same holder.
    let again = backend.lead("a").await?;
    ensure!(again > first);
    ensure!(backend.term("a", Ask::ReleaseTerm { epoch: again }).await? == TermAnswer::Released);
    let second = backend.lead("b").await?;
    ensure!(second > again);
    ensure!(backend.term("a", renew(again)).await? == of("b"));
    backend.lease_ends()?;
    // Expired and taken by nobody: still its holder's.
    ensure!(backend.term("b", renew(second)).await? == TermAnswer::Held { epoch: second });
    backend.lease_ends()?;
    ensure!(backend.lead("a").await? > second);
    ensure!(backend.term("b", renew(second)).await? == of("a"));
    Ok(())
}

pub(crate) async fn an_old_term_writes_nothing(backend: &mut Backend) -> Result<()> {
    let old = backend.lead("a").await?;
    let launch = backend.launched(old, "t").await?;
    let other = backend.put_task(&queueing("other"), TaskState::Queued)?;
    backend.lease_ends()?;
    let new = backend.lead("b").await?;
    ensure!(backend.claim(old, &other, &queueing("other")).await?.is_none());
    ensure!(backend.save(old, &launch, created(1)).await?.is_none());
    ensure!(matches!(backend.ask("a", Ask::Load { epoch: old }).await, Answer::Loaded(Ok(None))));
    let found = backend.intake(10).await?;
    ensure!(found.len() == 1 && found[0].launch == other, "{found:?}");
    ensure!(backend.save(new, &launch, created(1)).await? == Some(None));
    Ok(())
}

pub(crate) async fn a_queueing_is_claimed_once(backend: &mut Backend) -> Result<()> {
    let epoch = backend.lead("a").await?;
    let launch = backend.put_task(&queueing("t"), TaskState::Queued)?;
    let claimed = backend.claim(epoch, &launch, &queueing("t")).await?;
    ensure!(claimed == Some(ClaimAnswer::Claimed(launch.clone())));
    let Some(ClaimAnswer::Exists(row)) = backend.claim(epoch, &launch, &queueing("t")).await? else {
        bail!("claimed twice");
    };
    ensure!((&row.launch, row.stage, row.attempt) == (&launch, StoredStage::Claimed, Attempt::FIRST));
    ensure!(row.uid.is_none() && row.outcome.is_none() && row.queueing == queueing("t"));
    // The same try, queued again, is another queueing; the row is not the older one's any more.
    let newer = backend.put_task(&requeued("t"), TaskState::Queued)?;
    ensure!(newer != launch);
    for (task, state) in [("running", TaskState::Running), ("cleared", TaskState::None)] {
        let launch = backend.put_task(&queueing(task), state)?;
        let answer = backend.claim(epoch, &launch, &queueing(task)).await?;
        ensure!(answer == Some(ClaimAnswer::Withdrawn(launch)), "{task}: {answer:?}");
    }
    let moved = backend.put_task(&queueing("moved"), TaskState::Queued)?;
    backend.put_task(&requeued("moved"), TaskState::Queued)?;
    let answer = backend.claim(epoch, &moved, &queueing("moved")).await?;
    ensure!(answer == Some(ClaimAnswer::Withdrawn(moved)), "{answer:?}");
    let gone = backend.put_task(&queueing("gone"), TaskState::Queued)?;
    backend.remove_task(&queueing("gone"))?;
    let answer = backend.claim(epoch, &gone, &queueing("gone")).await?;
    ensure!(answer == Some(ClaimAnswer::Withdrawn(gone)), "{answer:?}");
    Ok(())
}

pub(crate) async fn the_full_pass_shows_what_is_queued_and_not_claimed(backend: &mut Backend) -> Result<()> {
    let epoch = backend.lead("a").await?;
    let first = backend.launched(epoch, "claimed").await?;
    let one = backend.put_task(&queueing("one"), TaskState::Queued)?;
    let two = backend.put_task(&queueing("two"), TaskState::Queued)?;
    for (task, state) in [
        ("scheduled", TaskState::Scheduled),
        ("running", TaskState::Running),
        ("deferred", TaskState::Deferred),
    ] {
        backend.put_task(&queueing(task), state)?;
    }
    let mut found: Vec<_> = backend.intake(10).await?.into_iter().map(|task| task.launch).collect();
    found.sort();
    let mut expected = vec![one, two];
    expected.sort();
    ensure!(found == expected, "{found:?}");
    ensure!(backend.intake(1).await?.len() == 1);
    // Queued again while the older launch is still open.
    let newer = backend.put_task(&requeued("claimed"), TaskState::Queued)?;
    let found = backend.intake(10).await?;
    let of_it = found.iter().find(|task| task.launch == newer);
    ensure!(
        newer != first && of_it.is_some_and(|task| task.spec.queueing == requeued("claimed")),
        "{found:?}"
    );
    Ok(())
}

pub(crate) async fn changes_have_guards(backend: &mut Backend) -> Result<()> {
    let epoch = backend.lead("a").await?;
    let launch = backend.launched(epoch, "t").await?;
    let refused_at = |answer: Option<Option<windlass_core::store::LaunchRow>>| {
        answer.flatten().map(|row| (row.stage, row.attempt.0))
    };
    let close = backend.save(epoch, &launch, LaunchChange::Close).await?;
    ensure!(refused_at(close) == Some((StoredStage::Claimed, 1)));
    ensure!(backend.save(epoch, &launch, running(1)).await? == Some(None), "its create's answer may be late");
    ensure!(backend.save(epoch, &launch, settle()).await? == Some(None));
    let twice = backend.save(epoch, &launch, settle()).await?;
    ensure!(refused_at(twice) == Some((StoredStage::Settled, 1)));
    let pod = PodRef { namespace: NAMESPACE.into(), name: "next".into() };
    let relaunch = LaunchChange::Relaunch { attempt: Attempt(2), pod, why: "lost".into() };
    let late = backend.save(epoch, &launch, relaunch).await?;
    ensure!(refused_at(late) == Some((StoredStage::Settled, 1)));
    ensure!(backend.save(epoch, &launch, LaunchChange::Close).await? == Some(None));
    let Answer::Launches(Ok(rows)) = backend.ask("a", Ask::FindLaunches(vec![launch.clone()])).await else {
        bail!("not found");
    };
    ensure!(rows.len() == 1 && rows[0].stage == StoredStage::Closed);
    ensure!(rows[0].outcome.as_ref().is_some_and(|o| o.message == "the worker reported success"));
    Ok(())
}

pub(crate) async fn a_second_attempt_forgets_the_first_pod(backend: &mut Backend) -> Result<()> {
    let epoch = backend.lead("a").await?;
    let launch = backend.launched(epoch, "t").await?;
    ensure!(backend.save(epoch, &launch, created(1)).await? == Some(None));
    let pod = PodRef { namespace: NAMESPACE.into(), name: "next".into() };
    let relaunch = |attempt| LaunchChange::Relaunch { attempt, pod: pod.clone(), why: "evicted".into() };
    ensure!(backend.save(epoch, &launch, relaunch(Attempt(2))).await? == Some(None));
    let row = backend.save(epoch, &launch, relaunch(Attempt(2))).await?.flatten();
    let Some(row) = row else { bail!("relaunched twice") };
    ensure!(
        (row.stage, row.attempt, &row.pod) == (StoredStage::Claimed, Attempt(2), &pod) && row.uid.is_none()
    );
    // What is late and of the first attempt changes nothing.
    backend.save(epoch, &launch, running(1)).await?;
    let Answer::Launches(Ok(rows)) = backend.ask("a", Ask::FindLaunches(vec![launch])).await else {
        bail!("not found");
    };
    ensure!(rows[0].stage == StoredStage::Claimed && rows[0].uid.is_none(), "{rows:?}");
    Ok(())
}

pub(crate) async fn rows_tell_how_tasks_stand(backend: &mut Backend) -> Result<()> {
    let epoch = backend.lead("a").await?;
    let mut of = Vec::new();
    for task in ["queued", "running", "cleared", "requeued", "gone", "withdrawn"] {
        of.push((backend.launched(epoch, task).await?, queueing(task)));
    }
    backend.put_task(&queueing("running"), TaskState::Running)?;
    backend.put_task(&queueing("cleared"), TaskState::None)?;
    backend.put_task(&requeued("requeued"), TaskState::Queued)?;
    backend.remove_task(&queueing("gone"))?;
    backend.withdraw(&of[5].0)?;
    let views = backend.views(Ask::ReadTasks(of.clone())).await?;
    ensure!(views.len() == of.len(), "{views:?}");
    let stands = |at: usize| {
        let view = views.iter().find(|view| view.launch == of[at].0);
        view.and_then(|view| {
            view.row.as_ref().map(|row| (row.state.clone(), row.is_of(&of[at].1), view.withdrawn))
        })
    };
    ensure!(stands(0) == Some((TaskState::Queued, true, false)));
    ensure!(stands(1) == Some((TaskState::Running, true, false)));
    ensure!(stands(2).is_some_and(|(state, ..)| state == TaskState::None));
    ensure!(stands(3) == Some((TaskState::Queued, false, false)));
    ensure!(stands(4).is_none());
    ensure!(stands(5) == Some((TaskState::Queued, true, true)));
    Ok(())
}

pub(crate) async fn withdrawn_launches_are_found_until_they_start(backend: &mut Backend) -> Result<()> {
    let epoch = backend.lead("a").await?;
    let mut launches = Vec::new();
    let tasks =
        ["stays", "begun", "elsewhere", "cleared", "requeued", "gone", "revoked", "too_late", "settled"];
    for task in tasks {
        launches.push((backend.launched(epoch, task).await?, task));
    }
    let of = |task: &str| launches.iter().find(|(_, t)| *t == task).map(|(launch, _)| launch.clone());
    for (task, change) in
        [("begun", created(1)), ("cleared", created(1)), ("too_late", running(1)), ("settled", settle())]
    {
        let Some(launch) = of(task) else { bail!("{task} is missing") };
        ensure!(backend.save(epoch, &launch, change).await? == Some(None));
    }
    for (task, state) in [
        ("begun", TaskState::Running),
        ("elsewhere", TaskState::Running),
        ("cleared", TaskState::None),
        ("too_late", TaskState::None),
        ("settled", TaskState::Success),
    ] {
        backend.put_task(&queueing(task), state)?;
    }
    backend.put_task(&requeued("requeued"), TaskState::Queued)?;
    backend.remove_task(&queueing("gone"))?;
    if let Some(launch) = of("revoked") {
        backend.withdraw(&launch)?;
    }
    let views = backend.views(Ask::FindWithdrawn { limit: 100 }).await?;
    let mut found: Vec<&str> = Vec::new();
    for view in &views {
        found.extend(launches.iter().find(|(launch, _)| *launch == view.launch).map(|(_, task)| *task));
    }
    found.sort_unstable();
    ensure!(found == ["cleared", "elsewhere", "gone", "requeued", "revoked"], "{found:?}");
    ensure!(backend.views(Ask::FindWithdrawn { limit: 2 }).await?.len() == 2);
    Ok(())
}

pub(crate) async fn a_spec_is_read_only_while_its_queueing_stands(backend: &mut Backend) -> Result<()> {
    let epoch = backend.lead("a").await?;
    let mut of = Vec::new();
    for task in ["stands", "running", "requeued", "gone"] {
        of.push((backend.launched(epoch, task).await?, queueing(task)));
    }
    backend.put_task(&queueing("running"), TaskState::Running)?;
    backend.put_task(&requeued("requeued"), TaskState::Queued)?;
    backend.remove_task(&queueing("gone"))?;
    let Answer::Specs(Ok(specs)) = backend.ask("a", Ask::ReadSpecs(of.clone())).await else {
        bail!("no specs");
    };
    ensure!(specs.len() == of.len(), "each is answered: {specs:?}");
    for (launch, spec) in specs {
        let stands = launch == of[0].0;
        ensure!(spec.is_some() == stands, "{launch:?}: {spec:?}");
    }
    Ok(())
}

pub(crate) async fn a_new_term_loads_what_is_open(backend: &mut Backend) -> Result<()> {
    let epoch = backend.lead("a").await?;
    let changes: [(&str, Vec<LaunchChange>); 5] = [
        ("claimed", vec![]),
        ("created", vec![created(1)]),
        ("running", vec![created(1), running(1)]),
        ("settled", vec![settle()]),
        ("closed", vec![settle(), LaunchChange::Close]),
    ];
    let mut launches = Vec::new();
    for (task, changes) in changes {
        let launch = backend.launched(epoch, task).await?;
        for change in changes {
            ensure!(backend.save(epoch, &launch, change).await? == Some(None), "{task}");
        }
        launches.push((launch, task));
    }
    ensure!(backend.term("a", Ask::ReleaseTerm { epoch }).await? == TermAnswer::Released);
    let next: Epoch = backend.lead("b").await?;
    let Answer::Loaded(Ok(Some(rows))) = backend.ask("b", Ask::Load { epoch: next }).await else {
        bail!("not loaded");
    };
    let mut found: Vec<(&str, &str, bool)> = Vec::new();
    for row in rows.iter().filter(|row| row.stage != StoredStage::Closed) {
        let task = launches.iter().find(|(launch, _)| *launch == row.launch).map_or("?", |(_, task)| *task);
        found.push((task, row.stage.as_str(), row.uid.is_some()));
    }
    found.sort_unstable();
    let expected = [
        ("claimed", "claimed", false),
        ("created", "created", true),
        ("running", "running", true),
        ("settled", "settled", false),
    ];
    ensure!(found == expected, "{found:?}");
    Ok(())
}
