//! A server with a forward behind it.

use std::time::Duration;

use ringhook::{Bot, Dispatch, Report, Server, ServerBuilder};
use ringhook_outputs::forward::{Forward, ForwardSettings, ForwardStatus};

use super::{update, wait_until};

pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) forward: Forward,
}

impl Bench {
    pub(crate) fn start(settings: ForwardSettings) -> Self {
        Self::with(settings, |server| server)
    }

    /// With so many attempts.
    pub(crate) fn attempts(settings: ForwardSettings, max: u32) -> Self {
        let mut dispatch = Dispatch::default();
        dispatch.max_attempts = max;
        Self::with(settings, |server| server.dispatch(dispatch))
    }

    pub(crate) fn with(
        settings: ForwardSettings,
        change: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        let server = Server::builder()
            .without_listeners()
            .bot(Bot::without_secret("shop", "/webhook"))
            .bot(Bot::without_secret("other", "/other"))
            .shards(1)
            .workers(1);
        let (server, updates) = change(server).updates(64);
        let forward = Forward::start(updates, settings).unwrap();
        Self { server: server.start().unwrap(), forward }
    }

    pub(crate) fn deliver(&self, updates: &[String]) {
        self.deliver_to("shop", updates);
    }

    pub(crate) fn deliver_to(&self, bot: &str, updates: &[String]) {
        assert_eq!(self.server.deliver(bot, updates), Ok(updates.len()));
    }

    /// Update `id` of `chat`.
    pub(crate) fn send(&self, chat: i64, id: i64) {
        self.deliver(&[update(chat, id)]);
    }

    pub(crate) fn status(&self) -> ForwardStatus {
        self.forward.status()
    }

    #[track_caller]
    pub(crate) fn wait(&self, what: &str, mut condition: impl FnMut(&ForwardStatus) -> bool) {
        wait_until(what, || condition(&self.status()));
    }

    #[track_caller]
    pub(crate) fn wait_handled(&self, count: u64) {
        wait_until(&format!("{count} updates are handled"), || {
            self.server.report().updates_handled >= count
        });
    }

    /// Stops both, and gives the server's report.
    pub(crate) fn stop(self) -> Report {
        self.server.outputs().for_each(|output| self.forward.drain(output.clone()));
        let report = self.server.stop();
        assert!(self.forward.stop(Duration::from_secs(20)), "the forward ends");
        report
    }
}

/// Settings with short waits, for one target.
pub(crate) fn quick(target: &str) -> ForwardSettings {
    ForwardSettings::new(target.parse().unwrap())
        .retry_unit(Duration::from_millis(1))
        .probe_pauses(Duration::from_millis(20), Duration::from_millis(100))
        .quiet_time(Duration::from_millis(200))
}
