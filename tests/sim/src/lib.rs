//! windlass-sim: the production core and engine in a simulated world, checked against the specification.
//!
//! One seed decides a whole run: the tasks, the daemons and their clocks, the mixture of faults, and each delay. The
//! world is played as discrete events; `windlass-engine` is driven as the daemon's driver drives it, one engine per
//! daemon. `check` knows the invariants by their numbers in the design and nothing of how the engine decides. After
//! a time of faults everything heals, and then everything must come to its end.
//!
//! [`Plant`] lists faults that can be planted into the test bed: `windlass-sim --plants` prints which checker catches
//! each, and after how many seeds.
//!
//! What simulation cannot show (SQL isolation, real API priority and fairness, HTTP pools, the kubelet's order) is
//! for the tests on real servers.

mod agenda;
mod api_calls;
mod check;
mod clock;
mod cluster;
mod daemon;
mod database;
mod failover;
mod fakes;
mod faults;
mod kubelet;
mod meter;
mod mischief;
mod overload;
mod people;
mod plant;
mod play;
mod rng;
mod scheduler;
mod search;
mod shrink;
mod store_calls;
mod trace;
mod watch;
mod worker;
mod world;

pub use check::Broken;
pub use fakes::Fakes;
pub use overload::{Crowd, Overload, overload};
pub use plant::Plant;
pub use play::{Cut, Play};
pub use rng::Rng;
pub use search::{Found, catch, replay_command, search, story};
pub use shrink::shrink;
pub use trace::Line;
pub use world::Run;

/// Plays one run. `trace`: tell the story too.
pub fn run(play: &Play, trace: bool) -> Run {
    world::World::new(play, trace).run()
}
