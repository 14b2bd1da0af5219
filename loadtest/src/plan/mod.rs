//! Plans: runs that have a name and a meaning.
//!
//! A plan is a TOML file that says what it stands for, how the load goes, and what must hold:
//!
//! ```toml
//! about = "Lunch time"           # the only key that is needed
//! as = "telegram"                # follow Telegram's sender to the letter
//! time_scale = 60                # and divide its times by this
//! connections = 200
//! rate = 1000                    # per second, or "max": a closed loop
//! duration = "60s"               # or requests = 60000
//! warmup = "2s"                  # in no percentile
//! timeout = "60s"
//! churn = false                  # a new connection for each request
//! resume = false                 # TLS sessions on new connections
//! duplicates = "2%"              # sent twice
//! burst = { factor = 10, for = "1s", every = "10s" }
//! idle = 1000                    # connections beside the others that shake hands and say nothing
//! slow_peers = { connections = 100, every = "1s" }
//!
//! # Instead of a rate; after the last phase the first comes again, for as long as duration says.
//! # [[phase]]
//! # for = "30s"
//! # from = 100
//! # to = 2000                    # or rate = 100
//!
//! [payload]
//! seed = 1
//! chats = 10000
//! zipf = 1.2                     # 0: all chats are alike
//! kinds = "message:90,callback_query:10"
//! size = "p50=1200,max=65536"    # of bodies, in bytes
//! albums = "5%"                  # of the updates are photos of albums
//!
//! [expect]                       # of the latency from due time, unless told otherwise
//! p50 = "1ms"
//! p99 = "5ms"
//! "p99.9" = "50ms"
//! max = "1s"
//! lost = 0                       # without a 2xx in the end; 0 unless told otherwise
//! errors = 0                     # requests answered otherwise, or not at all
//! rate = "99%"                   # of what was asked
//! ```

mod keys;

use std::time::Duration;

use toml::Value;

use self::keys::{Keys, number};
use crate::{Error, Expect, Options, Phase, PlanName, Rate, SlowPeers, Stop, Telegram, units};

/// Text of the built-in plans by name.
const BUILT_IN: &[(&str, &str)] = &[
    ("steady", include_str!("../../plans/steady.toml")),
    ("ramp", include_str!("../../plans/ramp.toml")),
    ("burst", include_str!("../../plans/burst.toml")),
    ("flood-after-downtime", include_str!("../../plans/flood-after-downtime.toml")),
    ("saturate", include_str!("../../plans/saturate.toml")),
    ("churn", include_str!("../../plans/churn.toml")),
    ("handshakes", include_str!("../../plans/handshakes.toml")),
    ("idle", include_str!("../../plans/idle.toml")),
    ("slow-peers", include_str!("../../plans/slow-peers.toml")),
    ("soak", include_str!("../../plans/soak.toml")),
];

/// A run with a meaning, of which the target and the like are still open.
#[derive(Clone, Debug)]
pub struct Plan {
    name: PlanName,
    connections: Option<usize>,
    rate: Option<Rate>,
    stop: Option<Stop>,
    phases: Vec<Phase>,
    warmup: Option<Duration>,
    timeout: Option<Duration>,
    churn: bool,
    resume: bool,
    telegram: Option<Telegram>,
    duplicates: Option<f64>,
    slow_peers: Option<SlowPeers>,
    idle: Option<usize>,
    payload: Vec<(String, String)>,
    expect: Expect,
}

impl Plan {
    /// The built-in plans, each with its name and its text.
    pub fn built_in() -> impl Iterator<Item = (&'static str, &'static str)> {
        BUILT_IN.iter().copied()
    }

    /// Reads a plan; `name` is how it is called in messages and reports.
    ///
    /// # Errors
    /// [`Error::Option`] that names the first key with a useless value, the value, and what was
    /// expected; or the line that is no TOML.
    pub fn parse(name: &str, text: &str) -> Result<Self, Error> {
        let mut keys = Keys::new(name, text)?;
        let about = keys.text("about")?.ok_or_else(|| keys.missing("about", "a text"))?;
        let mut plan = Self {
            name: PlanName { name: name.to_owned(), about },
            connections: keys.whole("connections")?,
            rate: keys.take("rate", "a number per second above 0, or \"max\"", rate)?,
            stop: None,
            phases: Vec::new(),
            warmup: keys.duration("warmup")?,
            timeout: keys.duration("timeout")?,
            churn: keys.switch("churn")?,
            resume: keys.switch("resume")?,
            telegram: None,
            duplicates: keys.take("duplicates", "a share as in \"2%\" or 0.02", share)?,
            slow_peers: None,
            idle: keys.whole("idle")?,
            payload: Vec::new(),
            expect: Expect::default(),
        };
        let duration = keys.duration("duration")?;
        let requests = keys.whole("requests")?;
        if let (Some(_), Some(requests)) = (duration, requests) {
            let expected = "no duration beside it";
            return Err(keys.wrong("requests", &Value::Integer(requests), expected));
        }
        plan.stop = duration.map(Stop::After);
        if let Some(requests) = requests {
            let wrong = || keys.wrong("requests", &Value::Integer(requests), "a number above 0");
            let requests = u64::try_from(requests).ok().filter(|requests| *requests > 0);
            plan.stop = Some(Stop::Requests(requests.ok_or_else(wrong)?));
        }
        let time_scale = keys.number("time_scale", "a number")?;
        let telegram = |value: &Value| (value.as_str() == Some("telegram")).then_some(());
        plan.telegram = keys
            .take("as", "\"telegram\"", telegram)?
            .map(|()| Telegram { time_scale: time_scale.unwrap_or(1.0), ..Telegram::default() });
        if let (Some(scale), None) = (time_scale, &plan.telegram) {
            let expected = "as = \"telegram\" beside it";
            return Err(keys.wrong("time_scale", &Value::Float(scale), expected));
        }
        plan.phases = phases(&mut keys, plan.rate)?;
        if !plan.phases.is_empty() && plan.stop.is_none() {
            plan.stop = Some(Stop::After(plan.phases.iter().map(|phase| phase.duration).sum()));
        }
        if let Some(mut inner) = keys.inner("slow_peers")? {
            plan.slow_peers = Some(SlowPeers {
                connections: inner.whole("connections")?.unwrap_or(100),
                every: inner.duration("every")?.unwrap_or(Duration::from_secs(1)),
            });
            inner.end()?;
        }
        if let Some(mut inner) = keys.inner("payload")? {
            plan.payload = inner.rest();
        }
        if let Some(mut inner) = keys.inner("expect")? {
            for (key, value) in inner.rest() {
                plan.expect.set(&key, &value).map_err(|error| keys.error(&error))?;
            }
        }
        if plan.expect.rate.is_some() && plan.rate == Some(Rate::Max) {
            let expected = "a rate that is not \"max\"";
            return Err(keys.wrong("expect.rate", &Value::String("...".to_owned()), expected));
        }
        // Whatever the types do not tell, told by the plan's name and not first by a run.
        let mut options = Options::new("http://127.0.0.1:1/".parse()?);
        plan.apply(&mut options)
            .and_then(|()| options.check())
            .map_err(|error| keys.error(&error))?;
        keys.end()?;
        Ok(plan)
    }

    /// Its name and what it stands for.
    #[must_use]
    pub fn name(&self) -> &PlanName {
        &self.name
    }

    /// Sets what the plan says; the rest stays.
    ///
    /// # Errors
    /// [`Error::Option`] where it asks for updates that cannot be made.
    pub fn apply(&self, options: &mut Options) -> Result<(), Error> {
        fn set<T: Clone>(place: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                place.clone_from(value);
            }
        }
        set(&mut options.connections, &self.connections);
        set(&mut options.rate, &self.rate);
        set(&mut options.stop, &self.stop);
        set(&mut options.warmup, &self.warmup);
        set(&mut options.timeout, &self.timeout);
        set(&mut options.duplicates, &self.duplicates);
        options.phases.clone_from(&self.phases);
        options.churn |= self.churn;
        options.resume |= self.resume;
        if let (None, Some(telegram)) = (&options.telegram, &self.telegram) {
            options.telegram = Some(telegram.clone());
        }
        set(&mut options.idle, &self.idle);
        options.slow_peers = self.slow_peers.or(options.slow_peers);
        options.expect = self.expect.clone();
        options.plan = Some(self.name.clone());
        self.payload.iter().try_for_each(|(key, value)| options.payload.set(key, value))
    }
}

/// The phases, those of a burst included.
fn phases(keys: &mut Keys, rate: Option<Rate>) -> Result<Vec<Phase>, Error> {
    let mut phases = Vec::new();
    for mut inner in keys.list("phase")? {
        let expected = "a number per second";
        let duration = inner.duration("for")?;
        let steady = inner.number("rate", expected)?;
        let (from, to) = (inner.number("from", expected)?, inner.number("to", expected)?);
        let duration = duration.ok_or_else(|| inner.missing("for", "a duration as in \"10s\""))?;
        let (from, to) = match (steady, from, to) {
            (Some(rate), None, None) => (rate, rate),
            (None, Some(from), Some(to)) => (from, to),
            _ => return Err(inner.missing("rate", "rate, or from and to")),
        };
        inner.end()?;
        phases.push(Phase { duration, from, to });
    }
    if rate.is_some() && !phases.is_empty() {
        return Err(keys.wrong("phase", &Value::String("...".to_owned()), "no rate beside phases"));
    }
    if let Some(mut inner) = keys.inner("burst")? {
        let factor = inner.number("factor", "a number")?.unwrap_or(10.0);
        let length = inner.duration("for")?.unwrap_or(Duration::from_secs(1));
        let every = inner.duration("every")?.unwrap_or(Duration::from_secs(10));
        let Some(Rate::PerSecond(rate)) = rate else {
            return Err(inner.missing("factor", "a rate beside the burst"));
        };
        let Some(calm) = every.checked_sub(length).filter(|calm| !calm.is_zero()) else {
            let value = Value::String(humantime::format_duration(length).to_string());
            return Err(inner.wrong("for", &value, "less than every"));
        };
        inner.end()?;
        phases = vec![Phase::steady(rate, calm), Phase::steady(rate * factor, length)];
    }
    Ok(phases)
}

fn rate(value: &Value) -> Option<Rate> {
    match value {
        Value::String(text) if text == "max" => Some(Rate::Max),
        _ => number(value).filter(|rate| *rate > 0.0).map(Rate::PerSecond),
    }
}

fn share(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => units::share(text),
        _ => number(value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn every_built_in_plan_is_sound_and_says_what_it_is() {
        for (name, text) in Plan::built_in() {
            let plan = Plan::parse(name, text).unwrap();
            assert!(plan.name().about.len() > 20, "{name}");
            assert_eq!(plan.expect.lost, Some(0), "{name}");
        }
    }

    #[test]
    fn a_burst_is_two_phases_that_take_turns() {
        let (_, text) = Plan::built_in().find(|(name, _)| *name == "burst").unwrap();
        let mut options = Options::new("http://127.0.0.1:1/".parse().unwrap());
        Plan::parse("burst", text).unwrap().apply(&mut options).unwrap();
        let seconds = Duration::from_secs;
        let phases = [Phase::steady(1000.0, seconds(9)), Phase::steady(10_000.0, seconds(1))];
        assert_eq!(options.phases, phases);
        assert_eq!(options.stop, Stop::After(seconds(60)));
        assert_eq!(options.plan.unwrap().name, "burst");
    }

    #[test]
    fn phases_without_a_duration_come_once() {
        let text = "about = \"x\"\n[[phase]]\nfor = \"3s\"\nrate = 5\n[[phase]]\nfor = \"1m\"\nfrom = 1\nto = 2.5";
        let mut options = Options::new("http://127.0.0.1:1/".parse().unwrap());
        Plan::parse("p", text).unwrap().apply(&mut options).unwrap();
        assert_eq!(options.stop, Stop::After(Duration::from_secs(63)));
        assert_eq!(options.phases.len(), 2);
    }

    #[test]
    fn mistakes_name_key_value_and_expectation() {
        for (text, message) in [
            ("", "plan p: about = (missing): expected a text"),
            ("rate = ", "plan p, line 2: "),
            ("rate = \"fast\"", "plan p: rate = \"fast\": expected a number per second above 0"),
            ("rate = -1", "plan p: rate = -1: expected a number per second above 0"),
            ("conections = 5", "plan p: conections = 5: expected one of the keys about, conn"),
            ("connections = 0", "plan p: the number of connections must be 1 to 20000"),
            ("duration = 10", "plan p: duration = 10: expected a duration as in \"10s\""),
            ("duration = \"1s\"\nrequests = 5", "plan p: requests = 5: expected no duration"),
            ("requests = 0", "plan p: requests = 0: expected a number above 0"),
            ("as = \"me\"", "plan p: as = \"me\": expected \"telegram\""),
            ("as = \"telegram\"\nchurn = true", "plan p: Telegram neither churns"),
            ("time_scale = 2", "plan p: time_scale = 2.0: expected as = \"telegram\" beside it"),
            ("churn = 1", "plan p: churn = 1: expected true or false"),
            ("duplicates = \"lots\"", "plan p: duplicates = \"lots\": expected a share"),
            ("phase = 3", "plan p: phase = 3: expected tables as in [[phase]]"),
            ("[[phase]]\nrate = 5", "plan p: phase[0].for = (missing): expected a duration"),
            (
                "[[phase]]\nfor = \"1s\"",
                "plan p: phase[0].rate = (missing): expected rate, or from",
            ),
            ("[[phase]]\nfor = \"1s\"\nrate = 0", "plan p: phases must last"),
            ("rate = 5\n[[phase]]\nfor = \"1s\"\nrate = 5", "plan p: phase = \"...\": expected no"),
            ("burst = { factor = 2 }", "plan p: burst.factor = (missing): expected a rate beside"),
            (
                "rate = 5\nburst = { for = \"3s\", every = \"2s\" }",
                "plan p: burst.for = \"3s\": expected less than every",
            ),
            ("slow_peers = { many = 5 }", "plan p: slow_peers.many = 5: expected one of the keys"),
            ("slow_peers = { every = \"0s\" }", "plan p: slow peers must wait 10ms"),
            ("expect.p99 = 5", "plan p: expect.p99 = 5: expected a duration as in 5ms"),
            ("expect.p98 = \"5ms\"", "plan p: expect = p98: expected one of errors, lost"),
            (
                "rate = \"max\"\nexpect.rate = 0.99",
                "plan p: expect.rate = \"...\": expected a rate",
            ),
            ("payload.chats = \"many\"", "plan p: payload.chats = many: expected 1 to 1000000"),
            ("payload.chat = 5", "plan p: payload = chat: expected one of "),
        ] {
            let about = if text.is_empty() { "" } else { "about = \"x\"\n" };
            let error = Plan::parse("p", &format!("{about}{text}")).map(|_| ()).expect_err(text);
            assert!(error.to_string().starts_with(message), "{text}: {error}");
            assert!(error.is_usage() && !error.to_string().contains('\n'));
        }
    }
}
