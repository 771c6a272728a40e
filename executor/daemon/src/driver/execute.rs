//! One command, one call, one answer. Every call has a deadline; a call that misses it is answered as not known.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use scheduler_bridge::{BridgeError, ClaimBatch, Store};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use windlass_cluster::{Cluster, Namespaces, Selection};
use windlass_core::cluster::{CreateAnswer, DeleteAnswer, GetAnswer};
use windlass_core::ids::{Attempt, Epoch, InstallationId, LaunchId, PodRef};
use windlass_core::pod::pod_name;
use windlass_core::store::{LaunchRow, PodLaunch, QueuedTask, SaveAnswer, TermAnswer};
use windlass_core::task::TaskSpec;
use windlass_core::time::Millis;
use windlass_engine::{Answer, Ask};

use super::logs::FailedLogs;
use super::owners::Owners;
use crate::clock;
use crate::hook::Unmade;
use crate::metrics::Metrics;
use crate::pods::Renderer;

/// Longest time for one call to the database, in milliseconds: under the lease, so that a term is not lost to a call
/// that hangs, and over the statement timeout that the bridge sets.
const DATABASE_MS: u64 = 4_000;
/// Passes that look at all rows may take longer.
const PASS_MS: u64 = 14_000;
/// Rows deleted at once: a batch that no other statement notices.
const PURGE_MAX: u32 = 500;
/// A create is waited for this much longer than its `?timeout=`: the server's answer beats our guess.
const CREATE_GRACE_MS: u64 = 500;
/// Longest time for a GET or DELETE, in milliseconds.
const CALL_MS: u64 = 5_000;

/// Of one create.
#[derive(Clone, Copy)]
struct Limits {
    timeout_ms: u64,
    start_by: Millis,
}

/// The world as the driver reaches it.
pub struct Edges {
    /// Database.
    pub store: Store,
    /// Kubernetes.
    pub cluster: Cluster,
    /// From task to pod.
    pub renderer: Arc<Renderer>,
    /// Part of every launch id.
    pub installation: InstallationId,
    /// Who we are in `windlass.term`.
    pub holder: String,
    /// Namespaces whose pods are watched.
    pub namespaces: Namespaces,
    /// Of failed pods.
    pub logs: FailedLogs,
    /// Of adopted tasks.
    pub owners: Owners,
    /// Whether pods are hidden from a KubernetesExecutor that watches the same namespaces.
    pub hides_pods: bool,
    /// What calls took.
    pub metrics: Arc<Metrics>,
    /// `[kubernetes_executor] delete_option_kwargs`' `grace_period_seconds`.
    pub grace_seconds: Option<u32>,
    /// Closed and delivered launches older than this are deleted.
    pub retention: Duration,
}

impl Edges {
    /// Executes one command. `Watch` and `Exit` are the driver's own.
    pub async fn execute(&self, ask: Ask) -> Answer {
        let began = Instant::now();
        let call = database_call(&ask);
        let answer = self.call(ask).await;
        if let Some(call) = call {
            self.metrics.database_call(call, !failed(&answer), began.elapsed());
        }
        answer
    }

    async fn call(&self, ask: Ask) -> Answer {
        let store = &self.store;
        match ask {
            Ask::AcquireTerm { lease_ms } => term(store.acquire_term(&self.holder, lease_ms), lease_ms).await,
            Ask::RenewTerm { epoch, lease_ms } => {
                term(store.renew_term(&self.holder, epoch, lease_ms), lease_ms).await
            }
            Ask::ReleaseTerm { epoch } => term(store.release_term(&self.holder, epoch), CALL_MS).await,
            Ask::Load { epoch } => Answer::Loaded(in_term(store.load(epoch)).await),
            Ask::Recover { epoch } => Answer::Recovered(self.recover(epoch).await),
            Ask::Intake { pass, limit } => {
                let specs = within(PASS_MS, store.intake(pass, limit)).await;
                Answer::Intake(specs.map(|specs| specs.into_iter().map(|spec| self.queued(spec)).collect()))
            }
            Ask::Claim { epoch, claims } => {
                let answer = within(DATABASE_MS, store.claim(epoch, &claims)).await;
                Answer::Claimed(answer.map(|batch| match batch {
                    ClaimBatch::Answers(answers) => Some(answers),
                    ClaimBatch::Fenced => None,
                }))
            }
            Ask::ReadTasks(of) => Answer::Tasks(within(DATABASE_MS, store.read_tasks(&of)).await),
            Ask::ReadSpecs(of) => {
                let specs = within(DATABASE_MS, store.read_specs(&of)).await;
                let placed = |spec| Arc::new(self.placed(spec).0);
                Answer::Specs(
                    specs.map(|all| all.into_iter().map(|(id, spec)| (id, spec.map(placed))).collect()),
                )
            }
            Ask::FindWithdrawn { limit } => Answer::Tasks(within(PASS_MS, store.find_withdrawn(limit)).await),
            Ask::FindLaunches(of) => Answer::Launches(within(DATABASE_MS, store.find_launches(&of)).await),
            Ask::Save { epoch, updates } => {
                let saved = timeout(Duration::from_millis(DATABASE_MS), store.save(epoch, &updates)).await;
                Answer::Saved(saved.unwrap_or_else(|_| SaveAnswer::Failed { error: late(DATABASE_MS) }))
            }
            ask @ (Ask::NotePods(_) | Ask::KeepLog { .. } | Ask::FollowOwners { .. } | Ask::Purge { .. }) => {
                self.as_far_as_it_goes(ask).await;
                Answer::Done
            }
            // This process may have stood still since the engine decided (I4).
            Ask::Create { start_by, .. } if clock::now() > start_by => {
                let error = "not sent: the term could have ended before it landed".into();
                Answer::Created(CreateAnswer::Unknown { error })
            }
            Ask::Create { launch, attempt, pod, spec, timeout_ms, start_by } => {
                let limits = Limits { timeout_ms, start_by };
                Answer::Created(self.create(&launch, attempt, &pod, &spec, limits).await)
            }
            Ask::GetPod { launch, attempt, pod } => Answer::Got(self.get(&pod, &launch, attempt).await),
            Ask::OpenGate { launch, attempt, pod, uid } => {
                let call = self.cluster.open_gate(&pod, &uid, &launch, attempt);
                let answer = timeout(Duration::from_millis(CALL_MS), call).await;
                Answer::Got(answer.unwrap_or_else(|_| GetAnswer::Failed { error: late(CALL_MS) }))
            }
            Ask::DeletePod { pod, uid, resource_version } => {
                self.logs.kept(&uid).await;
                let call = self.cluster.delete(&pod, &uid, resource_version.as_deref(), self.grace_seconds);
                let answer = timeout(Duration::from_millis(CALL_MS), call).await;
                Answer::Deleted(answer.unwrap_or_else(|_| DeleteAnswer::Failed { error: late(CALL_MS) }))
            }
            Ask::Watch(_) | Ask::Exit => Answer::Done,
        }
    }

    /// What nothing hangs on: a failure is told, and what was not done is done another time.
    async fn as_far_as_it_goes(&self, ask: Ask) {
        let store = &self.store;
        match ask {
            Ask::NotePods(of) => {
                // Best effort (I5): a row that is locked now keeps its old value.
                if let Err(error) = within(DATABASE_MS, store.note_pods(&of)).await {
                    tracing::debug!("external_executor_id was not written: {error}");
                }
            }
            Ask::KeepLog { epoch, launch, pod, uid } => {
                self.logs.keep((&self.cluster, store), epoch, (&launch, &pod, uid)).await;
            }
            Ask::FollowOwners { epoch } => {
                if let Err(error) = self.owners.follow(self, epoch).await {
                    tracing::warn!("pods are not all labelled with their task's scheduler: {error}");
                }
            }
            Ask::Purge { epoch } => {
                if let Err(error) = within(PASS_MS, store.purge(epoch, self.retention, PURGE_MAX)).await {
                    tracing::warn!("old launches were not purged: {error}");
                }
            }
            _ => {}
        }
    }

    /// A list that is not whole would leave lost launches out, and the next look at them could be too late.
    async fn recover(&self, epoch: Epoch) -> Result<Option<(u64, Vec<LaunchRow>)>, String> {
        let of = Selection::Installation(&self.installation);
        let listing = self.cluster.list(&self.namespaces, &of, usize::MAX);
        let Ok(listing) = timeout(Duration::from_millis(PASS_MS), listing).await else {
            return Err(late(PASS_MS));
        };
        if let Some(fault) = listing.faults.first() {
            return Err(format!("pods whose launches the database may have lost: {}", fault.line()));
        }
        let pods: Vec<PodLaunch> = listing.pods.into_iter().filter_map(|pod| pod.launch).collect();
        // Annotations can be written by anybody; the id cannot be made to fit other ones.
        let (ours, others): (Vec<_>, Vec<_>) =
            pods.into_iter().partition(|pod| pod.launch == LaunchId::of(&self.installation, &pod.queueing));
        for pod in others {
            tracing::warn!("pod {}: its annotations are not of its launch {}", pod.pod, pod.launch);
        }
        let recovered = in_term(self.store.recover(epoch, &ours)).await;
        if let Ok(Some((made, _))) = &recovered {
            tracing::warn!(
                "the database failed over and may have lost its last commits: of {} pods {made} had no launch any more, \
                 or one of an earlier attempt, and have theirs again",
                ours.len(),
            );
        }
        recovered
    }

    /// With what the rules say of it, and its namespace.
    fn placed(&self, spec: TaskSpec) -> (TaskSpec, String) {
        let (namespace, branches) = self.renderer.place(&spec);
        (TaskSpec { branches, ..spec }, namespace)
    }

    fn queued(&self, spec: TaskSpec) -> QueuedTask {
        let (spec, namespace) = self.placed(spec);
        let launch = LaunchId::of(&self.installation, &spec.queueing);
        let key = &spec.queueing.key;
        let name = pod_name(&key.dag_id, &key.task_id, &launch, Attempt::FIRST);
        let pod = PodRef { namespace, name };
        QueuedTask { launch, spec: Arc::new(spec), pod }
    }

    async fn create(
        &self,
        launch: &LaunchId,
        attempt: Attempt,
        pod: &PodRef,
        spec: &TaskSpec,
        limits: Limits,
    ) -> CreateAnswer {
        let answer = match self.renderer.make(spec, launch, attempt).await {
            // The hook is asked: time has passed. What it made is there at once the next time.
            Ok(_) if clock::now() > limits.start_by => {
                CreateAnswer::NotMade { why: "pod_mutation_hook took longer than the term allows".into() }
            }
            Ok(body) => {
                debug_assert_eq!(
                    body["metadata"]["name"].as_str(),
                    Some(pod.name.as_str()),
                    "the name is the launch's"
                );
                self.send(&body, launch, attempt, limits.timeout_ms).await
            }
            Err(Unmade::NotNow(why)) => CreateAnswer::NotMade { why },
            Err(Unmade::NotYet(reason, why)) => CreateAnswer::NotYet { reason, why },
            Err(Unmade::Never(reason, message)) => CreateAnswer::Refused { reason, message },
        };
        match &answer {
            CreateAnswer::Created(_) => {
                self.metrics.created_after(clock::utc().0.saturating_sub(spec.queueing.queued_at.0));
            }
            CreateAnswer::Refused { reason, message } => {
                let (key, tried) = (&spec.queueing.key, spec.queueing.try_number);
                tracing::warn!("{key} try {tried} fails without a pod: {}: {message}", reason.as_str());
            }
            CreateAnswer::Adopted(_)
            | CreateAnswer::NameTaken { .. }
            | CreateAnswer::QuotaFull { .. }
            | CreateAnswer::NamespaceNotReady { .. }
            | CreateAnswer::NotMade { .. }
            | CreateAnswer::NotYet { .. }
            | CreateAnswer::TooManyRequests { .. }
            | CreateAnswer::Unknown { .. } => {}
        }
        answer
    }

    async fn send(&self, body: &Value, launch: &LaunchId, attempt: Attempt, timeout_ms: u64) -> CreateAnswer {
        let limit = Duration::from_millis(timeout_ms);
        let call = self.cluster.create(body, launch, attempt, limit);
        let answer = timeout(limit + Duration::from_millis(CREATE_GRACE_MS), call).await;
        answer.unwrap_or_else(|_| CreateAnswer::Unknown { error: late(timeout_ms) })
    }

    async fn get(&self, pod: &PodRef, launch: &LaunchId, attempt: Attempt) -> GetAnswer {
        let call = self.cluster.get(pod, launch, attempt);
        let answer = timeout(Duration::from_millis(CALL_MS), call).await;
        answer.unwrap_or_else(|_| GetAnswer::Failed { error: late(CALL_MS) })
    }
}

/// A question about the term is worth nothing once half a lease has passed.
async fn term(call: impl Future<Output = TermAnswer>, lease_ms: u64) -> Answer {
    let limit = lease_ms / 2;
    let answer = timeout(Duration::from_millis(limit), call).await;
    Answer::Term(answer.unwrap_or_else(|_| TermAnswer::Failed { error: late(limit) }))
}

/// Errors become a sentence: the engine counts and shows them, it does not read them.
async fn within<T>(limit_ms: u64, call: impl Future<Output = Result<T, BridgeError>>) -> Result<T, String> {
    match timeout(Duration::from_millis(limit_ms), call).await {
        Ok(answer) => answer.map_err(|error| error.chain()),
        Err(_) => Err(late(limit_ms)),
    }
}

/// Of a pass over all launches of this term; None: the term is over.
async fn in_term<T>(call: impl Future<Output = Result<T, BridgeError>>) -> Result<Option<T>, String> {
    match timeout(Duration::from_millis(PASS_MS), call).await {
        Ok(Ok(found)) => Ok(Some(found)),
        Ok(Err(BridgeError::Fenced { .. })) => Ok(None),
        Ok(Err(error)) => Err(error.chain()),
        Err(_) => Err(late(PASS_MS)),
    }
}

fn late(limit_ms: u64) -> String {
    format!("no answer within {limit_ms} ms")
}

/// The call's name as metrics label; None for calls that are not the database's.
fn database_call(ask: &Ask) -> Option<&'static str> {
    match ask {
        Ask::Create { .. }
        | Ask::GetPod { .. }
        | Ask::OpenGate { .. }
        | Ask::DeletePod { .. }
        | Ask::KeepLog { .. }
        | Ask::FollowOwners { .. }
        | Ask::Watch(_)
        | Ask::Exit => None,
        _ => Some(name_of(ask)),
    }
}

fn failed(answer: &Answer) -> bool {
    matches!(
        answer,
        Answer::Term(TermAnswer::Failed { .. })
            | Answer::Loaded(Err(_))
            | Answer::Recovered(Err(_))
            | Answer::Intake(Err(_))
            | Answer::Claimed(Err(_))
            | Answer::Tasks(Err(_))
            | Answer::Specs(Err(_))
            | Answer::Launches(Err(_))
            | Answer::Saved(SaveAnswer::Failed { .. })
    )
}

/// Stable: metrics label and log field.
pub(super) fn name_of(ask: &Ask) -> &'static str {
    match ask {
        Ask::AcquireTerm { .. } => "acquire_term",
        Ask::RenewTerm { .. } => "renew_term",
        Ask::ReleaseTerm { .. } => "release_term",
        Ask::Load { .. } => "load",
        Ask::Recover { .. } => "recover",
        Ask::Intake { .. } => "intake",
        Ask::Claim { .. } => "claim",
        Ask::ReadTasks(_) => "read_tasks",
        Ask::ReadSpecs(_) => "read_specs",
        Ask::FindWithdrawn { .. } => "find_withdrawn",
        Ask::FindLaunches(_) => "find_launches",
        Ask::Save { .. } => "save",
        Ask::NotePods(_) => "note_pods",
        Ask::KeepLog { .. } => "keep_log",
        Ask::FollowOwners { .. } => "follow_owners",
        Ask::Purge { .. } => "purge",
        Ask::Create { .. } => "create_pod",
        Ask::GetPod { .. } => "get_pod",
        Ask::OpenGate { .. } => "open_gate",
        Ask::DeletePod { .. } => "delete_pod",
        Ask::Watch(_) => "watch",
        Ask::Exit => "exit",
    }
}
