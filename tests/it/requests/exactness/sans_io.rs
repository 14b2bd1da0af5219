//! The table without sockets: session, router and parser are given the bytes in two pieces, cut at
//! each byte in turn.

use std::time::Instant;

use ringhook::internals::{
    Routes,
    http::{ConnectionDirective, HttpLimits, HttpSession, Status, Step},
    update::{UpdateBody, UpdateParser},
};

use super::{
    BODY_BYTES, HEAD_BYTES, TARGET_BYTES, bots,
    entry::{Entry, SUCCESSOR, Then, id},
    table,
};

/// What came of some bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Seen {
    answers: Vec<u16>,
    /// The ids of the updates, in order, copies among them.
    taken: Vec<i64>,
    then: Then,
    invitations: usize,
}

/// A connection's sans-I/O half, as `connection.rs` puts it together.
struct Connection<'a> {
    routes: &'a Routes,
    parser: UpdateParser,
    http: HttpSession,
    unread: Vec<u8>,
    /// What routing said of the current request.
    refusal: Option<Status>,
    seen: Seen,
}

impl<'a> Connection<'a> {
    fn new(routes: &'a Routes) -> Self {
        let limits = HttpLimits {
            body_bytes: BODY_BYTES,
            head_bytes: HEAD_BYTES,
            target_bytes: TARGET_BYTES,
            ..HttpLimits::default()
        };
        let seen =
            Seen { answers: Vec::new(), taken: Vec::new(), then: Then::Stays, invitations: 0 };
        Self {
            routes,
            parser: UpdateParser::default(),
            http: HttpSession::new(limits),
            unread: Vec::new(),
            refusal: None,
            seen,
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        let mut unread = &self.unread[..];
        loop {
            let (consumed, step) = self.http.advance(unread);
            unread = &unread[consumed..];
            match step {
                Step::Head(head) => {
                    self.refusal = self.routes.route_head(&head).err();
                    match self.refusal {
                        None => self.http.accept_body(UpdateBody::default()),
                        Some(_) => self.http.discard_body(),
                    }
                    self.seen.invitations += usize::from(self.http.continue_due(unread));
                }
                Step::Complete => {
                    if let Some(refusal) = self.refusal {
                        self.seen.answers.push(refusal.code());
                    } else {
                        let body = self.http.take_body().unwrap();
                        let parsed = self.parser.parse(body, Default::default(), Instant::now());
                        self.seen.answers.push(if parsed.is_ok() { 200 } else { 400 });
                        self.seen.taken.extend(parsed.ok().map(|update| update.id().get()));
                    }
                    if self.http.directive() == ConnectionDirective::Close {
                        self.seen.then = Then::Closes;
                    }
                }
                Step::Reject(status) => {
                    self.seen.answers.push(status.code());
                    self.seen.then = Then::Closes;
                    return;
                }
                Step::NeedMore => break,
                Step::Closed => return,
            }
        }
        self.unread = unread.to_vec();
    }

    /// What came of it all; `Waits` in the middle of a request.
    fn end(mut self) -> Seen {
        if self.seen.then == Then::Stays && !(self.http.is_idle() && self.unread.is_empty()) {
            self.seen.then = Then::Waits;
        }
        self.seen
    }
}

/// What comes of `pieces`.
fn seen(routes: &Routes, pieces: &[&[u8]]) -> Seen {
    let mut connection = Connection::new(routes);
    for piece in pieces {
        connection.receive(piece);
    }
    connection.end()
}

/// What has to come of an entry, as far as it does not depend on cuts.
fn expected(entry: &Entry, with_successor: bool) -> (Vec<u16>, Vec<i64>, Then) {
    let mut answers = entry.answers.to_vec();
    let mut taken: Vec<i64> = entry.taken.iter().map(|last| id(1, *last)).collect();
    if with_successor && entry.then == Then::Stays {
        answers.push(200);
        taken.push(id(1, SUCCESSOR));
    }
    (answers, taken, entry.then)
}

#[test]
fn each_entry_means_the_same_however_it_is_cut() {
    let routes = Routes::new(&bots());
    for entry in table() {
        for with_successor in [false, true] {
            if with_successor && entry.successor_is_answered().is_none() {
                continue;
            }
            let mut bytes = entry.bytes_of(1);
            if with_successor {
                bytes.extend(Entry::successor(1));
            }
            let expected = expected(&entry, with_successor);
            for cut in 0..=bytes.len() {
                let (first, second) = bytes.split_at(cut);
                let mut seen = seen(&routes, &[first, second]);
                // The second copy of an update is taken, and the handler does not see it.
                seen.taken.dedup();
                let about = format!("{} ({}), cut at {cut}", entry.name, entry.rule);
                assert!(seen.invitations <= usize::from(entry.invited), "{about}");
                assert_eq!((seen.answers, seen.taken, seen.then), expected, "{about}");
            }
            let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
            let mut seen = seen(&routes, &bytewise);
            seen.taken.dedup();
            // A client that sends its head and waits is invited, if the version allows it.
            assert_eq!(seen.invitations, usize::from(entry.invited), "{}", entry.name);
            assert_eq!((seen.answers, seen.taken, seen.then), expected, "{}, bytewise", entry.name);
        }
    }
}
