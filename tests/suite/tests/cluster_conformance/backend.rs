//! Who answers: the fakes of the simulator, or the real things. What the scenarios need of Airflow and of others comes
//! through here too.

use anyhow::{Result, bail};
use windlass_core::ids::{Epoch, LaunchId, PodRef, Queueing, TaskKey};
use windlass_core::store::{
    Claim, ClaimAnswer, IntakePass, LaunchChange, LaunchUpdate, QueuedTask, SaveAnswer,
};
use windlass_core::store::{LaunchRow, TermAnswer};
use windlass_core::task::{TaskState, TaskView};
use windlass_core::time::UtcMicros;
use windlass_engine::{Answer, Ask};
use windlass_sim::Fakes;

use crate::real::Real;

/// Where pods go.
pub(crate) const NAMESPACE: &str = "etl";
/// Longer than a scenario takes on any machine.
pub(crate) const LEASE_MS: u64 = 600_000;

pub(crate) enum Backend {
    Simulated(Box<Fakes>),
    Real(Box<Real>),
}

impl Backend {
    pub(crate) fn simulated() -> Self {
        Self::Simulated(Box::default())
    }

    pub(crate) fn real(real: Real) -> Self {
        Self::Real(Box::new(real))
    }

    /// Nothing is queued, launched or led.
    pub(crate) async fn clear(&mut self) -> Result<()> {
        match self {
            Self::Simulated(fakes) => **fakes = Fakes::default(),
            Self::Real(real) => real.clear().await?,
        }
        Ok(())
    }

    /// Asks as the process of `holder`.
    pub(crate) async fn ask(&mut self, holder: &str, ask: Ask) -> Answer {
        match self {
            Self::Simulated(fakes) => fakes.answer(holder, &ask),
            Self::Real(real) => real.ask(holder, ask).await,
        }
    }

    /// Airflow's row stands so, for this queueing.
    pub(crate) fn put_task(&mut self, queueing: &Queueing, state: TaskState) -> Result<LaunchId> {
        match self {
            Self::Simulated(fakes) => Ok(fakes.put_task(queueing, state, NAMESPACE)),
            Self::Real(real) => real.put_task(queueing, &state),
        }
    }

    pub(crate) fn remove_task(&mut self, queueing: &Queueing) -> Result<()> {
        match self {
            Self::Simulated(fakes) => fakes.remove_task(queueing),
            Self::Real(real) => real.remove_task(queueing)?,
        }
        Ok(())
    }

    /// The scheduler takes a queueing back.
    pub(crate) fn withdraw(&mut self, launch: &LaunchId) -> Result<()> {
        match self {
            Self::Simulated(fakes) => fakes.withdraw(launch),
            Self::Real(real) => real.withdraw(launch)?,
        }
        Ok(())
    }

    /// So much time passes for the database that a lease of [`LEASE_MS`] ends.
    pub(crate) fn lease_ends(&mut self) -> Result<()> {
        match self {
            Self::Simulated(fakes) => fakes.pass(LEASE_MS + 1),
            Self::Real(real) => real.lease_ends()?,
        }
        Ok(())
    }

    pub(crate) async fn quota(&mut self, full: bool) -> Result<()> {
        match self {
            Self::Simulated(fakes) => fakes.quota_full(NAMESPACE, full),
            Self::Real(real) => real.pods.quota(full).await?,
        }
        Ok(())
    }

    /// The namespace of the pods is not there.
    pub(crate) fn namespace_gone(&mut self) {
        match self {
            Self::Simulated(fakes) => fakes.namespace_gone(NAMESPACE),
            Self::Real(real) => real.namespace = "nowhere",
        }
    }

    /// The pod gets a node whose kubelet never speaks.
    pub(crate) async fn bind(&mut self, pod: &PodRef) -> Result<()> {
        match self {
            Self::Simulated(fakes) => fakes.bind(pod),
            Self::Real(real) => real.pods.bind(pod).await?,
        }
        Ok(())
    }

    pub(crate) async fn term(&mut self, holder: &str, ask: Ask) -> Result<TermAnswer> {
        match self.ask(holder, ask).await {
            Answer::Term(answer) => Ok(answer),
            other => bail!("no answer about the term: {other:?}"),
        }
    }

    /// Takes the term, which nobody else holds.
    pub(crate) async fn lead(&mut self, holder: &str) -> Result<Epoch> {
        match self.term(holder, Ask::AcquireTerm { lease_ms: LEASE_MS }).await? {
            TermAnswer::Held { epoch } => Ok(epoch),
            other => bail!("not held: {other:?}"),
        }
    }

    pub(crate) async fn intake(&mut self, limit: u32) -> Result<Vec<QueuedTask>> {
        match self.ask("a", Ask::Intake { pass: IntakePass::Full, limit }).await {
            Answer::Intake(Ok(found)) => Ok(found),
            other => bail!("no intake: {other:?}"),
        }
    }

    /// None: fenced.
    pub(crate) async fn claim(
        &mut self,
        epoch: Epoch,
        launch: &LaunchId,
        queueing: &Queueing,
    ) -> Result<Option<ClaimAnswer>> {
        let claim = Claim {
            launch: launch.clone(),
            queueing: queueing.clone(),
            pod: PodRef { namespace: NAMESPACE.into(), name: format!("pod-{}", &launch.as_str()[..8]) },
            scheduler_job_id: 7,
            priority_weight: 1,
            command: None,
        };
        match self.ask("a", Ask::Claim { epoch, claims: vec![claim] }).await {
            Answer::Claimed(Ok(Some(answers))) => Ok(answers.into_iter().next()),
            Answer::Claimed(Ok(None)) => Ok(None),
            other => bail!("no claim: {other:?}"),
        }
    }

    /// Queued and claimed.
    pub(crate) async fn launched(&mut self, epoch: Epoch, task: &str) -> Result<LaunchId> {
        let launch = self.put_task(&queueing(task), TaskState::Queued)?;
        match self.claim(epoch, &launch, &queueing(task)).await? {
            Some(ClaimAnswer::Claimed(_)) => Ok(launch),
            other => bail!("not claimed: {other:?}"),
        }
    }

    /// Writes one change. None: fenced; else the row that refused it, if one did.
    pub(crate) async fn save(
        &mut self,
        epoch: Epoch,
        launch: &LaunchId,
        change: LaunchChange,
    ) -> Result<Option<Option<LaunchRow>>> {
        let updates = vec![LaunchUpdate { launch: launch.clone(), change }];
        match self.ask("a", Ask::Save { epoch, updates }).await {
            Answer::Saved(SaveAnswer::Saved { refused }) => {
                Ok(Some(refused.into_iter().next().and_then(|(_, row)| row)))
            }
            Answer::Saved(SaveAnswer::Fenced) => Ok(None),
            other => bail!("not saved: {other:?}"),
        }
    }

    pub(crate) async fn views(&mut self, ask: Ask) -> Result<Vec<TaskView>> {
        match self.ask("a", ask).await {
            Answer::Tasks(Ok(views)) => Ok(views),
            other => bail!("no rows: {other:?}"),
        }
    }
}

/// The first queueing of a task.
pub(crate) fn queueing(task: &str) -> Queueing {
    let key = TaskKey { dag_id: "etl".into(), task_id: task.into(), run_id: "r".into(), map_index: -1 };
    Queueing { key, try_number: 1, queued_at: UtcMicros(1_795_488_017_123_456) }
}

/// The same try, queued again.
pub(crate) fn requeued(task: &str) -> Queueing {
    let first = queueing(task);
    Queueing { queued_at: UtcMicros(first.queued_at.0 + 1), ..first }
}
