//! Brokers and databases as outputs: each update as one record.
//!
//! A worker's batch is sent at once and settled when the broker has acknowledged all of it. What a
//! broker does not take now stays in the batch, which is tried again with growing pauses; only what
//! it will never take becomes a dead letter.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | the sink that all of them share: batches, connections, what is tried again |
//! | `url` | where a broker is |
//! | `settings` | what is set beside that |
//! | `record` | what a broker gets of an update |
//! | `postgres` | a table of PostgreSQL |
//! | `redis` | streams of Redis and Valkey |

#![cfg_attr(
    not(any(feature = "postgres", feature = "redis")),
    allow(
        dead_code,
        unused_imports,
        clippy::match_single_binding,
        clippy::needless_pass_by_value,
        reason = "there is no broker"
    )
)]

#[cfg(feature = "postgres")]
mod postgres;
mod record;
#[cfg(feature = "redis")]
mod redis;
mod settings;
mod url;

use std::{io, sync::Arc};

use ringhook::{BotNames, Error, Refused, Sink, SinkWriter, update::Update};

use self::record::{Clock, Record};
pub use self::{settings::BrokerSettings, url::BrokerUrl};

/// The longest text of a broker's error that is passed on, in characters.
const TEXT_MAX: usize = 200;

/// What differs from broker to broker.
trait Broker: Send + Sync + 'static {
    type Link: Send;

    fn settings(&self) -> &BrokerSettings;

    /// Connects and authenticates.
    fn connect(&self) -> io::Result<Self::Link>;

    /// Sends `records` in their order and waits until all of them are acknowledged. What will never
    /// be taken goes to `refused`. After an error the link is not used any more, and the same
    /// records come again.
    fn publish(
        &self,
        link: &mut Self::Link,
        records: &[Record],
        refused: &mut Refused,
    ) -> io::Result<()>;
}

/// A broker as a destination: a connection for each worker, made when there is something to send.
struct BrokerSink<B>(Arc<B>);

struct BrokerWriter<B: Broker> {
    bots: BotNames,
    broker: Arc<B>,
    bytes: usize,
    clock: Option<Clock>,
    link: Option<B::Link>,
    records: Vec<Record>,
}

impl<B: Broker> Sink for BrokerSink<B> {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        self.writer_for(&BotNames::default())
    }

    fn writer_for(&self, bots: &BotNames) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(BrokerWriter {
            bots: bots.clone(),
            broker: Arc::clone(&self.0),
            bytes: 0,
            clock: None,
            link: None,
            records: Vec::new(),
        }))
    }
}

impl<B: Broker> BrokerWriter<B> {
    /// Sends the batch over the link that there is, or over a new one.
    fn publish(&mut self) -> io::Result<Refused> {
        let Self { broker, link, records, .. } = self;
        loop {
            let used = link.take();
            let is_new = used.is_none();
            let mut current = used.map_or_else(|| broker.connect(), Ok)?;
            let mut refused = Refused::default();
            match broker.publish(&mut current, records, &mut refused) {
                Ok(()) => {
                    *link = Some(current);
                    return Ok(refused);
                }
                // One that was idle may have been closed since: that is no failure of the broker.
                Err(error) if !is_new && is_disconnect(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<B: Broker> SinkWriter for BrokerWriter<B> {
    fn write(&mut self, update: &Update) {
        let clock = self.clock.get_or_insert_with(Clock::read);
        let bot = self.bots.get(update.bot()).unwrap_or_default();
        let record = Record::new(update, bot, clock, &self.broker.settings().fields);
        self.bytes += record.body.len();
        self.records.push(record);
    }

    fn pending_bytes(&self) -> usize {
        self.bytes
    }

    fn commit(&mut self, refused: &mut Refused) -> io::Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        let found = self.publish().map_err(|error| passed_on(&error))?;
        found.iter().for_each(|(index, reason)| refused.push(index, reason.to_owned()));
        self.records.clear();
        (self.bytes, self.clock) = (0, None);
        Ok(())
    }
}

fn is_disconnect(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::BrokenPipe
            | Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::NotConnected
            | Kind::UnexpectedEof
    )
}

/// `error` as a sink may return it: its text in one short line, and no broken pipe, which would
/// mean that the destination never comes back.
fn passed_on(error: &io::Error) -> io::Error {
    let kind = match error.kind() {
        io::ErrorKind::BrokenPipe => io::ErrorKind::ConnectionReset,
        // As a socket says that its time is over.
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut,
        kind => kind,
    };
    let text = error.to_string();
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX);
    io::Error::new(kind, line.collect::<String>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_error_is_one_short_line_and_never_the_end() {
        let long = format!("no\nroom {}", "x".repeat(1000));
        let error = passed_on(&io::Error::new(io::ErrorKind::BrokenPipe, long));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let text = error.to_string();
        assert!(text.starts_with("no room x") && text.chars().count() == TEXT_MAX, "{text}");
        let error = passed_on(&io::ErrorKind::WouldBlock.into());
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
