//! What the answer to a create says: of its launch, of the API server, and of the launch's namespace.

use windlass_core::cluster::CreateAnswer;
use windlass_core::ids::{Attempt, LaunchId};
use windlass_core::launch::{Fact, Stage};
use windlass_core::outcome::Reason;
use windlass_core::time::Millis;

use crate::Engine;

impl Engine {
    pub(crate) fn create_answered(
        &mut self,
        launch: &LaunchId,
        attempt: Attempt,
        asked: Millis,
        answer: CreateAnswer,
        now: Millis,
    ) {
        self.create_counted(&answer, now.since(asked), now);
        let answer = self.create_of_namespace(launch, answer, now);
        if let Some(fact) = self.create_fact(launch, attempt, asked, answer) {
            self.tell(launch, fact, now);
        }
    }

    /// An answer that comes when its create was given up says nothing of a create that is under way now, nor of the pod
    /// that there is now, be it of the same attempt or of a later one: only that a pod was there.
    fn create_fact(
        &self,
        launch: &LaunchId,
        attempt: Attempt,
        asked: Millis,
        answer: CreateAnswer,
    ) -> Option<Fact> {
        let known = self.reign.book.get(launch)?;
        let awaited = known.attempt == attempt
            && matches!(known.stage, Stage::Creating { asked: current, .. } if current == asked);
        match answer {
            answer if awaited => Some(Fact::CreateAnswered(answer)),
            CreateAnswer::Created(view) | CreateAnswer::Adopted(view) => Some(Fact::PodSeen(view)),
            CreateAnswer::NameTaken { .. }
            | CreateAnswer::QuotaFull { .. }
            | CreateAnswer::NamespaceNotReady { .. }
            | CreateAnswer::NotMade { .. }
            | CreateAnswer::NotYet { .. }
            | CreateAnswer::TooManyRequests { .. }
            | CreateAnswer::Refused { .. }
            | CreateAnswer::Unknown { .. } => None,
        }
    }

    /// What it says of the API server.
    fn create_counted(&mut self, answer: &CreateAnswer, took_ms: u64, now: Millis) {
        let retry_ms = self.settings.retry_ms;
        match answer {
            CreateAnswer::Created(_) => {
                self.counters.created += 1;
                self.reign.pacing.succeeded(took_ms);
            }
            CreateAnswer::Adopted(_) => self.counters.adopted += 1,
            CreateAnswer::TooManyRequests { retry_after_ms } => {
                self.counters.note_error("kubernetes", "429: the API server asks for fewer requests");
                self.reign.pacing.overloaded(*retry_after_ms, now, retry_ms);
            }
            CreateAnswer::Unknown { error } => {
                self.counters.note_error("kubernetes", error);
                self.reign.pacing.overloaded(None, now, retry_ms);
            }
            CreateAnswer::QuotaFull { message } => self.counters.note_error("quota", message),
            CreateAnswer::NamespaceNotReady { message } => self.counters.note_error("namespace", message),
            CreateAnswer::NotMade { why } => self.counters.note_error("hook", why),
            CreateAnswer::NotYet { why, .. } => self.counters.note_error("identity", why),
            CreateAnswer::NameTaken { why } => self.counters.note_error("kubernetes", why),
            CreateAnswer::Refused { message, .. } => self.counters.note_error("pod", message),
        }
    }

    /// What it says of the namespace: which is held back, or found ready. One that stays unready for too long refuses:
    /// then its tasks fail at once, with the reason, until a create in it is taken.
    fn create_of_namespace(&mut self, launch: &LaunchId, answer: CreateAnswer, now: Millis) -> CreateAnswer {
        let Some(known) = self.reign.book.get(launch) else { return answer };
        let (namespace, pacing) = (&known.pod.namespace, &mut self.reign.pacing);
        let until = now.plus(self.settings.namespace_hold_ms);
        match answer {
            CreateAnswer::QuotaFull { .. } | CreateAnswer::NotMade { .. } => pacing.hold(namespace, until),
            CreateAnswer::Created(_) => pacing.namespace_is_ready(namespace),
            CreateAnswer::NamespaceNotReady { message } => {
                let patience = self.settings.namespace_ready_ms;
                if pacing.unready_for(namespace, now) >= patience {
                    let message = format!("{message}, as it has for {} s", patience / 1_000);
                    return CreateAnswer::Refused { reason: Reason::PodRejected, message };
                }
                pacing.hold(namespace, until);
                return CreateAnswer::NamespaceNotReady { message };
            }
            _ => {}
        }
        answer
    }
}
