//! What is kept of a request: its stages for the slow and the recent ones, and what is wrong with
//! it.

use std::{net::IpAddr, sync::Arc};

use super::{Connection, ConnectionContext};
use crate::{
    bots::BotId,
    duration::nanos,
    observe::{
        incidents::IncidentKind,
        metrics::{SlowRecord, Stage},
        recent::{RecentRecord, RecentStages},
    },
    outcome::Forbidden,
    proto::{
        http::{Credential, RequestHead, Status},
        route::{RouteError, RouteRequest},
        update::UpdateKind,
    },
};

/// The bot that a refused request means, where that is known, and why it is refused.
pub(super) type Fault = (Option<Arc<str>>, &'static str);

/// The current request's stages so far, in nanoseconds, for when it turns out to be slow.
#[derive(Clone, Copy, Default)]
pub(super) struct Trace {
    pub(super) commit: u64,
    pub(super) parse: u64,
    pub(super) read: u64,
    /// Its update, once it is known.
    pub(super) update: Option<(BotId, UpdateKind, i64)>,
}

impl Connection<'_> {
    /// Keeps the request that was just answered 200 among the recent ones.
    #[cold]
    pub(super) fn keep_accepted(&self, answer: u64) {
        let bot = self.trace.update.map(|(bot, ..)| bot);
        let bot = bot.and_then(|bot| self.context.snapshot().router.name(bot));
        self.context.recent.accepted(self.answered_at, self.recent(Status::Ok, bot, "", answer));
    }

    /// The same of one that was complete and answered otherwise.
    #[cold]
    pub(super) fn keep_refused(&mut self, status: Status) {
        let (bot, detail) = self.fault.take().unwrap_or_default();
        let answer = nanos(self.answered_at - self.read_at);
        self.context.recent.refused(self.recent(status, bot, detail, answer));
    }

    /// The same of one that will not be complete.
    #[cold]
    pub(super) fn keep_unrouted(&mut self, status: Status, detail: &'static str) {
        self.trace = Trace::default();
        let (bot, _) = self.fault.take().unwrap_or_default();
        self.context.recent.refused(self.recent(status, bot, detail, 0));
    }

    fn recent(
        &self,
        status: Status,
        bot: Option<Arc<str>>,
        detail: &'static str,
        answer: u64,
    ) -> RecentRecord {
        let Trace { commit, parse, read, update } = self.trace;
        RecentRecord {
            received_at: self.read_at,
            peer: self.peer,
            bot,
            update: update.map(|(_, kind, id)| (kind, id)),
            status,
            detail,
            stages: RecentStages { read, parse, commit, answer },
        }
    }

    /// Keeps the times of the request that was just answered.
    #[cold]
    pub(super) fn note_slow(&self, answer: u64) {
        let Trace { commit, parse, read, update } = self.trace;
        let Some((bot, _, update_id)) = update else { return };
        let times = [
            (Stage::Read, read),
            (Stage::Parse, parse),
            (Stage::Commit, commit),
            (Stage::Answer, answer),
        ];
        self.context.metrics.slow.note(SlowRecord {
            bot,
            received_at: self.read_at,
            // Its log is the context's own.
            shard: usize::MAX,
            // Without a journal there is no commit.
            stages: times
                .into_iter()
                .filter(|(stage, ns)| *stage != Stage::Commit || *ns > 0)
                .collect(),
            update_id,
        });
    }
}

/// Counts and notes a request that goes to no bot: which one it means, and why it does not.
#[cold]
pub(super) fn note_refused(
    context: &ConnectionContext,
    peer: Option<IpAddr>,
    why: RouteError,
    head: &RequestHead<'_>,
    request: RouteRequest<'_>,
) -> Fault {
    let (kind, detail) = match why {
        RouteError::Forbidden(_, why @ Forbidden::Address) => {
            context.metrics.forbidden(why);
            (IncidentKind::AddressRefused, "bot.allow")
        }
        RouteError::Forbidden(_, why @ Forbidden::Credentials) => {
            context.metrics.forbidden(why);
            let detail = match (head.secret_token, head.authorization) {
                (Credential::Absent, Credential::Absent) => "missing",
                (Credential::Repeated, _) | (_, Credential::Repeated) => "repeated",
                _ => "wrong",
            };
            (IncidentKind::AuthFailed, detail)
        }
        RouteError::Method => (IncidentKind::MethodNotAllowed, why.status().as_str()),
        RouteError::Unknown => (IncidentKind::UnknownPath, why.status().as_str()),
    };
    let bot = context.snapshot().router.meant(request);
    context.note(kind, peer, bot.clone(), detail);
    (bot, detail)
}
