//! From a complete request to an update on its way.

use std::time::Instant;

use super::{Connection, IngestPath, Trace};
use crate::{
    bots::BotId,
    duration::nanos,
    journal::Ticket,
    observe::incidents::IncidentKind,
    outcome::Refusal,
    proto::{
        http::Status,
        update::{ParseError, Update},
    },
};

/// What has become of a complete request.
pub(super) enum Taken {
    /// It can be answered.
    Answered(Status),
    /// Its update, parsed at that time, is on its way into the journal.
    Submitted(Ticket, Instant),
}

impl Connection<'_> {
    /// Parses the complete request's body and hands the update off.
    pub(super) fn take_update(&mut self) -> Taken {
        let body = self.http.take_body();
        // Bytes of the next request may have come with this one's last, refused or not.
        let began_at = std::mem::replace(&mut self.began_at, self.read_at);
        let bot = match self.routed {
            Ok(bot) => bot,
            Err(status) => {
                self.trace = Trace::default();
                return Taken::Answered(status);
            }
        };
        let context = self.context;
        let read = nanos(self.read_at - began_at);
        context.metrics.read.record(read);
        self.trace = Trace { read, ..Trace::default() };
        match &context.ingest_path {
            IngestPath::Memory(dispatcher) => {
                let parsed = self.context.memory.parse(body.unwrap_or_default(), bot, self.read_at);
                let update = match parsed {
                    Ok(update) => update,
                    Err(error) => return self.no_update(bot, error),
                };
                let parsed_at = self.parsed(&update);
                match dispatcher.dispatch(update, parsed_at) {
                    Ok(()) => Taken::Answered(Status::Ok),
                    Err((refusal, update)) => {
                        self.context.memory.keep(update.recycle());
                        self.refused(refusal)
                    }
                }
            }
            IngestPath::Journal(intake) => {
                let body = body.unwrap_or_default();
                // The parser rewrites the body, and the journal keeps it as it came.
                let staged = intake.stage(body.as_slice());
                let parsed = self.context.memory.parse(body, bot, self.read_at);
                match (staged, parsed) {
                    (Ok(staged), Ok(update)) => {
                        let parsed_at = self.parsed(&update);
                        Taken::Submitted(intake.submit(&staged, update), parsed_at)
                    }
                    (Err(refusal), Ok(update)) => {
                        self.parsed(&update);
                        self.context.memory.keep(update.recycle());
                        self.refused(refusal)
                    }
                    (staged, Err(error)) => {
                        staged.iter().for_each(|staged| intake.discard(staged));
                        self.no_update(bot, error)
                    }
                }
            }
        }
    }

    /// Counts and times an update that was parsed just now.
    fn parsed(&mut self, update: &Update) -> Instant {
        let now = Instant::now();
        self.trace.parse = nanos(now - self.read_at);
        self.trace.update = Some((update.bot(), update.kind(), update.id().get()));
        self.context.metrics.parse.record(self.trace.parse);
        self.context.metrics.received.increment();
        self.context.registry.mark_active(update.bot());
        now
    }

    /// The body of a request that was let in is no update of `bot`.
    #[cold]
    fn no_update(&mut self, bot: BotId, error: ParseError) -> Taken {
        let bot = self.context.snapshot().router.name(bot);
        self.context.note(IncidentKind::MalformedUpdate, self.peer, bot.clone(), error.as_str());
        self.fault = Some((bot, error.as_str()));
        Taken::Answered(Status::BadRequest)
    }

    #[cold]
    fn refused(&mut self, refusal: Refusal) -> Taken {
        self.context.metrics.refused(refusal);
        let bot = self.trace.update.map(|(bot, ..)| bot);
        let bot = bot.and_then(|bot| self.context.snapshot().router.name(bot));
        self.fault = Some((bot, refusal.as_str()));
        Taken::Answered(Status::ServiceUnavailable)
    }

    /// Waits until the record of an update that was parsed at `parsed_at` is in the journal; the
    /// other connections go on meanwhile.
    pub(super) async fn committed(&mut self, ticket: Ticket, parsed_at: Instant) -> Status {
        let IngestPath::Journal(intake) = &self.context.ingest_path else {
            return Status::ServiceUnavailable;
        };
        self.awaits_answer();
        if intake.committed(ticket).await {
            self.trace.commit = nanos(intake.returned_at().saturating_duration_since(parsed_at));
            self.context.metrics.commit.record(self.trace.commit);
            return Status::Ok;
        }
        // The disk did not take it, and nothing was promised.
        self.refused(Refusal::Journal);
        Status::ServiceUnavailable
    }
}
