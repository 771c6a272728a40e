//! The pod watch of each daemon: a cursor in the cluster's log, delays, gaps, and lists from a cache that lags.

use windlass_core::cluster::PodEvent;
use windlass_engine::Input;

use crate::agenda::Event;
use crate::daemon::LIST_AGAIN_MS;
use crate::plant::Plant;
use crate::world::World;

impl World {
    /// The log has grown: every watch that is up will hear of it.
    pub(crate) fn pod_changed(&mut self) {
        for no in 0..self.daemons.len() {
            let generation = self.daemons[no].generation;
            let waits = match &mut self.daemons[no].watch {
                Some(watch) if watch.up && !watch.pending => {
                    watch.pending = true;
                    true
                }
                _ => false,
            };
            if waits {
                let slow = self.rng.chance(self.faults.watch_slow);
                let delay = if slow { self.rng.between(50, 5_000) } else { self.rng.delay(1, 20, 200) };
                self.put_in(delay, Event::WatchStep { daemon: no, generation });
            }
        }
    }

    pub(crate) fn watch_step(&mut self, no: usize, generation: u32) {
        if self.daemons[no].generation != generation {
            return;
        }
        if self.daemons[no].paused_until > self.now {
            let wait = self.daemons[no].paused_until - self.now;
            return self.put_in(wait, Event::WatchStep { daemon: no, generation });
        }
        if self.rng.chance(self.faults.watch_cut) {
            // The server ended it, or the connection went: on from the last resourceVersion, nothing is missed.
            let wait = self.rng.delay(20, 1_000, 8_000);
            return self.put_in(wait, Event::WatchStep { daemon: no, generation });
        }
        if self.rng.chance(self.faults.watch_gap) {
            if let Some(watch) = &mut self.daemons[no].watch {
                (watch.up, watch.pending) = (false, true);
            }
            let wait = self.rng.delay(20, 1_000, 8_000);
            self.put_in(wait, Event::Relist { daemon: no, generation });
            return self.feed(no, Input::Pod(PodEvent::Interrupted { error: "cut".into() }));
        }
        let end = self.cluster.log.len();
        let silent = self.plant == Some(Plant::SilentWatch) && self.rng.chance(200);
        let Some(watch) = &mut self.daemons[no].watch else { return };
        watch.pending = false;
        if silent {
            watch.cursor = end;
        }
        let from = std::mem::replace(&mut watch.cursor, end);
        for entry in from..end {
            let logged = &self.cluster.log[entry];
            let view = Box::new(logged.view.clone());
            let event = if logged.deleted { PodEvent::Deleted(view) } else { PodEvent::Seen(view) };
            self.feed(no, Input::Pod(event));
            // The turn may have ended the term, and the watch with it.
            if self.daemons[no].generation != generation {
                return;
            }
        }
    }

    pub(crate) fn list_again(&mut self, no: usize, generation: u32) {
        if self.daemons[no].generation == generation && self.plant != Some(Plant::SilentWatch) {
            self.put_in(LIST_AGAIN_MS, Event::ListAgain { daemon: no, generation });
            self.relist(no, generation);
        }
    }

    pub(crate) fn relist(&mut self, no: usize, generation: u32) {
        if self.daemons[no].generation != generation {
            return;
        }
        let away = self.cluster.away_until.max(self.daemons[no].paused_until);
        if away > self.now {
            return self.put_in(away - self.now, Event::Relist { daemon: no, generation });
        }
        let behind = if self.rng.chance(self.faults.watch_stale) { self.rng.index(10) } else { 0 };
        let end = self.cluster.log.len().saturating_sub(behind);
        let Some(watch) = &mut self.daemons[no].watch else { return };
        (watch.cursor, watch.up, watch.pending) = (end, true, behind > 0);
        if behind > 0 {
            let wait = self.rng.delay(1, 500, 5_000);
            self.put_in(wait, Event::WatchStep { daemon: no, generation });
        }
        let listed = self.cluster.list(end);
        let uids = listed.iter().map(|view| view.uid.clone()).collect();
        for view in listed {
            self.feed(no, Input::Pod(PodEvent::Seen(Box::new(view))));
            if self.daemons[no].generation != generation {
                return;
            }
        }
        self.feed(no, Input::Pod(PodEvent::Listed(uids)));
    }
}
