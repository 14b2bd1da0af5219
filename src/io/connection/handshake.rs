//! A connection until it is established: the client behind a balancer, and the TLS handshake.

use std::{io, net::IpAddr, rc::Rc, time::Instant};

use super::{Connection, ConnectionContext, LINGER, LINGER_BYTES, run};
use crate::{
    duration::nanos,
    io::{
        accepted::AcceptedConnection,
        balancer,
        connection_table::{End, Phase, Registration},
        listener::Terms,
        peer_limit::ConnectionPermit,
        runtime,
        tls::{self as session, Established},
    },
    observe::incidents::IncidentKind,
    outcome::CloseReason,
    tls::{fault, recv_buffer::RecvBuffer},
};

/// Serves a connection from its handshake, in which it holds `place`, to its end.
pub(crate) async fn serve<P>(
    context: Rc<ConnectionContext>,
    accepted: AcceptedConnection,
    place: P,
) {
    let AcceptedConnection { accepted_at, peer, permit, socket, terms } = accepted;
    let reason = match runtime::adopt(socket, context.driver) {
        Ok(socket) => {
            let begun_at = accepted_at;
            let arrival = Arrival { accepted_at, begun_at, early: Vec::new(), peer, place };
            admit(&context, socket, arrival, &terms).await
        }
        Err(_) => Some(CloseReason::Io),
    };
    drop(permit);
    if let Some(reason) = reason {
        context.metrics.closed(reason);
    }
}

/// What is known of a connection before it is served.
struct Arrival<P> {
    accepted_at: Instant,
    /// When its context took it up.
    begun_at: Instant,
    /// The client's bytes that have come already.
    early: Vec<u8>,
    /// Where it comes from; `None` where that is a Unix socket.
    peer: Option<IpAddr>,
    place: P,
}

/// Serves a connection to its end; one that may not be served is counted as turned away.
async fn admit<P>(
    context: &ConnectionContext,
    socket: runtime::Socket,
    arrival: Arrival<P>,
    terms: &Terms,
) -> Option<CloseReason> {
    let registration = context.table.register(runtime::descriptor(&socket));
    // In a box: what a beginning needs is given back when it is over.
    let begun = Box::pin(begin(context, socket, &registration, arrival, terms)).await;
    match begun {
        Begun::Established(connection, permit) => {
            let reason = run(connection).await;
            drop(permit);
            Some(reason)
        }
        Begun::Ended(reason) => Some(reason),
        Begun::TurnedAway => None,
    }
}

/// What the beginning of a connection has come to.
enum Begun<'a> {
    /// It goes on; with its permit, where that is not the one it came with.
    Established(Box<Connection<'a>>, Option<ConnectionPermit>),
    Ended(CloseReason),
    TurnedAway,
}

/// Finds out the client behind a balancer, and whether that is one who may be served.
async fn begin<'a, P>(
    context: &'a ConnectionContext,
    mut socket: runtime::Socket,
    registration: &'a Registration<'a>,
    mut arrival: Arrival<P>,
    terms: &Terms,
) -> Begun<'a> {
    let deadline = context.handshake_deadline(arrival.accepted_at);
    let now = Instant::now();
    context.metrics.accept_wait.record(nanos(now.saturating_duration_since(arrival.accepted_at)));
    arrival.begun_at = now;
    registration.enter(Phase::Handshake, now, deadline);
    let mut permit = None;
    if terms.proxy_protocol.is_some() {
        let identified = balancer::identify(&mut socket, arrival.peer, terms, &context.permits);
        match identified.await {
            Ok(client) => {
                arrival.early = client.early;
                arrival.peer = client.peer;
                permit = Some(client.permit);
            }
            Err(why) => {
                // Before the peer can know.
                context.turned_away(arrival.peer, why);
                return Begun::TurnedAway;
            }
        }
    }
    match secure(context, socket, registration, arrival, terms).await {
        Ok(connection) => Begun::Established(connection, permit),
        Err(reason) => Begun::Ended(reason),
    }
}

/// Establishes a connection that may be served; the reason, where that fails.
async fn secure<'a, P>(
    context: &'a ConnectionContext,
    socket: runtime::Socket,
    registration: &'a Registration<'a>,
    arrival: Arrival<P>,
    terms: &Terms,
) -> Result<Box<Connection<'a>>, CloseReason> {
    let Arrival { begun_at, early, peer, place, .. } = arrival;
    if !terms.tls {
        drop(place);
        let (stream, received) = (session::Stream::Plain(socket), RecvBuffer::plain(early));
        return Ok(Connection::new(context, registration, stream, peer, received));
    }
    // A server does not start without it where a listener needs it.
    let tls = context.tls.clone().ok_or(CloseReason::Io)?;
    let slice = async |step| {
        let slice = context.handshakes.slice(step).await;
        // Its client is gone.
        if registration.end().is_some() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(slice) }
    };
    let outcome = session::accept(socket, early, tls, slice).await;
    drop(place);
    match outcome {
        Ok(Established { kind, stream, received }) => {
            note_handshake(context, kind, begun_at);
            Ok(Connection::new(context, registration, stream, peer, received))
        }
        Err((socket, error)) => Err(fail(context, registration, peer, socket, error).await),
    }
}

fn note_handshake(context: &ConnectionContext, kind: rustls::HandshakeKind, begun_at: Instant) {
    let metrics = &context.metrics;
    let (count, stage) = match kind {
        rustls::HandshakeKind::Resumed => (&metrics.handshakes_resumed, &metrics.handshake_resumed),
        _ => (&metrics.handshakes_full, &metrics.handshake_full),
    };
    count.increment();
    stage.record(nanos(begun_at.elapsed()));
}

/// Ends a connection whose handshake has failed by `error`.
async fn fail(
    context: &ConnectionContext,
    registration: &Registration<'_>,
    peer: Option<IpAddr>,
    mut socket: runtime::Socket,
    error: io::Error,
) -> CloseReason {
    context.metrics.handshakes_failed.increment();
    match registration.end() {
        Some(End::Displaced) => return CloseReason::HandshakeDisplaced,
        Some(_) => {
            context.note(IncidentKind::HandshakeTimeout, peer, None, "handshake_timeout");
            return CloseReason::HandshakeTimeout;
        }
        None => context.note(IncidentKind::HandshakeFailed, peer, None, fault::words(&error)),
    }
    registration.linger(LINGER);
    // The alert must not be lost to an RST.
    if runtime::finish(&mut socket).await.is_ok() {
        runtime::discard(&mut socket, LINGER_BYTES).await;
    }
    CloseReason::HandshakeFailed
}
