//! The thread of a forward: what it waits for, and how it ends.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures_core::Stream as _;
use ringhook::{OutputState, Updates};
use tokio::{sync::mpsc::UnboundedReceiver, time::sleep_until};

use super::{engine::Engine, exchange::Event};

/// The longest time that requests under way can be given.
const WITHIN_MAX: Duration = Duration::from_secs(24 * 3600);

/// The most updates, or events, that are taken between two looks at everything else.
const AT_ONCE: usize = 64;

/// What the owner asks of the thread.
pub(super) enum Command {
    /// The server stops: what is held for targets that are down may be left.
    Drain(Arc<OutputState>),
    /// The bots have changed, so targets may take what they refused.
    Probe,
    /// To end, with so much time for the requests that are under way.
    Stop(Duration),
}

/// What the thread is about.
enum Phase {
    Running,
    Draining { output: Arc<OutputState>, since: Instant },
    Stopping { deadline: Instant },
}

/// Forwards updates until the server has stopped, or the owner asks to end.
pub(super) async fn run(
    mut engine: Engine,
    updates: Updates,
    mut events: UnboundedReceiver<Event>,
    mut commands: UnboundedReceiver<Command>,
) {
    let mut updates = Some(updates);
    let mut phase = Phase::Running;
    let mut timer = pin!(sleep_until(Instant::now().into()));
    loop {
        let now = Instant::now();
        let mut due_at = match &phase {
            Phase::Stopping { deadline } => {
                // A target may have gone down since.
                engine.release_waiting();
                if engine.is_idle() || now >= *deadline {
                    break;
                }
                *deadline
            }
            Phase::Running | Phase::Draining { .. } => {
                engine.work(now);
                engine.due_at(now)
            }
        };
        engine.publish();
        if let Phase::Draining { output, since } = &phase
            && let Some(quiet_since) = engine.quiet_since()
        {
            let leave_at = quiet_since.max(*since) + engine.settings.quiet;
            if now >= leave_at {
                // The stream ends with that, and so does this loop.
                output.leave();
            } else {
                due_at = due_at.min(leave_at);
            }
        }
        let due_at = tokio::time::Instant::from_std(due_at);
        if timer.deadline() != due_at || timer.is_elapsed() {
            timer.as_mut().reset(due_at);
        }
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(Command::Drain(output)) => {
                    phase = Phase::Draining { output, since: Instant::now() };
                }
                Some(Command::Probe) => engine.probe_now(Instant::now()),
                Some(Command::Stop(within)) => {
                    // First of all, so that what is given back does not come again.
                    updates = None;
                    engine.release_waiting();
                    let deadline = Instant::now() + within.min(WITHIN_MAX);
                    phase = Phase::Stopping { deadline };
                }
                // The handle is gone without having said anything.
                None => break,
            },
            Some(event) = events.recv() => {
                let now = Instant::now();
                engine.hear(event, now);
                for _ in 1..AT_ONCE {
                    let Ok(event) = events.try_recv() else { break };
                    engine.hear(event, now);
                }
            }
            has_more = take(&mut updates, &mut engine) => {
                // The server has stopped: what is still here was left by it.
                if !has_more {
                    break;
                }
            }
            () = timer.as_mut() => {}
        }
    }
    drop(updates);
    engine.release();
    engine.publish();
}

/// Gives the engine what has come, once there is something; false at the end of the stream. Waits
/// for ever where there is no stream any more.
async fn take(updates: &mut Option<Updates>, engine: &mut Engine) -> bool {
    poll_fn(|context| {
        let Some(updates) = updates else { return Poll::Pending };
        let mut is_any = false;
        for _ in 0..AT_ONCE {
            match Pin::new(&mut *updates).poll_next(context) {
                Poll::Ready(Some(update)) => {
                    engine.take(update, Instant::now());
                    is_any = true;
                }
                Poll::Ready(None) => return Poll::Ready(false),
                Poll::Pending if is_any => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(true)
    })
    .await
}
