//! What stands behind a slot's lock: the flight under way, what has gone wrong so far, and where else the token hangs.

use std::collections::VecDeque;

use super::fetch_receiver::Landing;
use crate::{
    cache::{
        backoff::{Budget, Hold},
        required_claims::Wishes,
    },
    clock::Moment,
    error::TokenError,
    token::Token,
};

/// What nearly no slot has at any time is boxed: there may be very many slots.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) flight: Option<Box<Landing>>,
    /// The number of the last flight. One with an older number no longer lands here.
    pub(super) last_flight: u64,
    troubles: Option<Box<Troubles>>,
}

/// What has gone wrong with a slot's tokens so far.
pub(super) struct Troubles {
    pub(super) hold: Option<Hold>,
    pub(super) budget: Budget,
    /// Whether the last rejection was not believed.
    pub(super) storm: bool,
    /// The generations whose rejections were spent, and that nothing has vindicated yet; no more than can be spent.
    pub(super) unsettled: VecDeque<u64>,
    /// The last token that was rejected, to know it again when the source returns the same one.
    pub(super) rejected: Option<Token>,
    /// Its generation, which is not forgotten with it: somebody may hold that token who has not looked yet.
    pub(super) refused: u64,
    /// What servers want of the next token.
    pub(super) wishes: Wishes,
}

/// What became of a token that was rejected, or of which more was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It is out of service.
    Dropped,
    /// It was out of service already, or another is due already.
    Superseded,
    /// It stays in service until one with further scopes is there.
    Outdated,
    /// It was asked for with all that was wanted of it.
    Vain,
    /// Too many rejections lately: it stays.
    Disbelieved {
        /// The first since one was believed.
        first: bool,
    },
}

impl Desk {
    /// The flight under way, unless it died or was not heard of for too long.
    pub(super) fn flight(&self, now: Moment) -> Option<Landing> {
        let landing = self.flight.as_deref()?;
        landing.is_to_come(now).then(|| landing.clone())
    }

    /// What has gone wrong so far, if anything may have.
    pub(super) fn known_troubles(&self) -> Option<&Troubles> {
        self.troubles.as_deref()
    }

    /// The same, to change.
    pub(super) fn known_troubles_mut(&mut self) -> Option<&mut Troubles> {
        self.troubles.as_deref_mut()
    }

    /// Where to note what goes wrong.
    pub(super) fn troubles(&mut self) -> &mut Troubles {
        self.troubles.get_or_insert_default()
    }

    /// The troubles, if this generation's rejection was among them and still unsettled; it no longer is.
    pub(super) fn settle(&mut self, generation: u64) -> Option<&mut Troubles> {
        let troubles = self.known_troubles_mut()?;
        let mut unsettled = troubles.unsettled.iter();
        let place = unsettled.position(|one| *one == generation)?;
        troubles.unsettled.remove(place);
        Some(troubles)
    }

    pub(super) fn hold(&self) -> Option<&Hold> {
        self.known_troubles()?.hold.as_ref()
    }

    pub(super) fn held(&self, now: Moment) -> Option<TokenError> {
        self.hold()?.error(now)
    }

    pub(super) fn wishes(&self) -> Option<&Wishes> {
        Some(&self.known_troubles()?.wishes)
    }

    pub(super) fn rejected(&self) -> Option<&Token> {
        self.known_troubles()?.rejected.as_ref()
    }

    /// All but how often a token was rejected, and what servers want.
    pub(super) fn forget_failures(&mut self) {
        if let Some(troubles) = self.known_troubles_mut() {
            troubles.hold = None;
            troubles.rejected = None;
        }
    }
}

impl Troubles {
    /// Spends one of the budget on a server's word about this token, if any is left.
    pub(super) fn believe(&mut self, generation: u64, now: Moment) -> Result<(), Rejection> {
        if !self.budget.take(now) {
            let first = !std::mem::replace(&mut self.storm, true);
            return Err(Rejection::Disbelieved { first });
        }
        self.storm = false;
        if self.unsettled.len() >= usize::from(Budget::FULL) {
            self.unsettled.pop_front();
        }
        self.unsettled.push_back(generation);
        Ok(())
    }
}

impl Default for Troubles {
    fn default() -> Self {
        Self {
            hold: None,
            budget: Budget::new(),
            storm: false,
            refused: 0,
            unsettled: VecDeque::new(),
            rejected: None,
            wishes: Wishes::default(),
        }
    }
}
