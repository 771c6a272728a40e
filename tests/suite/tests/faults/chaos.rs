//! Does the faults of a plan when they are due, and ends each when its time is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval};
use windlass_lab::pgbouncer::PgBouncer;
use windlass_lab::process::Supervised;
use windlass_sim::Rng;

use crate::cluster_faults;
use crate::deployment::Deployment;
use crate::plan::{Fault, Form};

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(100);
/// Longer than the lease of 4.5 s: when it wakes, another one leads.
const PAUSE: Duration = Duration::from_millis(6_500);
/// How long a storm, a full quota, a full disk and a silent webhook last: longer than from one run's trigger to the next one's. They
/// go on after that until something has run into them: on a slow machine, with both schedulers starting again and the
/// API server away, no container may start for 40 s.
const HOLDS: Duration = Duration::from_secs(9);
const HOLDS_AT_MOST: Duration = Duration::from_secs(90);
/// Pods whose interfaces are never made, of the five with security groups that a run has.
const JOBS: usize = 2;
/// A fault that can't be done, for want of an API server or of pods, is tried again for so long.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);
/// After an end that could not be: the API server may be away.
const AGAIN: Duration = Duration::from_millis(500);
/// One attempt to end a fault.
const ATTEMPT: Duration = Duration::from_secs(5);
/// A fault that can't be ended for so long is a fault of the test.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// A fault that holds until it is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holding {
    Database,
    ApiServer,
    Pooler,
    /// Containers that had found it full before.
    Disk(u64),
    /// Pods that it had been asked about before.
    Webhook(u64),
    Storm(String),
    /// The quota, and what the API server had refused for quotas before.
    Quota(String, u64),
    Namespace,
}

impl Holding {
    fn told(&self) -> &'static str {
        match self {
            Self::Database => "the database answers again",
            Self::ApiServer => "the API server is started again",
            Self::Pooler => "the pooler is started again",
            Self::Disk(_) => "the disk of the logs has room again",
            Self::Webhook(_) => "EKS's webhook gives roles again",
            Self::Storm(_) => "the daemons have their seats again",
            Self::Quota(..) => "the quota is gone",
            Self::Namespace => "the namespace is there again",
        }
    }
}

#[derive(Debug)]
struct Due {
    at: Instant,
    since: Instant,
    holding: Holding,
    /// That it can't be ended has been told.
    told: bool,
}

/// What the API server is told to refuse, or to delete.
#[derive(Clone, Copy, Debug)]
enum Order {
    Storm,
    Quota,
    Namespace,
}

/// An order that the API server has not taken yet.
#[derive(Debug)]
struct Late {
    order: Order,
    /// Of what it makes: counts by name begin with it, and a second attempt finds what the first has made.
    name: String,
    at: Instant,
    since: Instant,
}

/// The faults that hold, and what was seen of them.
#[derive(Debug, Default)]
pub(crate) struct Chaos {
    due: Vec<Due>,
    late: Vec<Late>,
    orders: u32,
    /// Requests refused by storms and quotas, pods that a namespace took with it, containers without room for a log.
    pub(crate) seen: BTreeMap<Fault, u64>,
    /// What must not be.
    pub(crate) violations: Vec<String>,
}

impl Chaos {
    /// Plays the plan to its end; returns when all parts have been started again.
    pub(crate) async fn play(
        &mut self,
        on: &mut Deployment,
        plan: &[(Duration, Fault)],
        form: &Form,
        rng: &mut Rng,
    ) -> Result<()> {
        let start = Instant::now();
        let mut left = plan.iter();
        let mut next = left.next();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tick(on).await?;
            while let Some((_, fault)) = next.filter(|(at, _)| *at <= start.elapsed()) {
                let told = self.apply(*fault, on, form, rng).await?;
                on.story.say(&told);
                next = left.next();
            }
            self.give_orders(on).await;
            let all_up = on.daemons.iter().chain(&on.airflow_parts).all(|part| part.is_up());
            if next.is_none()
                && all_up
                && self.due.is_empty()
                && self.late.is_empty()
                && start.elapsed() > form.chaos
            {
                return Ok(());
            }
        }
    }

    /// Ends and starts what is due.
    pub(crate) async fn tick(&mut self, on: &mut Deployment) -> Result<()> {
        let now = Instant::now();
        for due in std::mem::take(&mut self.due) {
            if due.at > now {
                self.due.push(due);
                continue;
            }
            match tokio::time::timeout(ATTEMPT, self.end(&due, on)).await {
                Ok(Ok(true)) => on.story.say(due.holding.told()),
                Ok(Ok(false)) | Err(_) if due.since.elapsed() < ENDS_WITHIN => self.again(due),
                Ok(Err(error)) if due.since.elapsed() < ENDS_WITHIN => {
                    if !due.told {
                        on.story.say(&format!("{:?} can't be ended now: {error:#}", due.holding));
                    }
                    self.again(Due { told: true, ..due });
                }
                Ok(Err(error)) => return Err(error).with_context(|| format!("end {:?}", due.holding)),
                Ok(Ok(false)) | Err(_) => {
                    bail!("{:?} is not over after {ENDS_WITHIN:?}", due.holding)
                }
            }
        }
        self.violations.extend(block_in_place(|| on.tick())?);
        Ok(())
    }

    fn again(&mut self, due: Due) {
        self.due.push(Due { at: Instant::now() + AGAIN, ..due });
    }

    /// Whether this fault is over now.
    async fn end(&mut self, due: &Due, on: &mut Deployment) -> Result<bool> {
        let enough = due.since.elapsed() > HOLDS_AT_MOST;
        match &due.holding {
            Holding::Database => block_in_place(|| on.postgres.start_again())?,
            Holding::ApiServer => on.plane.start_apiserver_again()?,
            Holding::Pooler => on.pooler.as_mut().map_or(Ok(()), |pooler| pooler.start_again())?,
            Holding::Disk(before) => {
                let starts = on.starts_without_room();
                if starts == *before && !enough {
                    return Ok(false);
                }
                on.fill_disk(false)?;
                self.seen.insert(Fault::FillDisk, starts);
            }
            Holding::Webhook(before) => {
                let asked = on.aws.asked() - before;
                if asked == 0 && !enough {
                    return Ok(false);
                }
                on.aws.silence(false);
                *self.seen.entry(Fault::SilenceWebhook).or_default() += asked;
            }
            Holding::Storm(name) => {
                let refused = cluster_faults::refused_by_storm(on, name).await?;
                if refused == 0 && !enough {
                    return Ok(false);
                }
                cluster_faults::end_storm(on, name).await?;
                *self.seen.entry(Fault::Storm).or_default() += refused;
                on.story.say(&format!("{refused} requests of daemons got 429"));
            }
            Holding::Quota(name, before) => {
                let refused = cluster_faults::over_quota(on).await?;
                // Fewer than before: the API server counts anew since it was started again.
                let refused = refused.checked_sub(*before).unwrap_or(refused);
                if refused == 0 && !enough {
                    return Ok(false);
                }
                cluster_faults::end_quota(on, name).await?;
                *self.seen.entry(Fault::FillQuota).or_default() += refused;
                on.story.say(&format!("{refused} creates were over the quota"));
            }
            Holding::Namespace => return cluster_faults::make_namespace_again(on).await,
        }
        Ok(true)
    }

    /// What is away already comes back once, after the later of the two.
    fn hold(&mut self, holding: Holding, lasts: Duration) {
        let since = Instant::now();
        self.due.retain(|due| due.holding != holding);
        self.due.push(Due { at: since + lasts, since, holding, told: false });
    }

    fn holds(&self, which: impl Fn(&Holding) -> bool) -> bool {
        self.due.iter().any(|due| which(&due.holding))
    }

    /// Does it, and tells what was done.
    async fn apply(
        &mut self,
        fault: Fault,
        on: &mut Deployment,
        form: &Form,
        rng: &mut Rng,
    ) -> Result<String> {
        let down = Duration::from_millis(rng.between(300, 3_000));
        Ok(match fault {
            Fault::KillDaemon => {
                let number = self.victim(on, rng).await;
                block_in_place(|| on.daemons[number].kill(down));
                format!("kill -9 of daemon-{number}, back in {down:?}")
            }
            Fault::PauseDaemon => {
                let number = on.term().await.map_or(0, |(number, _)| number);
                on.daemons[number].pause(PAUSE);
                format!("SIGSTOP of daemon-{number} for {PAUSE:?}")
            }
            Fault::KillScheduler => {
                let number = rng.index(2);
                block_in_place(|| on.airflow_parts[number].kill(down));
                format!("kill -9 of scheduler-{number}, back in {down:?}")
            }
            Fault::KillHelper => format!("kill -9 of {} helpers of pod_mutation_hook", on.kill_helpers()),
            Fault::RestartDatabase => {
                block_in_place(|| on.postgres.crash());
                self.hold(Holding::Database, down);
                format!("immediate stop of the database, back in {down:?}")
            }
            Fault::RestartPooler => {
                block_in_place(|| on.pooler.as_ref().map(PgBouncer::kill));
                self.hold(Holding::Pooler, down);
                format!("kill -9 of the pooler, back in {down:?}")
            }
            Fault::CutDatabase => {
                let (daemons, airflow) = (on.database_proxy.cut(), on.airflow_proxy.cut());
                format!("cut of {daemons} connections of daemons and {airflow} of Airflow to the database")
            }
            Fault::SilenceDatabase => {
                format!("{} connections of daemons to the database fall silent", on.database_proxy.silence())
            }
            Fault::LoseDatabaseAnswers => {
                on.database_proxy.lose_answers(2);
                "the next 2 answers of the database to daemons are lost".to_owned()
            }
            Fault::ApiOutage => self.kill_apiserver(on, form.api_outage).await,
            Fault::CutApi => format!("cut of {} connections to the API server", on.api_proxy.cut()),
            Fault::LoseApiAnswers => {
                on.api_proxy.lose_answers(2);
                "the next 2 answers of the API server are lost".to_owned()
            }
            Fault::SilenceApi => {
                format!("{} connections to the API server fall silent", on.api_proxy.silence())
            }
            Fault::Compact => {
                let compacted = cluster_faults::compact(on).await;
                format!("{compacted}, and {} connections to the API server are cut", on.api_proxy.cut())
            }
            Fault::DeletePods => cluster_faults::delete_pods(on, rng).await,
            Fault::Storm => self.order(Order::Storm),
            Fault::FillQuota => self.order(Order::Quota),
            Fault::DeleteNamespace => self.order(Order::Namespace),
            Fault::FillDisk | Fault::SilenceWebhook | Fault::DropInterfaces => self.around_pods(fault, on)?,
        })
    }

    /// What pods find where they are started.
    fn around_pods(&mut self, fault: Fault, on: &Deployment) -> Result<String> {
        Ok(match fault {
            Fault::FillDisk => {
                on.fill_disk(true)?;
                self.hold(Holding::Disk(on.starts_without_room()), HOLDS);
                format!("the disk of the logs is full for {HOLDS:?}")
            }
            Fault::SilenceWebhook => {
                on.aws.silence(true);
                self.hold(Holding::Webhook(on.aws.asked()), HOLDS);
                format!("EKS's webhook for roles is silent for {HOLDS:?}")
            }
            Fault::DropInterfaces => {
                on.aws.drop_jobs(JOBS);
                format!("the next {JOBS} pods with security groups get no interface")
            }
            _ => bail!("{fault:?} is none of those"),
        })
    }

    fn order(&mut self, order: Order) -> String {
        self.orders += 1;
        let (name, now) = (format!("faults-{}", self.orders), Instant::now());
        self.late.push(Late { order, name, at: now, since: now });
        format!("{order:?} is due")
    }

    /// What needs the API server; without it, it is done later.
    async fn give_orders(&mut self, on: &Deployment) {
        let now = Instant::now();
        for late in std::mem::take(&mut self.late) {
            if late.at > now {
                self.late.push(late);
                continue;
            }
            match tokio::time::timeout(ATTEMPT, self.give(&late, on)).await {
                Ok(Ok(told)) => on.story.say(&told),
                Ok(Err(error)) if late.since.elapsed() > BEGINS_WITHIN => {
                    on.story.say(&format!("no {:?}: {error:#}", late.order));
                    self.take_back(late);
                }
                Ok(Err(_)) | Err(_) => self.late.push(Late { at: now + AGAIN, ..late }),
            }
        }
    }

    /// Half of it may be there.
    fn take_back(&mut self, late: Late) {
        match late.order {
            Order::Storm => self.hold(Holding::Storm(late.name), AGAIN),
            Order::Quota => self.hold(Holding::Quota(late.name, 0), AGAIN),
            Order::Namespace => {}
        }
    }

    async fn give(&mut self, late: &Late, on: &Deployment) -> Result<String> {
        match late.order {
            Order::Storm => {
                cluster_faults::begin_storm(on, &late.name).await?;
                self.hold(Holding::Storm(late.name.clone()), HOLDS);
                Ok(format!("the daemons' account has few seats and no queue for {HOLDS:?}"))
            }
            Order::Quota => {
                ensure!(!self.holds(|held| *held == Holding::Namespace), "the namespace is gone");
                let before = cluster_faults::over_quota(on).await?;
                let pods = cluster_faults::fill_quota(on, &late.name).await?;
                self.hold(Holding::Quota(late.name.clone(), before), HOLDS);
                Ok(format!("the namespace has room for {pods} pods for {HOLDS:?}"))
            }
            Order::Namespace => {
                let in_use = |held: &Holding| matches!(held, Holding::Namespace | Holding::Quota(..));
                ensure!(!self.holds(in_use), "it is gone, or would take the quota with it");
                let pods = cluster_faults::pods_of_the_namespace(on).await?;
                ensure!(pods > 0, "there is no pod in it");
                // First: it may go although the answer is an error.
                self.hold(Holding::Namespace, AGAIN);
                cluster_faults::delete_namespace(on).await?;
                *self.seen.entry(Fault::DeleteNamespace).or_default() += pods;
                Ok(format!("the namespace is deleted with {pods} pods"))
            }
        }
    }

    async fn kill_apiserver(&mut self, on: &Deployment, outage: Duration) -> String {
        block_in_place(|| on.plane.apiserver().map(Supervised::kill));
        self.hold(Holding::ApiServer, outage);
        let compacted = cluster_faults::compact(on).await;
        format!("the API server is killed for {outage:?}; {compacted}")
    }

    /// Mostly the one that leads.
    async fn victim(&self, on: &Deployment, rng: &mut Rng) -> usize {
        let leader = on.term().await.map_or(0, |(number, _)| number);
        if rng.below(4) == 0 { 1 - leader } else { leader }
    }
}
