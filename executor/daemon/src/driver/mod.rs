//! The loop that feeds the engine: executes its commands, gives back the answers. Decides nothing.
//!
//! One task owns the engine; each command runs in a task of its own and answers by channel. Answers go unbounded (the
//! engine bounds its commands), pod events through a bounded channel: a burst slows the watch, not the engine.

mod execute;
mod wake;
mod watch;

use std::sync::Arc;
use std::time::Duration;

pub use execute::Edges;
use tokio::sync::{mpsc, watch as signal};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
pub use wake::WakeSource;
use windlass_core::cluster::PodEvent;
use windlass_core::time::Millis;
use windlass_engine::{Ask, Command, Engine, Input, Report};

use crate::clock::Clock;

/// Pod events that may wait for the engine before the watch itself has to.
const POD_EVENTS_MAX: usize = 4_096;

/// A turn of the loop that takes longer is worth a warning, in milliseconds.
const SLOW_TURN_MS: u64 = 100;

/// The engine's report is published this often, in milliseconds.
const REPORT_MS: u64 = 1_000;

/// What the loop publishes about itself.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// When the loop last turned.
    pub turned: Millis,
    /// The engine, as it stood within the last second; none before the first report.
    pub report: Option<Report>,
}

/// The running loop.
pub struct Driver {
    engine: Engine,
    edges: Arc<Edges>,
    clock: Clock,
    pulse: signal::Sender<Pulse>,
}

impl Driver {
    /// A loop over `engine`; `pulse` is told of every turn.
    pub fn new(engine: Engine, edges: Edges, clock: Clock, pulse: signal::Sender<Pulse>) -> Self {
        Self { engine, edges: Arc::new(edges), clock, pulse }
    }

    /// Runs until the engine has handed its term over after `stop` was signalled.
    pub async fn run(mut self, wakes: Vec<WakeSource>, mut stop: signal::Receiver<bool>) {
        let (answer_in, mut answers) = mpsc::unbounded_channel();
        let (pod_in, mut pods) = mpsc::channel::<PodEvent>(POD_EVENTS_MAX);
        let mut woken = wake::listen(wakes);
        let mut watch = watch::Watch::new(self.edges.clone(), pod_in);
        let mut stopping = false;
        let mut next_report = Millis(0);
        loop {
            let now = self.clock.now();
            let wait = self.engine.wake_at(now).since(now);
            let input = tokio::select! {
                biased;
                changed = stop.changed(), if !stopping => {
                    stopping = changed.is_err() || *stop.borrow();
                    if stopping { Input::Stop } else { Input::Tick }
                }
                Some(input) = answers.recv() => input,
                Some(()) = woken.recv() => Input::Woken,
                Some(event) = pods.recv() => Input::Pod(event),
                () = sleep_until(Instant::now() + Duration::from_millis(wait)) => Input::Tick,
            };
            let began = self.clock.now();
            let what = name_of(&input);
            for command in self.engine.handle(began, input) {
                match command.ask {
                    Ask::Exit => {
                        info!("the term is handed over; nothing is under way");
                        return;
                    }
                    Ask::Watch(on) => watch.set(on),
                    _ => self.execute(command, answer_in.clone()),
                }
            }
            let turned = self.clock.now();
            if turned.since(began) > SLOW_TURN_MS {
                warn!(duration_ms = turned.since(began), input = what, "a turn of the loop was slow");
            }
            let report = (turned >= next_report).then(|| self.engine.report(turned));
            if report.is_some() {
                next_report = turned.plus(REPORT_MS);
            }
            self.pulse.send_modify(|pulse| {
                pulse.turned = turned;
                if report.is_some() {
                    pulse.report = report;
                }
            });
        }
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

fn name_of(input: &Input) -> &'static str {
    match input {
        Input::Tick => "tick",
        Input::Woken => "woken",
        Input::Stop => "stop",
        Input::Answer { .. } => "answer",
        Input::Pod(_) => "pod event",
    }
}
