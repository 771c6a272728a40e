//! The loop that feeds the engine: executes its commands, gives back the answers. Decides nothing.
//!
//! One task owns the engine; each command runs in a task of its own and answers by channel. Answers go unbounded (the
//! engine bounds its commands), pod events through a bounded channel: a burst slows the watch, not the engine.

mod execute;
mod logs;
mod owners;
mod trouble;
mod wake;
mod watch;

use std::sync::Arc;
use std::time::Duration;

pub use execute::Edges;
pub use logs::FailedLogs;
pub use owners::Owners;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use trouble::Troubles;
pub use wake::WakeSource;
use windlass_core::cluster::PodEvent;
use windlass_core::time::Millis;
use windlass_engine::{Ask, Command, Engine, Input, Report};

use crate::clock;
use crate::health::Health;

/// Pod events that may wait for the engine before the watch itself has to.
const POD_EVENTS_MAX: usize = 4_096;

/// A turn of the loop that takes longer is worth a warning, in milliseconds.
const SLOW_TURN_MS: u64 = 100;

/// The engine's report is published this often, in milliseconds. It walks over all launches.
const REPORT_MS: u64 = 1_000;

/// The running loop.
pub struct Driver {
    engine: Engine,
    edges: Arc<Edges>,
    health: Arc<Health>,
    next_report: Millis,
    told: Option<String>,
    troubles: Troubles,
    stopping: bool,
}

impl Driver {
    /// A loop over `engine`; `health` is told of every turn.
    pub fn new(engine: Engine, edges: Edges, health: Arc<Health>) -> Self {
        Self {
            engine,
            edges: Arc::new(edges),
            health,
            next_report: Millis(0),
            told: None,
            troubles: Troubles::default(),
            stopping: false,
        }
    }

    /// Runs until the engine has handed its term over after `stop`. `news`: of the cluster beside our pods.
    pub async fn run(
        mut self,
        wakes: Vec<WakeSource>,
        mut news: mpsc::Receiver<Input>,
        stop: CancellationToken,
    ) {
        let (answer_in, mut answers) = mpsc::unbounded_channel();
        let (pod_in, mut pods) = mpsc::channel::<PodEvent>(POD_EVENTS_MAX);
        let mut woken = wake::listen(wakes, &self.edges.metrics);
        let mut watch = watch::Watch::new(self.edges.clone(), pod_in);
        loop {
            let now = clock::now();
            let wait = Duration::from_millis(self.engine.wake_at(now).since(now));
            let input = tokio::select! {
                biased;
                () = stop.cancelled(), if !self.stopping => {
                    self.stopping = true;
                    Input::Stop
                }
                Some(input) = answers.recv() => input,
                Some(()) = woken.recv() => Input::Woken,
                Some(event) = pods.recv() => Input::Pod(event),
                Some(input) = news.recv() => input,
                () = sleep_until(Instant::now() + wait) => Input::Tick,
            };
            let began = clock::now();
            let timer = self.edges.metrics.loop_turn.start_timer();
            let what = name_of(&input);
            for command in self.engine.handle(began, input) {
                match command.ask {
                    Ask::Exit => {
                        info!("nothing is under way and the term is given back: the end");
                        return;
                    }
                    Ask::Watch(on) => watch.set(on),
                    _ => self.execute(command, answer_in.clone()),
                }
            }
            timer.observe_duration();
            let took = clock::now().since(began);
            if took > SLOW_TURN_MS {
                warn!(duration_ms = took, input = what, "a turn of the loop was slow");
            }
            self.publish(began);
        }
    }

    /// Probes and metrics; a change of leadership is logged once.
    fn publish(&mut self, now: Millis) {
        self.health.beat(now);
        if now < self.next_report {
            return;
        }
        self.next_report = now.plus(REPORT_MS);
        let report = self.engine.report(now);
        self.edges.metrics.report(&report);
        for (source, count, last) in self.troubles.take(&report.counters, now) {
            match count {
                1 => warn!("{source}: {last}"),
                more => warn!("{source}: {more} errors, the last: {last}"),
            }
        }
        let (serves, standing) = standing(&report, self.stopping);
        if self.told.as_ref() != Some(&standing) {
            info!("{standing}");
        }
        let text = format!("{standing}{}", self.troubles.present(now));
        if serves {
            self.health.ready(&text);
        } else {
            self.health.waiting(&text);
        }
        self.told = Some(standing);
    }

    fn execute(&self, command: Command, answers: mpsc::UnboundedSender<Input>) {
        let edges = self.edges.clone();
        tokio::spawn(async move {
            debug!(command = command.id.0, ask = execute::name_of(&command.ask), "execute");
            let answer = edges.execute(command.ask).await;
            // The loop has ended when nobody receives: nobody waits for the answer.
            let _ = answers.send(Input::Answer { id: command.id, answer });
        });
    }
}

/// Whether it can serve, and how it stands.
fn standing(report: &Report, stopping: bool) -> (bool, String) {
    match (report.leading, report.epoch, &report.holder) {
        _ if stopping => {
            (false, "stopping: what is under way is finished, then the term is handed over".into())
        }
        (true, Some(epoch), _) => (true, format!("leading (term {epoch})")),
        (true, None, _) => (true, "leading, and waiting for the term to be renewed".into()),
        (false, _, Some(holder)) => (true, format!("standby: `{holder}` leads")),
        (false, _, None) => (false, "standby: waiting for the database to say who leads".into()),
    }
}

fn name_of(input: &Input) -> &'static str {
    match input {
        Input::Tick => "tick",
        Input::Woken => "woken",
        Input::Stop => "stop",
        Input::Answer { .. } => "answer",
        Input::Pod(_) => "pod event",
        Input::Noted(_) => "warning of a controller",
        Input::Branches(_) => "branch interfaces",
    }
}
