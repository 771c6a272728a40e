//! What the promises say in seconds, under load and without other faults: takeover, hand-over, a killed pod.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::block_in_place;
use tokio::time::sleep;
use windlass_suite::kill_container;

use crate::chaos::Chaos;
use crate::deployment::Deployment;
use crate::load;

/// Between two looks: the resolution of what is measured.
const LOOK: Duration = Duration::from_millis(10);
/// Nothing that is measured takes longer unless something is wrong.
const WITHIN: Duration = Duration::from_secs(60);
/// Nobody looks at the killed one meanwhile.
const FOREVER: Duration = Duration::from_secs(3_600);

/// Times of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// The time below which `percent` of them are: of few, the largest for 99.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(rank).copied().unwrap_or_default()
    }

    fn line(&self, what: &str) -> String {
        let ms = |percent| self.percentile(percent).as_millis();
        format!("measured: {what}: {} samples, p50 {} ms, p99 {} ms", self.0.len(), ms(50), ms(99))
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) takeover: Times,
    pub(crate) hand_over: Times,
    /// Until its outcome stands where Airflow's scheduler fetches it.
    pub(crate) handed_to_airflow: Times,
    /// Until Airflow's row says something else, the scheduler's loop included.
    pub(crate) killed_pod: Times,
}

impl Measured {
    pub(crate) fn lines(&self) -> String {
        let lines = [
            self.takeover.line("takeover after kill -9 of the leader"),
            self.hand_over.line("hand-over after SIGTERM to the leader"),
            self.handed_to_airflow.line("a killed pod's outcome is there for Airflow"),
            self.killed_pod.line("new state in Airflow of a running task whose pod was killed"),
        ];
        lines.join("\n")
    }
}

/// Takes `samples` of each.
pub(crate) async fn measure(on: &mut Deployment, chaos: &mut Chaos, samples: usize) -> Result<Measured> {
    let mut measured = Measured::default();
    for _ in 0..samples {
        let leader = both_ready(on, chaos).await?;
        block_in_place(|| on.daemons[leader].kill(FOREVER));
        let took = new_term(on, leader).await?;
        on.story.say(&format!("measured: daemon-{leader} killed, taken over after {took:?}"));
        measured.takeover.0.push(took);
        on.daemons[leader].start()?;
    }
    for _ in 0..samples {
        let leader = both_ready(on, chaos).await?;
        let process = on.daemons[leader].terminate().context("the leader does not run")?;
        let took = new_term(on, leader).await?;
        on.story.say(&format!("measured: daemon-{leader} told to stop, handed over after {took:?}"));
        measured.hand_over.0.push(took);
        let status = process.wait(WITHIN).await?;
        ensure!(status.success(), "daemon-{leader} ended with {status} after SIGTERM");
        on.daemons[leader].start()?;
    }
    both_ready(on, chaos).await?;
    let mut extra = 0;
    while measured.killed_pod.0.len() < samples {
        match killed_pod(on).await? {
            Some((handed, changed)) => {
                measured.handed_to_airflow.0.push(handed);
                measured.killed_pod.0.push(changed);
            }
            None => {
                load::trigger(&on.airflow, &format!("extra{extra}")).await?;
                extra += 1;
                wait_for_victims(on).await?;
            }
        }
    }
    Ok(measured)
}

/// Waits until both daemons serve and one leads; returns which.
async fn both_ready(on: &mut Deployment, chaos: &mut Chaos) -> Result<usize> {
    let deadline = Instant::now() + WITHIN;
    loop {
        chaos.tick(on).await?;
        if on.is_ready(0).await
            && on.is_ready(1).await
            && let Some((leader, _)) = on.term().await
        {
            return Ok(leader);
        }
        ensure!(Instant::now() < deadline, "no two daemons are ready after {WITHIN:?}");
        sleep(LOOK).await;
    }
}

/// From now until another daemon than `old` holds the term.
async fn new_term(on: &Deployment, old: usize) -> Result<Duration> {
    let begun = Instant::now();
    while on.term().await.is_none_or(|(leader, _)| leader == old) {
        ensure!(begun.elapsed() < WITHIN, "nobody has taken the term of daemon-{old} after {WITHIN:?}");
        sleep(LOOK).await;
    }
    Ok(begun.elapsed())
}

type Victim = (String, i32, i32, String);

/// A body that has begun and has seconds to go.
const VICTIM: &str = "
    SELECT run_id, map_index, try_number, hostname FROM task_instance
    WHERE dag_id = $1 AND task_id = 'slow' AND state = 'running' AND start_date > now() - interval '4 s'
    ORDER BY start_date DESC LIMIT 1";

async fn victim(on: &Deployment) -> Result<Option<Victim>> {
    let look = sqlx::query_as::<_, Victim>(VICTIM).bind(load::DAG).fetch_optional(&on.pool);
    look.await.context("look for a running task")
}

async fn wait_for_victims(on: &Deployment) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while victim(on).await?.is_none() {
        ensure!(Instant::now() < deadline, "no slow task runs after {WITHIN:?}");
        sleep(LOOK).await;
    }
    Ok(())
}

/// Whether the row still says that this try runs, and whether its launch has an outcome.
const CHANGED: &str = "
    SELECT coalesce(ti.state = 'running' AND ti.try_number = $4, false),
        EXISTS (SELECT FROM windlass.launch l WHERE l.dag_id = $1 AND l.run_id = $2 AND l.task_id = 'slow'
            AND l.map_index = $3 AND l.try_number = $4 AND l.outcome IS NOT NULL)
    FROM task_instance ti
    WHERE ti.dag_id = $1 AND ti.run_id = $2 AND ti.task_id = 'slow' AND ti.map_index = $3";

/// From the kernel's kill until the outcome is there, and until Airflow's row shows it.
async fn killed_pod(on: &Deployment) -> Result<Option<(Duration, Duration)>> {
    let Some((run_id, map_index, try_number, pod)) = victim(on).await? else { return Ok(None) };
    let killed = block_in_place(|| kill_container(&pod));
    if killed == 0 {
        bail!("no process of the running pod {pod}");
    }
    let begun = Instant::now();
    let mut handed = None;
    loop {
        let look = sqlx::query_as::<_, (bool, bool)>(CHANGED).bind(load::DAG).bind(&run_id);
        let (runs, settled) = look.bind(map_index).bind(try_number).fetch_one(&on.pool).await?;
        if settled && handed.is_none() {
            handed = Some(begun.elapsed());
        }
        if !runs {
            break;
        }
        ensure!(
            begun.elapsed() < WITHIN,
            "{run_id} slow {map_index} still runs {WITHIN:?} after {pod} was killed"
        );
        sleep(LOOK).await;
    }
    let took = begun.elapsed();
    on.story.say(&format!("measured: {pod} killed, {run_id} slow {map_index} changed after {took:?}"));
    Ok(Some((handed.unwrap_or(took), took)))
}
