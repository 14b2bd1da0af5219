//! The thread of the output: what it waits for, and how it ends.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures_core::Stream as _;
use ringhook::{OutputState, Updates};
use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    time::{sleep, sleep_until},
};

use super::{hub::Hub, service::Service};

/// The shortest and the longest wait between two looks at what is too old.
const SWEEP: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(15));
/// How long requests may take that are under way when the server has stopped.
const END_WAIT: Duration = Duration::from_secs(1);
/// Pause between two looks whether they have ended.
const END_STEP: Duration = Duration::from_millis(5);
/// The most updates that are taken between two looks at everything else.
const AT_ONCE: usize = 64;

/// The longest time that requests under way can be given.
const WITHIN_MAX: Duration = Duration::from_secs(24 * 3600);

/// What the owner asks of the thread.
pub(super) enum Command {
    /// The server stops: what no client asks for may be left.
    Drain(Arc<OutputState>),
    /// To end, with so much time for requests that are under way.
    Stop(Duration),
}

/// Hands updates out until the server has stopped, or the owner asks to end.
pub(super) async fn run(
    service: Arc<Service>,
    mut updates: Updates,
    quiet: Duration,
    mut commands: UnboundedReceiver<Command>,
    stop: watch::Sender<bool>,
) {
    let hub = Arc::clone(&service.hub);
    let sweep = hub.client_timeout().div_f64(4.0).clamp(SWEEP.0, SWEEP.1);
    let mut within = END_WAIT;
    let mut draining: Option<(Arc<OutputState>, Instant)> = None;
    let mut timer = pin!(sleep_until(Instant::now().into()));
    loop {
        let now = Instant::now();
        let mut due_at = hub.sweep(now).unwrap_or(now + sweep).min(now + sweep);
        service.pass.sweep(now);
        if let Some((output, since)) = &draining {
            let leave_at = hub.asked_at().max(Some(*since)).unwrap_or(*since) + quiet;
            if now >= leave_at {
                // The stream ends with that, and so does this loop.
                output.leave();
            } else {
                due_at = due_at.min(leave_at);
            }
        }
        timer.as_mut().reset(due_at.into());
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(Command::Drain(output)) => draining = Some((output, Instant::now())),
                // The handle is gone without having said anything.
                None => break,
                Some(Command::Stop(time)) => {
                    within = time;
                    break;
                }
            },
            has_more = take_until_nothing_comes(&mut updates, &hub) => {
                // The server has stopped: what is still here was left by it.
                if !has_more {
                    break;
                }
            }
            () = timer.as_mut() => {}
        }
    }
    // First of all, so that what is given back does not come again.
    drop(updates);
    hub.close();
    let _ = stop.send(true);
    let ends_at = Instant::now() + within.min(WITHIN_MAX);
    while service.counters.has_connections() && Instant::now() < ends_at {
        sleep(END_STEP).await;
    }
}

/// Takes what comes; false at the end of the stream. True now and then, so that other things have
/// their turn.
async fn take_until_nothing_comes(updates: &mut Updates, hub: &Hub) -> bool {
    poll_fn(|context| {
        for _ in 0..AT_ONCE {
            match Pin::new(&mut *updates).poll_next(context) {
                Poll::Ready(Some(update)) => hub.take(update),
                Poll::Ready(None) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(true)
    })
    .await
}
