//! A pod behind Windlass's scheduling gate: looked at whole, and let go if it is what its rule demands.

use super::{Action, Launch, Opening, PodEnd, Stage};
use crate::pod_view::{Gate, PodView};
use crate::time::Millis;

impl Opening {
    /// When what was asked for last was asked for, if its answer is still to come.
    pub(super) fn asked(self) -> Option<Millis> {
        match self {
            Self::Looking(asked) | Self::Asked(asked) => Some(asked),
            Self::Unasked | Self::Done => None,
        }
    }
}

impl Launch {
    /// What becomes of a pod that must not be let go.
    pub(super) fn unfit(&self, view: &PodView) -> Option<PodEnd> {
        match &view.gate {
            Gate::Unfit { why, again } => Some(PodEnd::Unfit { why: why.clone(), again: *again }),
            Gate::Open | Gate::Closed | Gate::Fit => None,
        }
    }

    /// A pod behind its gate is looked at whole, and let go if it is what it should be.
    pub(super) fn look_at_gate(&mut self, view: &PodView, now: Millis) -> Vec<Action> {
        let Stage::Alive(alive) = &mut self.stage else { return Vec::new() };
        match (&view.gate, alive.gate) {
            (Gate::Open, _) => {
                alive.gate = Opening::Done;
                Vec::new()
            }
            // Nothing is gained by letting a pod go that is on its way out.
            _ if view.deleting => Vec::new(),
            (Gate::Closed, Opening::Unasked) => {
                alive.gate = Opening::Looking(now);
                vec![Action::GetPod]
            }
            (Gate::Fit, Opening::Unasked | Opening::Looking(_)) => {
                alive.gate = Opening::Asked(now);
                vec![Action::OpenGate { uid: view.uid.clone() }]
            }
            _ => Vec::new(),
        }
    }
}
