//! How much a daemon holds and how often it acts (I10): memory bounded by what is live, work bounded by time.

use std::collections::BTreeMap;

use windlass_core::ids::LaunchId;
use windlass_core::time::Millis;
use windlass_engine::{Ask, Command, Size};

use crate::world::World;

/// Turns of one daemon in one second of its clock that nobody asked for: a loop that does not sleep.
const TICKS_MAX: u32 = 300;
/// Commands of one launch in `WINDOW_MS`.
const COMMANDS_MAX: u32 = 60;
/// Milliseconds of a daemon's clock.
const WINDOW_MS: u64 = 10_000;
/// Launches that one key can have open at once: the live one, and earlier ones whose pods are not gone yet.
const OPEN_OF_KEY_MAX: usize = 12;
/// Waiting items and open commands for each launch held, and the few that are no launch's.
const ITEMS_OF_LAUNCH_MAX: usize = 8;
const ITEMS_BESIDES: usize = 40;

/// Of one process.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    second: u64,
    ticks: u32,
    window: u64,
    commands: BTreeMap<LaunchId, u32>,
    /// The most it ever held.
    pub(crate) most: Size,
}

impl Meter {
    /// Counts a turn that time alone brought. Returns whether there are too many.
    pub(crate) fn ticked(&mut self, local: Millis) -> bool {
        let second = local.0 / 1_000;
        if second != self.second {
            (self.second, self.ticks) = (second, 0);
        }
        self.ticks += 1;
        self.ticks > TICKS_MAX
    }

    /// Counts the commands for a launch. Returns whether there are too many.
    fn asks(&mut self, local: Millis, launch: &LaunchId) -> bool {
        let window = local.0 / WINDOW_MS;
        if window != self.window {
            self.window = window;
            self.commands.clear();
        }
        let count = match self.commands.get_mut(launch) {
            Some(count) => count,
            None => self.commands.entry(launch.clone()).or_default(),
        };
        *count += 1;
        *count > COMMANDS_MAX
    }
}

impl World {
    /// After a turn.
    pub(crate) fn measure(&mut self, no: usize, local: Millis, size: Size, commands: &[Command]) {
        let meter = &mut self.daemons[no].meter;
        meter.most.launches = meter.most.launches.max(size.launches);
        meter.most.items = meter.most.items.max(size.items);
        let tasks = self.db.tasks.len();
        let launches_max = tasks * OPEN_OF_KEY_MAX;
        if size.launches > launches_max || size.items > launches_max * ITEMS_OF_LAUNCH_MAX + ITEMS_BESIDES {
            self.check.broke(self.now, "I10", None, format!("daemon {no} holds {size:?} for {tasks} tasks"));
        }
        let mut busy = None;
        for command in commands {
            each_launch(&command.ask, |launch| {
                if meter.asks(local, launch) {
                    busy = Some(launch.clone());
                }
            });
        }
        if let Some(launch) = busy {
            let task = self.task_of_launch.get(&launch).copied();
            let what =
                format!("daemon {no} gives more than {COMMANDS_MAX} commands for launch {launch} in 10 s");
            self.check.broke(self.now, "I10", task, what);
        }
    }
}

/// The launches that a command is about.
fn each_launch(ask: &Ask, mut tell: impl FnMut(&LaunchId)) {
    match ask {
        Ask::Claim { claims, .. } => claims.iter().for_each(|claim| tell(&claim.launch)),
        Ask::ReadTasks(of) | Ask::ReadSpecs(of) => of.iter().for_each(|(launch, _)| tell(launch)),
        Ask::FindLaunches(of) => of.iter().for_each(tell),
        Ask::Save { updates, .. } => updates.iter().for_each(|update| tell(&update.launch)),
        Ask::Create { launch, .. } | Ask::GetPod { launch, .. } | Ask::OpenGate { launch, .. } => {
            tell(launch)
        }
        Ask::AcquireTerm { .. }
        | Ask::RenewTerm { .. }
        | Ask::ReleaseTerm { .. }
        | Ask::Load { .. }
        | Ask::Recover { .. }
        | Ask::Intake { .. }
        | Ask::FindWithdrawn { .. }
        | Ask::NotePods(_)
        | Ask::FollowOwners { .. }
        | Ask::KeepLog { .. }
        | Ask::Purge { .. }
        | Ask::DeletePod { .. }
        | Ask::Watch(_)
        | Ask::Exit => {}
    }
}
