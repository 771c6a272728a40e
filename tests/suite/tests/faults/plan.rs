//! Which faults, and when.

use std::time::Duration;

use windlass_sim::Rng;

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL, mostly to the one that leads; it is started again.
    KillDaemon,
    /// SIGKILL to it and all it has started; it is started again.
    KillScheduler,
    /// SIGKILL to the helpers of `pod_mutation_hook` beside both schedulers; the next pod brings a new one.
    KillHelper,
    /// An immediate stop: every connection is cut; it is started again.
    RestartDatabase,
    /// SIGKILL to the pooler between daemons and database; it is started again.
    RestartPooler,
    /// The API server is killed, etcd's history compacted meanwhile: watches can't go on where they were.
    ApiOutage,
    /// Connections of daemons, schedulers and workers are cut where they are.
    CutDatabase,
    /// The daemons' connections to the database fall silent without an end.
    SilenceDatabase,
    /// Answers to the daemons' statements, commits among them, are lost.
    LoseDatabaseAnswers,
    /// The daemons' connections to the API server are cut.
    CutApi,
    /// Answers to the daemons' requests are lost.
    LoseApiAnswers,
    /// The daemons' connections to the API server fall silent without an end.
    SilenceApi,
    /// The API server gives the daemons' account few seats and no queue: 429.
    Storm,
    /// The namespace has no room for another pod until some end, or the quota goes: 403.
    FillQuota,
    /// The namespace with all its pods is deleted; it is made again, with its rights, once it is gone.
    DeleteNamespace,
    /// The disk of the pods' logs has no room.
    FillDisk,
    /// EKS's webhook for roles is silent: pods come without theirs, and must not start.
    SilenceWebhook,
    /// The controller loses the jobs of pods with security groups: they never get an interface.
    DropInterfaces,
    /// etcd forgets its history, and watches begin anew.
    Compact,
    /// Somebody deletes pods, some of them by force.
    DeletePods,
    /// The leader stands still for longer than its lease, and goes on.
    PauseDaemon,
}

/// How much of everything.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    /// Faults are spread over this time.
    pub(crate) chaos: Duration,
    /// DAG runs, spread over the same time.
    pub(crate) runs: u32,
    pub(crate) faults: Vec<(Fault, u32)>,
    pub(crate) api_outage: Duration,
    /// Of each kind of measurement, after the faults and under the same load.
    pub(crate) samples: usize,
    /// From the last fault to the end of all work.
    pub(crate) healing: Duration,
    /// Whether what was promised in seconds must hold: beside other work seconds say little, and are only told.
    pub(crate) seconds_hold: bool,
}

impl Form {
    /// About three minutes with its start.
    pub(crate) fn short() -> Self {
        use Fault as F;
        Self {
            chaos: Duration::from_secs(60),
            runs: 8,
            faults: vec![
                (F::KillDaemon, 3),
                (F::KillScheduler, 1),
                (F::KillHelper, 2),
                (F::RestartDatabase, 1),
                (F::ApiOutage, 1),
                (F::CutDatabase, 1),
                (F::LoseDatabaseAnswers, 2),
                (F::CutApi, 1),
                (F::LoseApiAnswers, 2),
                (F::SilenceApi, 1),
                (F::Compact, 1),
                (F::DeletePods, 2),
                (F::PauseDaemon, 1),
                (F::RestartPooler, 1),
                (F::SilenceDatabase, 1),
                (F::Storm, 1),
                (F::FillQuota, 1),
                (F::DeleteNamespace, 1),
                (F::FillDisk, 1),
                (F::SilenceWebhook, 1),
                (F::DropInterfaces, 1),
            ],
            api_outage: Duration::from_secs(5),
            samples: 3,
            healing: Duration::from_secs(150),
            seconds_hold: false,
        }
    }

    /// Ten minutes of faults.
    pub(crate) fn long() -> Self {
        use Fault as F;
        Self {
            chaos: Duration::from_secs(600),
            runs: 84,
            faults: vec![
                (F::KillDaemon, 24),
                (F::KillScheduler, 10),
                (F::KillHelper, 10),
                (F::RestartDatabase, 5),
                (F::ApiOutage, 5),
                (F::CutDatabase, 10),
                (F::LoseDatabaseAnswers, 20),
                (F::CutApi, 8),
                (F::LoseApiAnswers, 16),
                (F::SilenceApi, 6),
                (F::Compact, 4),
                (F::DeletePods, 20),
                (F::PauseDaemon, 5),
                (F::RestartPooler, 6),
                (F::SilenceDatabase, 6),
                (F::Storm, 6),
                (F::FillQuota, 6),
                (F::DeleteNamespace, 3),
                (F::FillDisk, 5),
                (F::SilenceWebhook, 6),
                (F::DropInterfaces, 6),
            ],
            api_outage: Duration::from_secs(20),
            samples: 20,
            healing: Duration::from_secs(300),
            seconds_hold: true,
        }
    }
}

impl Form {
    pub(crate) fn without(mut self, fault: Fault) -> Self {
        self.faults.retain(|(other, _)| *other != fault);
        self
    }

    /// Of all kinds.
    pub(crate) fn count(&self) -> usize {
        self.faults.iter().map(|(_, count)| *count as usize).sum()
    }
}

/// All faults of a form by time. Those of a kind are spread evenly, each with a place of its own in its part.
pub(crate) fn plan(form: &Form, rng: &mut Rng) -> Vec<(Duration, Fault)> {
    let mut plan = Vec::new();
    for (fault, count) in &form.faults {
        let part = form.chaos / *count;
        for number in 0..*count {
            let within = part.mul_f64(rng.below(900) as f64 / 1_000.0);
            plan.push((part * number + within, *fault));
        }
    }
    plan.sort();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_plan_and_each_fault_its_count() {
        let form = Form::long();
        let made = plan(&form, &mut Rng::new(7));
        assert_eq!(made, plan(&form, &mut Rng::new(7)));
        assert_ne!(made, plan(&form, &mut Rng::new(8)));
        for (fault, count) in &form.faults {
            assert_eq!(made.iter().filter(|(_, made)| made == fault).count(), *count as usize, "{fault:?}");
        }
        assert!(made.iter().all(|(at, _)| *at < form.chaos));
    }
}
