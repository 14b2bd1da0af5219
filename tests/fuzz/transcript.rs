//! What an HTTP session makes of a stream of bytes, written down so that it can be compared.
//!
//! Shared by the tests of the package and by its fuzz targets.

use ringhook::internals::{
    http::{ConnectionDirective, HttpLimits, HttpSession, RequestHead, Status, Step},
    update::UpdateBody,
};

/// One thing that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// A head, and what it says about the connection.
    Head(Head, ConnectionDirective),
    /// The end of a request with its content, if that was wanted; and the directive for its answer.
    Complete(Option<Vec<u8>>, ConnectionDirective),
    /// The end by an error.
    Reject(Status),
    /// The end of the last request.
    Closed,
}

/// A head that owns what it says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    pub(crate) text: String,
    pub(crate) secret_token: Option<Vec<u8>>,
    pub(crate) authorization: Option<Vec<u8>>,
}

/// All that happened, and how many bytes were left unread when it ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Transcript {
    pub(crate) events: Vec<Event>,
    /// Unread bytes; 0 after the session ended.
    pub(crate) unread: usize,
    /// True where the session waits for the first byte of a request.
    pub(crate) idle: bool,
}

/// What the caller does with bodies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bodies {
    Accept,
    Discard,
}

/// Feeds `pieces` one after the other, as a connection would.
pub(crate) fn transcript<'a>(
    limits: HttpLimits,
    bodies: Bodies,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Transcript {
    let mut session = HttpSession::new(limits);
    let mut unread = Vec::new();
    let mut events = Vec::new();
    for piece in pieces {
        unread.extend_from_slice(piece);
        loop {
            let before = unread.len();
            let (consumed, step) = session.advance(&unread);
            assert!(consumed <= before, "read more than there is");
            match step {
                Step::Head(head) => {
                    let head = owned(&head);
                    events.push(Event::Head(head, session.directive()));
                    match bodies {
                        Bodies::Accept => session.accept_body(UpdateBody::default()),
                        Bodies::Discard => session.discard_body(),
                    }
                    unread.drain(..consumed);
                }
                Step::Complete => {
                    let content = session.take_body().map(|body| body.as_slice().to_vec());
                    events.push(Event::Complete(content, session.directive()));
                    unread.drain(..consumed);
                }
                Step::NeedMore => {
                    unread.drain(..consumed);
                    break;
                }
                Step::Reject(status) => {
                    events.push(Event::Reject(status));
                    assert_eq!(session.advance(b"GET"), (3, Step::Closed));
                    return Transcript { events, unread: 0, idle: session.is_idle() };
                }
                Step::Closed => {
                    assert_eq!(consumed, before);
                    events.push(Event::Closed);
                    return Transcript { events, unread: 0, idle: session.is_idle() };
                }
            }
        }
    }
    Transcript { events, unread: unread.len(), idle: session.is_idle() }
}

fn owned(head: &RequestHead<'_>) -> Head {
    Head {
        text: format!("{head:?}"),
        secret_token: head.secret_token.value().map(<[u8]>::to_vec),
        authorization: head.authorization.value().map(<[u8]>::to_vec),
    }
}
