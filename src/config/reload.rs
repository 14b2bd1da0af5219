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
            admin,
            // These can change.
            allow: _,
            bots: _,
            busy_poll,
            date: _,
            drain_timeout: _,
            dispatch,
            driver,
            journal,
            limits,
            // No keys of the config file.
            keep_bodies,
            listens,
            listen,
            listeners,
            pin,
            profile: _,
            reuse_port,
            shards,
            workers,
        } = self;
        next.listens = *listens;
        // An output may need them from now on. What has no use for them is not told apart.
        next.keep_bodies |= *keep_bodies;
        let mut fixed = Fixed(Vec::new());
        fixed.keep("admin.listen", &admin.listen, &mut next.admin.listen);
        fixed.keep("admin.incidents", &admin.incidents, &mut next.admin.incidents);
        fixed.keep("server.driver", driver, &mut next.driver);
        fixed.keep("server.listen", listen, &mut next.listen);
        fixed.keep("server.reuse_port", reuse_port, &mut next.reuse_port);
        // Its sockets are bound, but who may connect to them can change.
        let is_bound = listeners.len() == next.listeners.len()
            && listeners.iter().zip(&next.listeners).all(|(a, b)| a.is_bound_as(b));
        if !is_bound {
            next.listeners.clone_from(listeners);
            fixed.0.push("listener");
        }
        fixed.keep("server.shards", shards, &mut next.shards);
        fixed.keep("server.workers", workers, &mut next.workers);
        fixed.keep("server.pin", pin, &mut next.pin);
        fixed.keep("server.busy_poll", busy_poll, &mut next.busy_poll);
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
        let Journal { ack, dir, max_bytes, segment_bytes, sync_interval, lock_wait } = journal;
        let into = &mut next.journal;
        fixed.keep("journal.ack", ack, &mut into.ack);
        fixed.keep("server.data_dir", dir, &mut into.dir);
        fixed.keep("journal.sync_interval", sync_interval, &mut into.sync_interval);
        fixed.keep("journal.segment_bytes", segment_bytes, &mut into.segment_bytes);
        fixed.keep("journal.lock_wait", lock_wait, &mut into.lock_wait);
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
        note("listener", self.listeners != next.listeners);
        note("server.date", self.date != next.date);
        note("server.drain_timeout", self.drain_timeout != next.drain_timeout);
        note("profile.slow", self.profile.slow != next.profile.slow);
        /// Each field by its name; one that is forgotten does not compile.
        macro_rules! note_limits {
            ($($field:ident)*) => {
                let Limits { $($field,)* queue_updates: _, queue_bytes: _ } = self.limits;
                $(note(concat!("limits.", stringify!($field)), $field != next.limits.$field);)*
            };
        }
        note_limits!(
            head_bytes body_bytes json_depth handshake_timeout handshakes handshakes_waiting
            head_timeout body_timeout body_bytes_per_second body_grace answer_timeout idle_timeout
            requests_per_connection chat_updates connections connections_per_address
        );
        changed
    }
}

impl Bot {
    /// True where both take the same requests.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let Self { allow, basic_auth, host, name, path, previous_token, secret_token } = self;
        let previous = |token: &Option<PreviousToken>| token.clone().map(|it| (it.token, it.until));
        name == &other.name
            && allow == &other.allow
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
        next.pin = "shards=0-2".parse().unwrap();
        next.busy_poll = Some(Duration::from_micros(50));
        let named = old.keep_fixed(&mut next);
        let expected = [
            "server.shards",
            "server.pin",
            "server.busy_poll",
            "limits.queue_updates",
            "dispatch.max_attempts",
            "journal.max_bytes",
        ];
        assert_eq!(named, expected);
        assert_eq!(old.changed(&next), ["server.drain_timeout", "limits.idle_timeout"]);
        assert_eq!((next.shards, next.limits.queue_updates), (None, old.limits.queue_updates));
        assert_eq!((&next.pin, next.busy_poll), (&old.pin, None));
    }

    #[test]
    fn a_bot_is_another_one_with_other_credentials() {
        let bot = || Bot::new("a", "/a", "token").unwrap();
        assert!(bot().is_same(&bot()));
        assert!(!bot().is_same(&Bot::new("a", "/a", "other").unwrap()));
        assert!(!bot().is_same(&Bot::without_secret("a", "/a")));
        let mut moved = bot();
        moved.host = Some("b.example".to_owned());
        assert!(!bot().is_same(&moved));
    }
}
