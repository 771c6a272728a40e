//! The command line.

use clap::{Parser, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  cargo bench --bench throughput                                 everything, about 12 minutes
  cargo bench --bench throughput -- --quick                      everything, small: about two minutes
  cargo bench --bench throughput -- --sections creates --rounds 5
  cargo bench --bench throughput -- --set create.concurrency=64  with another setting of the daemon

benches/README.md says what is measured and how to read it. Speed never fails the command: it ends with 1 if a pod or an
outcome is lost, doubled or wrong.";

/// Windlass beside bare kube-rs calls on one kube-apiserver: creates, latency, full lifecycles, idle cost; and under
/// overload, and killed with many live pods
#[derive(Clone, Debug, Parser)]
#[command(name = "throughput", bin_name = "cargo bench --bench throughput --", after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Task instances per round of creates
    #[arg(long, default_value_t = 2_000, value_parser = count())]
    tasks: u32,
    /// Rounds of creates and of lifecycles; Windlass and the bare client take turns
    #[arg(long, default_value_t = 3, value_parser = count())]
    rounds: u32,
    /// Task instances per turn of the scheduler's loop ([scheduler] max_tis_per_query)
    #[arg(long, default_value_t = 256, value_parser = count())]
    batch: u32,
    /// Calls in flight of the bare client; its best one is the reference
    #[arg(long, value_delimiter = ',', default_values_t = [1_u32, 8, 32, 128], value_parser = count())]
    in_flight: Vec<u32>,
    /// Seconds of half load
    #[arg(long, default_value_t = 20, value_parser = count())]
    latency_seconds: u32,
    /// Pods per round of full lifecycles
    #[arg(long, default_value_t = 1_500, value_parser = count())]
    lifecycles: u32,
    /// Seconds of idleness
    #[arg(long, default_value_t = 30, value_parser = count())]
    idle_seconds: u32,
    /// Task instances that overload queues at once, twice
    #[arg(long, default_value_t = 50_000, value_parser = count())]
    flood: u32,
    /// Seconds of each of the two overloads
    #[arg(long, default_value_t = 20, value_parser = count())]
    overload_seconds: u32,
    /// Pods that live while the daemon is killed
    #[arg(long, default_value_t = 10_000, value_parser = count())]
    live_pods: u32,
    /// Restarts after a kill, and takeovers by a standby
    #[arg(long, default_value_t = 5, value_parser = count())]
    restarts: u32,
    /// Only these; latency needs creates, for the rate to take half of
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Section::ALL)]
    sections: Vec<Section>,
    /// Everything small, whatever the numbers above say
    #[arg(long)]
    quick: bool,
    /// A setting of the daemon; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Section {
    /// A full burst: pods created per second.
    Creates,
    /// Half of that rate: from queued to created.
    Latency,
    /// From queued to closed, with a fake kubelet.
    Lifecycles,
    /// Nothing to do.
    Idle,
    /// Far too much at once: plain tasks, then tasks that can't have a pod.
    Overload,
    /// Killed with many live pods: until the next task has its pod.
    Restart,
}

impl Section {
    const ALL: [Self; 6] =
        [Self::Creates, Self::Latency, Self::Lifecycles, Self::Idle, Self::Overload, Self::Restart];
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) tasks: usize,
    pub(super) rounds: usize,
    pub(super) batch: usize,
    pub(super) in_flight: Vec<usize>,
    pub(super) latency_seconds: usize,
    pub(super) lifecycles: usize,
    pub(super) idle_seconds: usize,
    pub(super) flood: usize,
    pub(super) overload_seconds: usize,
    pub(super) live_pods: usize,
    pub(super) restarts: usize,
    pub(super) sections: Vec<Section>,
    pub(super) sets: Vec<String>,
}

impl Arguments {
    pub(super) fn plan(self) -> Plan {
        let plan = Plan {
            tasks: self.tasks as usize,
            rounds: self.rounds as usize,
            batch: self.batch as usize,
            in_flight: self.in_flight.iter().map(|n| *n as usize).collect(),
            latency_seconds: self.latency_seconds as usize,
            lifecycles: self.lifecycles as usize,
            idle_seconds: self.idle_seconds as usize,
            flood: self.flood as usize,
            overload_seconds: self.overload_seconds as usize,
            live_pods: self.live_pods as usize,
            restarts: self.restarts as usize,
            sections: self.sections,
            sets: self.sets,
        };
        if self.quick {
            return Plan {
                tasks: 400,
                rounds: 1,
                latency_seconds: 4,
                lifecycles: 300,
                idle_seconds: 8,
                flood: 5_000,
                overload_seconds: 5,
                live_pods: 1_000,
                restarts: 2,
                ..plan
            };
        }
        plan
    }
}

impl Plan {
    pub(super) fn has(&self, section: Section) -> bool {
        self.sections.contains(&section)
    }
}

/// At least one, and few enough for a map index.
fn count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_own_flag_is_taken_and_quick_is_small() {
        let plan = Arguments::try_parse_from(["throughput", "--bench", "--quick"]).unwrap().plan();
        assert_eq!((plan.rounds, plan.in_flight), (1, vec![1, 8, 32, 128]));
        let error = Arguments::try_parse_from(["throughput", "--tasks", "0"]).unwrap_err().to_string();
        assert!(error.contains("--tasks") && error.contains("1..=100000"), "{error}");
    }
}
