//! Does the faults of a plan when they are due, and starts again what they ended.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::api::{DeleteParams, ListParams};
use serde_json::Value;
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval};

use crate::deployment::Deployment;
use crate::http;
use crate::plan::{Fault, Form};
use crate::story::Rng;

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(100);
/// Longer than the lease of 4.5 s: when it wakes, another one leads.
const PAUSE: Duration = Duration::from_millis(6_500);

/// The servers that are down, and what was seen that must not be.
#[derive(Debug, Default)]
pub(crate) struct Chaos {
    database_back_at: Option<Instant>,
    apiserver_back_at: Option<Instant>,
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
            self.tick(on)?;
            while let Some((_, fault)) = next.filter(|(at, _)| *at <= start.elapsed()) {
                self.apply(*fault, on, form, rng).await?;
                next = left.next();
            }
            let all_up = on.daemons.iter().chain(&on.airflow_parts).all(|part| part.is_up());
            let servers_up = self.database_back_at.is_none() && self.apiserver_back_at.is_none();
            if next.is_none() && all_up && servers_up && start.elapsed() > form.chaos {
                return Ok(());
            }
        }
    }

    /// Starts what is due.
    pub(crate) fn tick(&mut self, on: &mut Deployment) -> Result<()> {
        if self.database_back_at.is_some_and(|at| at <= Instant::now()) {
            self.database_back_at = None;
            block_in_place(|| on.postgres.start_again())?;
            on.story.say("the database answers again");
        }
        if self.apiserver_back_at.is_some_and(|at| at <= Instant::now()) {
            self.apiserver_back_at = None;
            on.plane.start_apiserver_again()?;
            on.story.say("the API server is started again");
        }
        self.violations.extend(block_in_place(|| on.tick())?);
        Ok(())
    }

    async fn apply(&mut self, fault: Fault, on: &mut Deployment, form: &Form, rng: &mut Rng) -> Result<()> {
        let story = std::sync::Arc::clone(&on.story);
        let told = match fault {
            Fault::KillDaemon => {
                let number = self.victim(on, rng).await;
                let down = Duration::from_millis(rng.between(100, 3_000));
                block_in_place(|| on.daemons[number].kill(down));
                format!("kill -9 of daemon-{number}, back in {down:?}")
            }
            Fault::PauseDaemon => {
                let number = on.term().await.map_or(0, |(number, _)| number);
                on.daemons[number].pause(PAUSE);
                format!("SIGSTOP of daemon-{number} for {PAUSE:?}")
            }
            Fault::KillScheduler => {
                let number = usize::try_from(rng.below(2)).unwrap_or(0);
                let down = Duration::from_millis(rng.between(100, 3_000));
                block_in_place(|| on.airflow_parts[number].kill(down));
                format!("kill -9 of scheduler-{number}, back in {down:?}")
            }
            Fault::RestartDatabase => {
                block_in_place(|| on.postgres.crash());
                let down = Duration::from_millis(rng.between(300, 3_000));
                self.database_back_at = Some(Instant::now() + down);
                format!("immediate stop of the database, back in {down:?}")
            }
            Fault::ApiOutage => {
                block_in_place(|| on.plane.apiserver().map(|process| process.kill()));
                self.apiserver_back_at = Some(Instant::now() + form.api_outage);
                let compacted = compact(on).await;
                format!("the API server is killed for {:?}; {compacted}", form.api_outage)
            }
            Fault::CutDatabase => {
                let (daemons, airflow) = (on.database_proxy.cut(), on.airflow_proxy.cut());
                format!("cut of {daemons} connections of daemons and {airflow} of Airflow to the database")
            }
            Fault::LoseDatabaseAnswers => {
                on.database_proxy.lose_answers(2);
                "the next 2 answers of the database to daemons are lost".to_owned()
            }
            Fault::CutApi => format!("cut of {} connections to the API server", on.api_proxy.cut()),
            Fault::LoseApiAnswers => {
                on.api_proxy.lose_answers(2);
                "the next 2 answers of the API server are lost".to_owned()
            }
            Fault::SilenceApi => {
                format!("{} connections to the API server fall silent", on.api_proxy.silence())
            }
            Fault::Compact => {
                let compacted = compact(on).await;
                format!("{compacted}, and {} connections to the API server are cut", on.api_proxy.cut())
            }
            Fault::DeletePods => delete_pods(on, rng).await,
        };
        story.say(&told);
        Ok(())
    }

    /// Mostly the one that leads.
    async fn victim(&self, on: &Deployment, rng: &mut Rng) -> usize {
        let leader = on.term().await.map_or(0, |(number, _)| number);
        if rng.below(4) == 0 { 1 - leader } else { leader }
    }
}

/// etcd forgets all history before now.
async fn compact(on: &Deployment) -> String {
    match try_compact(on).await {
        Ok(revision) => format!("etcd is compacted at {revision}"),
        Err(error) => format!("etcd could not be compacted: {error:#}"),
    }
}

async fn try_compact(on: &Deployment) -> Result<String> {
    let port = on.plane.etcd_url().rsplit(':').next().and_then(|port| port.parse().ok());
    let port = port.context("etcd's address has no port")?;
    // "Lw==" is "/".
    let answer = http::ask(port, "POST", "/v3/kv/range", r#"{"key": "Lw=="}"#).await?;
    let begin = answer.find('{').context("no JSON from etcd")?;
    let end = answer.rfind('}').context("no JSON from etcd")?;
    let header: Value = serde_json::from_str(&answer[begin..=end])?;
    let revision = header["header"]["revision"].as_str().context("no revision from etcd")?;
    let compaction = format!(r#"{{"revision": "{revision}", "physical": true}}"#);
    http::ask(port, "POST", "/v3/kv/compaction", &compaction).await?;
    Ok(revision.to_owned())
}

/// Up to three, each by force or with its grace.
async fn delete_pods(on: &Deployment, rng: &mut Rng) -> String {
    let pods = on.pods();
    let listing =
        tokio::time::timeout(Duration::from_secs(3), pods.list_metadata(&ListParams::default())).await;
    let Ok(Ok(list)) = listing else { return "no pod could be deleted: no list".to_owned() };
    let mut deleted = Vec::new();
    for _ in 0..3.min(list.items.len()) {
        let place = usize::try_from(rng.below(list.items.len() as u64)).unwrap_or(0);
        let name = list.items[place].metadata.name.clone().unwrap_or_default();
        let by_force = rng.below(2) == 0;
        let mut params = DeleteParams::default();
        if by_force {
            params.grace_period_seconds = Some(0);
        }
        let done = tokio::time::timeout(Duration::from_secs(3), pods.delete(&name, &params)).await;
        let how = if by_force { "by force" } else { "with grace" };
        let result = if matches!(done, Ok(Ok(_))) { "deleted" } else { "not deleted" };
        deleted.push(format!("{name} {result} {how}"));
    }
    format!("somebody deletes pods: {}", deleted.join(", "))
}
