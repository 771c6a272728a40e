//! The driver of one simulated daemon: the production engine, a clock of its own, and commands that take their time.

use windlass_core::task::BranchPool;
use windlass_core::time::Millis;
use windlass_engine::{Answer, Ask, Capacity, Command, Engine, Input};

use crate::agenda::{Event, Sender};
use crate::clock::Clock;
use crate::meter::Meter;
use crate::people::Version;
use crate::plant::Plant;
use crate::world::World;

/// A watch begins anew with a list this often, in milliseconds.
pub(crate) const LIST_AGAIN_MS: u64 = 60_000;

/// A daemon's process, dead or alive, and what survives it.
pub(crate) struct Daemon {
    /// None: not running.
    pub(crate) engine: Option<Engine>,
    /// Grows with each start: what an earlier process asked for is answered to nobody.
    pub(crate) incarnation: u32,
    pub(crate) clock: Clock,
    pub(crate) paused_until: u64,
    pub(crate) watch: Option<Watch>,
    /// Grows with each start and stop of the watch.
    pub(crate) generation: u32,
    pub(crate) holder: String,
    /// What its version and its operator chose.
    pub(crate) version: Version,
    /// Another has taken its place: it does not come back.
    pub(crate) retired: bool,
    /// What its process has done lately (I10).
    pub(crate) meter: Meter,
    /// When it is to be woken next, of the wakes put down.
    wake_at: u64,
}

/// Where a watch stands in the cluster's log.
pub(crate) struct Watch {
    pub(crate) cursor: usize,
    /// A step is put down.
    pub(crate) pending: bool,
    /// It has listed.
    pub(crate) up: bool,
}

impl Daemon {
    pub(crate) fn new(number: usize, clock: Clock, version: Version) -> Self {
        Self {
            engine: None,
            incarnation: 0,
            clock,
            paused_until: 0,
            watch: None,
            generation: 0,
            holder: format!("daemon-{number}"),
            version,
            retired: false,
            meter: Meter::default(),
            wake_at: u64::MAX,
        }
    }
}

impl World {
    pub(crate) fn start_daemon(&mut self, no: usize) {
        let daemon = &mut self.daemons[no];
        if daemon.engine.is_some() || daemon.retired {
            return;
        }
        let engine = Engine::new(daemon.version.settings.clone(), daemon.version.policy.clone());
        daemon.incarnation += 1;
        daemon.engine = Some(engine);
        daemon.wake_at = u64::MAX;
        self.say(None, || format!("daemon {no} starts"));
        self.feed(no, Input::Tick);
        for note in self.warnings() {
            self.feed(no, Input::Noted(note));
        }
        // Sometimes nodes cannot be seen.
        if self.rng.below(2) == 0 {
            self.nodes_change(no, 1);
        }
    }

    /// At least so many branch network interfaces.
    pub(crate) fn nodes_change(&mut self, no: usize, least: u64) {
        let interfaces = u32::try_from(self.rng.between(least, 6)).unwrap_or(1);
        self.feed(no, Input::Branches(Capacity::from([(BranchPool::default(), interfaces)])));
    }

    /// The process is gone. What it sent is on its way.
    pub(crate) fn kill_daemon(&mut self, no: usize, how: &str) {
        let daemon = &mut self.daemons[no];
        if daemon.engine.take().is_none() {
            return;
        }
        daemon.incarnation += 1;
        daemon.generation += 1;
        daemon.watch = None;
        daemon.paused_until = 0;
        let how = how.to_owned();
        self.say(None, || format!("daemon {no} {how}"));
        let back_in = self.rng.delay(50, 3_000, 20_000);
        if !self.daemons[no].retired {
            self.put_in(back_in, Event::Start(no));
        }
    }

    pub(crate) fn wake_daemon(&mut self, no: usize) {
        let daemon = &mut self.daemons[no];
        if daemon.wake_at > self.now {
            return;
        }
        daemon.wake_at = u64::MAX;
        if daemon.paused_until > self.now {
            self.put_in(self.daemons[no].paused_until - self.now, Event::Wake(no));
            self.daemons[no].wake_at = self.daemons[no].paused_until;
            return;
        }
        self.feed(no, Input::Tick);
    }

    /// Its clock has moved: what was put down for later may be due.
    pub(crate) fn wake_soon(&mut self, no: usize) {
        self.daemons[no].wake_at = self.now;
        self.put_in(0, Event::Wake(no));
    }

    pub(crate) fn deliver(&mut self, no: usize, incarnation: u32, input: Box<Input>) {
        let daemon = &mut self.daemons[no];
        if daemon.incarnation != incarnation {
            return;
        }
        if daemon.paused_until > self.now {
            let wait = daemon.paused_until - self.now + self.rng.below(3);
            self.put_in(wait, Event::Deliver { daemon: no, incarnation, input });
            return;
        }
        self.feed(no, *input);
    }

    /// One turn of the driver's loop.
    pub(crate) fn feed(&mut self, no: usize, input: Input) {
        let daemon = &mut self.daemons[no];
        let Some(engine) = &mut daemon.engine else { return };
        let local = Millis(daemon.clock.local(self.now));
        if self.trace.lines.is_some() {
            let words = words_of(&input);
            self.trace.say(self.now, None, || format!("daemon {no} <- {words}"));
        }
        let idle = matches!(input, Input::Tick);
        let commands = engine.handle(local, input);
        let size = engine.size();
        let planted = self.plant == Some(Plant::NoSleep);
        let next = if planted { self.now + 1 } else { daemon.clock.when(engine.wake_at(local).0) };
        if next < daemon.wake_at {
            daemon.wake_at = next;
            self.agenda.put(next, Event::Wake(no));
        }
        if idle && self.daemons[no].meter.ticked(local) {
            self.check.broke(self.now, "I10", None, format!("daemon {no} turns without a pause"));
        }
        self.measure(no, local, size, &commands);
        for command in commands {
            if !self.healed && self.rng.chance(self.faults.crash) {
                self.kill_daemon(no, "dies between two commands");
                return;
            }
            self.command(no, command);
        }
    }

    fn command(&mut self, no: usize, command: Command) {
        self.trace.stamp(command.id.0);
        let sender = Sender { daemon: no, incarnation: self.daemons[no].incarnation, id: command.id };
        match command.ask {
            Ask::Exit => {
                self.kill_daemon(no, "has handed over and exits");
            }
            Ask::Watch(on) => self.watch(no, on),
            ask => {
                let planted = self.plant == Some(Plant::TermNotChecked) && matches!(ask, Ask::Create { .. });
                let late = if planted { 300 } else { self.faults.late_send };
                if self.rng.chance(late) {
                    let wait = self.rng.between(100, 8_000);
                    self.put_in(wait, Event::Send { sender, ask: Box::new(ask) });
                } else {
                    self.send(sender, ask);
                }
            }
        }
    }

    /// The request leaves the process.
    pub(crate) fn send(&mut self, sender: Sender, ask: Ask) {
        if self.daemons[sender.daemon].incarnation != sender.incarnation {
            return;
        }
        match ask {
            Ask::Create { .. } => self.send_create(sender, ask),
            Ask::GetPod { .. } => self.send_get(sender, ask),
            Ask::OpenGate { .. } => self.send_gate(sender, ask),
            Ask::DeletePod { .. } => self.send_delete(sender, ask),
            ask => self.send_db(sender, ask),
        }
    }

    pub(crate) fn answer_in(&mut self, sender: Sender, delay: u64, answer: Answer) {
        let input = Box::new(Input::Answer { id: sender.id, answer });
        let Sender { daemon, incarnation, .. } = sender;
        let late = self.rng.chance(self.faults.answer_late);
        let delay = if late { delay + self.rng.between(1_000, 30_000) } else { delay };
        if self.rng.chance(self.faults.answer_twice) {
            let again = delay + self.rng.delay(0, 1_000, 20_000);
            self.put_in(again, Event::Deliver { daemon, incarnation, input: input.clone() });
        }
        self.put_in(delay, Event::Deliver { daemon, incarnation, input });
    }

    fn watch(&mut self, no: usize, on: bool) {
        let daemon = &mut self.daemons[no];
        daemon.generation += 1;
        let generation = daemon.generation;
        daemon.watch = on.then_some(Watch { cursor: 0, pending: true, up: false });
        if on {
            let wait = self.rng.delay(5, 300, 3_000);
            self.put_in(wait, Event::Relist { daemon: no, generation });
            self.put_in(LIST_AGAIN_MS, Event::ListAgain { daemon: no, generation });
        }
    }
}

fn words_of(input: &Input) -> String {
    match input {
        Input::Tick => "tick".into(),
        Input::Woken => "woken".into(),
        Input::Stop => "stop".into(),
        Input::Answer { id, answer } => format!("answer {} {answer:?}", id.0),
        Input::Pod(event) => format!("pod {event:?}"),
        Input::Noted(note) => format!("noted {note:?}"),
        Input::Branches(capacity) => format!("branches {capacity:?}"),
    }
}
