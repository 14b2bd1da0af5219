//! What all connections of a run share.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use crate::{
    Error, Options,
    clock::{Clock, Nanos, nanos},
    feed::Feed,
    pool::{Assignment, Pool},
    record::Record,
    request::RequestHead,
    source::Source,
    timer::Timer,
    tls::TlsConnector,
};

/// A run: its settings made usable, its feed and its record.
pub(crate) struct Load {
    pub(crate) clock: Clock,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsConnector>,
    pub(crate) head: RequestHead,
    pub(crate) source: Rc<Source>,
    pub(crate) churn: bool,
    pub(crate) timeout: Nanos,
    pub(crate) pool: Pool,
    pub(crate) record: RefCell<Record>,
}

impl Load {
    /// Must be called on the event loop, for the timer's sake.
    pub(crate) fn new(options: &Options, clock: Clock) -> Result<Self, Error> {
        let source = Rc::new(Source::new(options)?);
        let timer = Timer::new(clock).map_err(Error::Runtime)?;
        Ok(Self {
            clock,
            address: options.target.resolve()?,
            tls: TlsConnector::new(options)?,
            head: RequestHead::new(&options.target, options.secret_token.as_deref()),
            source: Rc::clone(&source),
            churn: options.churn,
            timeout: nanos(options.timeout),
            pool: Pool::new(
                Feed::new(options, source),
                options.connections,
                options.slow_peers.map_or(0, |peers| peers.connections),
                timer,
            ),
            record: RefCell::new(Record::new(options)),
        })
    }

    /// Waits for a connection's next request; none if there is none any more. `now` is when the
    /// connection became free.
    pub(crate) async fn next(&self, slot: usize, now: Nanos) -> Option<Assignment> {
        std::future::poll_fn(|context| self.pool.poll_next(slot, now, context)).await
    }
}
