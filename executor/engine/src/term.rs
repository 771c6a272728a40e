//! Leadership as this process sees it: when to ask, and until when it may write (I4).

use windlass_core::ids::Epoch;
use windlass_core::store::TermAnswer;
use windlass_core::time::Millis;

use crate::command::Ask;
use crate::settings::Settings;

/// What a term answer changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// A new term is ours.
    Gained {
        /// The database may have lost commits before it.
        after_loss: bool,
    },
    /// It is over.
    Lost,
    /// We gave it back.
    Released,
}

#[derive(Debug)]
enum State {
    Standby,
    Leading { epoch: Epoch, deadline: Millis },
    Releasing { epoch: Epoch },
    Released,
}

#[derive(Debug)]
pub(crate) struct Term {
    state: State,
    next: Millis,
    asked: Option<Millis>,
    /// The last moment of our last term, whether or not it is given back before.
    until: Millis,
    /// Who leads, as last told.
    pub(crate) holder: Option<String>,
}

impl Term {
    pub(crate) fn new() -> Self {
        Self { state: State::Standby, next: Millis(0), asked: None, until: Millis(0), holder: None }
    }

    /// The term's number while it may be written with.
    pub(crate) fn writing(&self, now: Millis) -> Option<Epoch> {
        match self.state {
            State::Leading { epoch, deadline } if now < deadline => Some(epoch),
            _ => None,
        }
    }

    /// Whether something that takes `ms` can be begun now and still end within the term.
    pub(crate) fn covers(&self, now: Millis, ms: u64) -> bool {
        matches!(self.state, State::Leading { deadline, .. } if now.plus(ms) < deadline)
    }

    /// The last moment at which something that takes `ms` may begin.
    pub(crate) fn start_by(&self, ms: u64) -> Option<Millis> {
        match self.state {
            State::Leading { deadline, .. } => Some(Millis(deadline.0.saturating_sub(ms + 1))),
            State::Standby | State::Releasing { .. } | State::Released => None,
        }
    }

    pub(crate) fn leads(&self) -> bool {
        matches!(self.state, State::Leading { .. })
    }

    /// Whether our trust in the term has run out.
    pub(crate) fn expired(&self, now: Millis) -> bool {
        matches!(self.state, State::Leading { deadline, .. } if now >= deadline)
    }

    /// What to ask the database now, if anything.
    pub(crate) fn due(&mut self, now: Millis, settings: &Settings) -> Option<Ask> {
        let lost = self.asked.is_some_and(|asked| now.since(asked) >= settings.lease_ms);
        if (self.asked.is_some() && !lost) || now < self.next {
            return None;
        }
        let lease_ms = settings.lease_ms;
        let ask = match self.state {
            State::Standby => Ask::AcquireTerm { lease_ms },
            State::Leading { epoch, .. } => Ask::RenewTerm { epoch, lease_ms },
            State::Releasing { epoch } => Ask::ReleaseTerm { epoch },
            State::Released => return None,
        };
        self.asked = Some(now);
        Some(ask)
    }

    /// Trust is counted from when we asked, not from when the answer came: a slow answer must not lengthen it.
    pub(crate) fn answered(
        &mut self,
        answer: TermAnswer,
        asked: Millis,
        now: Millis,
        settings: &Settings,
    ) -> Change {
        if self.asked == Some(asked) {
            self.asked = None;
        }
        let after_loss = matches!(answer, TermAnswer::HeldAfterLoss { .. });
        match (&mut self.state, answer) {
            (State::Standby, TermAnswer::Held { epoch } | TermAnswer::HeldAfterLoss { epoch }) => {
                let deadline = asked.plus(settings.lease_ms.saturating_sub(settings.margin_ms));
                self.state = State::Leading { epoch, deadline };
                self.until = asked.plus(settings.lease_ms);
                self.next = asked.plus(settings.renew_ms);
                self.holder = None;
                Change::Gained { after_loss }
            }
            (State::Leading { epoch, deadline }, TermAnswer::Held { epoch: held }) if *epoch == held => {
                let renewed = asked.plus(settings.lease_ms.saturating_sub(settings.margin_ms));
                *deadline = renewed.max(*deadline);
                self.until = asked.plus(settings.lease_ms).max(self.until);
                self.next = asked.plus(settings.renew_ms);
                Change::None
            }
            (State::Leading { .. }, TermAnswer::Failed { .. }) => {
                self.next = now.plus(settings.renew_ms / 2);
                Change::None
            }
            (State::Leading { .. }, TermAnswer::HeldByOther { holder }) => {
                self.holder = Some(holder);
                self.lose(now, settings)
            }
            (
                State::Leading { .. },
                TermAnswer::Held { .. } | TermAnswer::HeldAfterLoss { .. } | TermAnswer::Released,
            ) => self.lose(now, settings),
            // Over by itself: there is nothing to give back, and a database that is away must not hold up our end.
            (State::Releasing { .. }, TermAnswer::Failed { .. }) if now >= self.until => {
                self.state = State::Released;
                Change::Released
            }
            (State::Releasing { .. }, TermAnswer::Failed { .. }) => {
                self.next = now.plus(settings.renew_ms / 2);
                Change::None
            }
            (State::Releasing { .. }, _) => {
                self.state = State::Released;
                Change::Released
            }
            (State::Standby, TermAnswer::HeldByOther { holder }) => {
                self.holder = Some(holder);
                self.next = now.plus(settings.standby_ms);
                Change::None
            }
            (State::Standby, TermAnswer::Released | TermAnswer::Failed { .. }) => {
                // Whoever led may be gone by now: nobody says so.
                self.holder = None;
                self.next = now.plus(settings.standby_ms);
                Change::None
            }
            (State::Released, _) => Change::None,
        }
    }

    pub(crate) fn lose(&mut self, now: Millis, settings: &Settings) -> Change {
        self.state = State::Standby;
        self.asked = None;
        self.next = now.plus(settings.standby_ms);
        Change::Lost
    }

    /// After the last write: hand over. A release under way goes on at its own pace: the database may be away.
    pub(crate) fn release(&mut self, now: Millis) {
        match self.state {
            State::Leading { epoch, .. } => {
                self.state = State::Releasing { epoch };
                self.next = now;
                self.asked = None;
            }
            State::Standby => self.state = State::Released,
            State::Releasing { .. } | State::Released => {}
        }
    }

    pub(crate) fn released(&self) -> bool {
        matches!(self.state, State::Released)
    }

    pub(crate) fn wake_at(&self) -> Option<Millis> {
        let deadline = match self.state {
            State::Leading { deadline, .. } => Some(deadline),
            State::Released => return None,
            State::Standby | State::Releasing { .. } => None,
        };
        let next = if self.asked.is_some() { None } else { Some(self.next) };
        [deadline, next].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_that_cannot_be_given_back_is_waited_out() {
        let settings = Settings::default();
        let (mut term, failed) = (Term::new(), || TermAnswer::Failed { error: "away".into() });
        term.due(Millis(0), &settings);
        term.answered(TermAnswer::Held { epoch: Epoch(1) }, Millis(0), Millis(10), &settings);
        term.release(Millis(20));
        assert_eq!(term.due(Millis(20), &settings), Some(Ask::ReleaseTerm { epoch: Epoch(1) }));
        let early = Millis(settings.lease_ms - 1);
        assert_eq!(term.answered(failed(), Millis(20), early, &settings), Change::None);
        assert!(!term.released());
        let late = Millis(settings.lease_ms);
        assert_eq!(term.answered(failed(), early, late, &settings), Change::Released);
        assert!(term.released());
    }
}
