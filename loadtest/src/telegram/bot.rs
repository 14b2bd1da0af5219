//! One bot: its sender, and what it takes to carry out what the sender says.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Shared, WebhookInfo,
    connection::{self, Slot},
};
use crate::{
    Error, Options,
    clock::Nanos,
    request::RequestHead,
    runtime::spawn,
    sender::{Action, ConnectionId, Sender, Update},
    socket::interrupt,
    source::Source,
    tls::TlsConnector,
};

/// A bot of a run.
pub(super) struct Bot {
    pub(super) shared: Rc<Shared>,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<TlsConnector>,
    pub(super) head: RequestHead,
    pub(super) source: Rc<Source>,
    url: String,
    first_update_id: u64,
    sender: RefCell<Sender>,
    /// How few updates may wait before more are made at once; 0 if that is not asked for.
    refill_below: Cell<usize>,
    slots: RefCell<HashMap<ConnectionId, Rc<Slot>>>,
}

impl Bot {
    pub(super) fn new(
        options: &Options,
        index: u64,
        source: Rc<Source>,
        shared: Rc<Shared>,
    ) -> Result<Self, Error> {
        Ok(Self {
            shared,
            address: options.target.resolve()?,
            tls: TlsConnector::new(options)?,
            head: RequestHead::new(&options.target, options.secret_token.as_deref()),
            source,
            url: options.target.to_string(),
            first_update_id: options.first_update_id,
            sender: RefCell::new(Sender::new(options.connections, options.payload.seed ^ index)),
            refill_below: Cell::new(0),
            slots: RefCell::default(),
        })
    }

    /// How many updates wait for their 2xx.
    pub(super) fn waiting(&self) -> usize {
        self.sender.borrow().waiting()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.sender.borrow().in_flight()
    }

    pub(super) fn connections_max(&self) -> usize {
        self.sender.borrow().connections_max()
    }

    /// Asks for a look at the schedule once fewer than so many updates wait.
    pub(super) fn refill_below(&self, waiting: usize) {
        self.refill_below.set(waiting);
    }

    /// Takes the update with this place in the schedule.
    pub(super) fn push(&self, index: u64, due: Nanos) {
        let id = self.first_update_id + index;
        let queue = (self.source.kind_of(id), self.source.chat_of(id));
        let update = Update::new(id, queue, self.shared.virtual_time(due));
        self.sender.borrow_mut().push(update);
    }

    /// Does what the sender says. When it is to be asked again.
    pub(super) fn drive(self: &Rc<Self>) -> Nanos {
        let now = self.shared.virtual_time(self.shared.clock.now());
        loop {
            let action = self.sender.borrow_mut().poll(now);
            match action {
                None => break,
                Some(Action::Connect(id)) => self.connect(id),
                Some(Action::Close(id)) => self.close_one(id),
                Some(Action::Send(id, update)) => {
                    if let Some(slot) = self.slots.borrow().get(&id) {
                        slot.assign(update, self.shared.clock.now());
                    }
                }
            }
        }
        let wake = self.sender.borrow_mut().wake_at(now);
        self.shared.real_time(wake)
    }

    /// Tells the sender what happened, and does what follows from it.
    pub(super) fn happened<T>(self: &Rc<Self>, tell: impl FnOnce(&mut Sender, Nanos) -> T) -> T {
        let now = self.shared.virtual_time(self.shared.clock.now());
        let told = tell(&mut self.sender.borrow_mut(), now);
        if self.shared.over.get() {
            return told;
        }
        let wake = self.drive();
        self.shared.timer.set_earlier(wake);
        // In a closed loop more may be made, and it may have been the last.
        let waiting = self.waiting();
        if waiting == 0 || waiting < self.refill_below.get() {
            self.refill_below.set(0);
            self.shared.timer.set_earlier(self.shared.clock.now());
        }
        told
    }

    /// Tells the sender that a request has left, from which nothing follows.
    pub(super) fn sent(&self, id: ConnectionId) {
        self.sender.borrow_mut().sent(id);
    }

    /// Closes every connection.
    pub(super) fn close(&self) {
        let ids: Vec<ConnectionId> = self.slots.borrow().keys().copied().collect();
        for id in ids {
            self.close_one(id);
        }
    }

    /// Notes that a connection is gone.
    pub(super) fn forget(&self, id: ConnectionId) {
        self.slots.borrow_mut().remove(&id);
        self.shared.tasks.set(self.shared.tasks.get() - 1);
    }

    pub(super) fn info(&self, started: SystemTime) -> WebhookInfo {
        let sender = self.sender.borrow();
        let counts = sender.counts();
        let error = sender.last_error();
        let date = error.map(|error| {
            let since = Duration::from_secs_f64(error.at as f64 / 1e9 / self.shared.scale);
            (started + since).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
        });
        WebhookInfo {
            url: self.url.clone(),
            pending_update_count: sender.waiting(),
            max_connections: sender.connections_max(),
            last_error_date: date,
            last_error_message: error.map(|error| error.message.clone()),
            delivered: counts.delivered,
            expired: counts.expired,
            overflown: counts.overflown,
            connections_peak: counts.connections_peak,
        }
    }

    fn connect(self: &Rc<Self>, id: ConnectionId) {
        let slot = Rc::new(Slot::default());
        self.slots.borrow_mut().insert(id, Rc::clone(&slot));
        self.shared.tasks.set(self.shared.tasks.get() + 1);
        // The task is not joined; it is counted instead.
        drop(spawn(connection::run(Rc::clone(self), id, slot)));
    }

    fn close_one(&self, id: ConnectionId) {
        let slot = self.slots.borrow().get(&id).cloned();
        if let Some(slot) = slot
            && let Some(descriptor) = slot.close()
        {
            interrupt(descriptor);
        }
    }
}
