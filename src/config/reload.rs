//! Which settings can change while a server runs.

use super::{Bot, Config, Dispatch, Journal, Limits, PreviousToken};

/// Takes over what cannot change and names what differs.
struct Fixed(Vec<&'static str>);

impl Fixed {
    fn keep<T: Clone + PartialEq>(&mut self, key: &'static str, old: &T, new: &mut T) {
        if old != new {
            new.clone_from(old);
            self.0.push(key);
        }
    }
}

impl Config {
    /// Puts what cannot change while the server runs back into `next`; the keys of what differed.
    pub(crate) fn keep_fixed(&self, next: &mut Self) -> Vec<&'static str> {
        let Self {
            // These can change.
            allow: _,
            bots: _,
            drain_timeout: _,
            dispatch,
            driver,
            journal,
            limits,
            listen,
            profile: _,
            shards,
            workers,
        } = self;
        let mut fixed = Fixed(Vec::new());
        fixed.keep("server.driver", driver, &mut next.driver);
        fixed.keep("server.listen", listen, &mut next.listen);
        fixed.keep("server.shards", shards, &mut next.shards);
        fixed.keep("server.workers", workers, &mut next.workers);
        // Memory is planned with these.
        fixed.keep("limits.queue_updates", &limits.queue_updates, &mut next.limits.queue_updates);
        fixed.keep("limits.queue_bytes", &limits.queue_bytes, &mut next.limits.queue_bytes);
        let Dispatch { dead_letters, drop_expired, max_attempts, media_groups, order } = dispatch;
        let into = &mut next.dispatch;
        fixed.keep("dispatch.order", order, &mut into.order);
        fixed.keep("dispatch.drop_expired", drop_expired, &mut into.drop_expired);
        fixed.keep("dispatch.max_attempts", max_attempts, &mut into.max_attempts);
        fixed.keep("dispatch.dead_letters", dead_letters, &mut into.dead_letters);
        fixed.keep("dispatch.media_groups", media_groups, &mut into.media_groups);
        let Journal { ack, dir, max_bytes, segment_bytes, sync_interval } = journal;
        let into = &mut next.journal;
        fixed.keep("journal.ack", ack, &mut into.ack);
        fixed.keep("server.data_dir", dir, &mut into.dir);
        fixed.keep("journal.sync_interval", sync_interval, &mut into.sync_interval);
        fixed.keep("journal.segment_bytes", segment_bytes, &mut into.segment_bytes);
        fixed.keep("journal.max_bytes", max_bytes, &mut into.max_bytes);
        fixed.0
    }

    /// The keys of what can change and is different in `next`, the bots apart.
    pub(crate) fn changed(&self, next: &Self) -> Vec<&'static str> {
        let mut changed = Vec::new();
        let mut note = |key, differs| {
            if differs {
                changed.push(key);
            }
        };
        note("server.allow", self.allow != next.allow);
        note("server.drain_timeout", self.drain_timeout != next.drain_timeout);
        note("profile.slow", self.profile.slow != next.profile.slow);
        let (old, new) = (&self.limits, &next.limits);
        let Limits {
            head_bytes,
            body_bytes,
            json_depth,
            handshake_timeout,
            request_timeout,
            idle_timeout,
            queue_updates: _,
            queue_bytes: _,
            chat_updates,
            connections,
            connections_per_address,
        } = *old;
        note("limits.head_bytes", head_bytes != new.head_bytes);
        note("limits.body_bytes", body_bytes != new.body_bytes);
        note("limits.json_depth", json_depth != new.json_depth);
        note("limits.handshake_timeout", handshake_timeout != new.handshake_timeout);
        note("limits.request_timeout", request_timeout != new.request_timeout);
        note("limits.idle_timeout", idle_timeout != new.idle_timeout);
        note("limits.chat_updates", chat_updates != new.chat_updates);
        note("limits.connections", connections != new.connections);
        note(
            "limits.connections_per_address",
            connections_per_address != new.connections_per_address,
        );
        changed
    }
}

impl Bot {
    /// True where both take the same requests.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let Self { basic_auth, host, name, path, previous_token, secret_token } = self;
        let previous = |token: &Option<PreviousToken>| token.clone().map(|it| (it.token, it.until));
        name == &other.name
            && host == &other.host
            && path == &other.path
            && same(secret_token, &other.secret_token, |a, b| a.is_same(b))
            && same(basic_auth, &other.basic_auth, |a, b| a.is_same(b))
            && same(&previous(previous_token), &previous(&other.previous_token), |a, b| {
                a.1 == b.1 && a.0.is_same(&b.0)
            })
    }
}

fn same<T>(a: &Option<T>, b: &Option<T>, is_same: impl Fn(&T, &T) -> bool) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => is_same(a, b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn what_cannot_change_is_put_back_and_named() {
        let old = Config::default();
        let mut next = Config { shards: Some(3), ..Config::default() };
        next.limits.queue_updates += 1;
        next.limits.idle_timeout += Duration::from_secs(1);
        next.dispatch.max_attempts += 1;
        next.journal.max_bytes += 1;
        next.drain_timeout += Duration::from_secs(1);
        let named = old.keep_fixed(&mut next);
        let expected =
            ["server.shards", "limits.queue_updates", "dispatch.max_attempts", "journal.max_bytes"];
        assert_eq!(named, expected);
        assert_eq!(old.changed(&next), ["server.drain_timeout", "limits.idle_timeout"]);
        assert_eq!((next.shards, next.limits.queue_updates), (None, old.limits.queue_updates));
    }

    #[test]
    fn a_bot_is_another_one_with_other_credentials() {
        let bot = || Bot::new("a", "/a", "token").unwrap();
        assert!(bot().is_same(&bot()));
        assert!(!bot().is_same(&Bot::new("a", "/a", "other").unwrap()));
        assert!(!bot().is_same(&Bot::open("a", "/a")));
        let mut moved = bot();
        moved.host = Some("b.example".to_owned());
        assert!(!bot().is_same(&moved));
    }
}
