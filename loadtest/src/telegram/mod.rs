//! A run that follows the rules of Telegram's [`sender`](crate::sender) to the letter.
//!
//! One loop makes updates when they are due, asks each bot's sender what to do, and wakes the
//! connections' tasks; these tell the sender what happened. The sender's time is that of the run
//! times [`Telegram::time_scale`].

mod bot;
mod connection;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use self::bot::Bot;
use crate::{
    Error, Options, Progress, Report, Target,
    clock::{Clock, Nanos, nanos},
    cpu::CpuTime,
    options::{Driver, Rate, Stop},
    profile::Intervals,
    record::Record,
    report::Planned,
    schedule::{Next, Schedule},
    sender::WAITING_MAX,
    series::Series,
    source::Source,
    timer::Timer,
};

/// How to send as Telegram does.
#[derive(Clone, Debug)]
pub struct Telegram {
    /// The bots; each has a sender of its own, and as many updates as the others. Without any there
    /// is one, at [`Options::target`].
    pub bots: Vec<TelegramBot>,
    /// What all of the sender's times are divided by, from 1 to 100,000; 1 for those of Telegram.
    pub time_scale: f64,
}

impl Default for Telegram {
    fn default() -> Self {
        Self { bots: Vec::new(), time_scale: 1.0 }
    }
}

/// One of several bots.
#[derive(Clone, Debug)]
pub struct TelegramBot {
    /// Its webhook.
    pub target: Target,
    /// The value of its `X-Telegram-Bot-Api-Secret-Token`.
    pub secret_token: Option<String>,
}

/// What getWebhookInfo would say of a bot at the end, and a little more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WebhookInfo {
    /// Where its updates go, without user and password.
    pub url: String,
    /// Updates that wait for a 2xx.
    pub pending_update_count: usize,
    /// The most connections it may have, once brought into its bounds of 1 to 100.
    pub max_connections: usize,
    /// When something went wrong last, in seconds since 1970. No success clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_date: Option<u64>,
    /// What went wrong then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_message: Option<String>,
    /// Updates that got their 2xx. Telegram does not tell.
    pub delivered: u64,
    /// Updates that were given up when their life was over.
    pub expired: u64,
    /// Updates that were lost because 100,000 waited already.
    pub overflown: u64,
    /// The most connections that there were at a time.
    pub connections_peak: usize,
}

/// Time between two looks at whether the run is over.
const TICK: Nanos = 10_000_000;
const SECOND: Nanos = 1_000_000_000;

/// What the bots of a run share.
struct Shared {
    clock: Clock,
    start: Nanos,
    scale: f64,
    record: RefCell<Record>,
    timer: Timer,
    /// Connections' tasks that have not ended.
    tasks: Cell<usize>,
    /// Whether connections are closed because the run is at its end.
    over: Cell<bool>,
}

impl Shared {
    /// The sender's time at the run's time `now`.
    fn virtual_time(&self, now: Nanos) -> Nanos {
        (now.saturating_sub(self.start) as f64 * self.scale) as Nanos
    }

    /// The run's time at the sender's time `time`.
    fn real_time(&self, time: Nanos) -> Nanos {
        if time == Nanos::MAX {
            return Nanos::MAX;
        }
        // Upwards, so that the sender is not asked before its time.
        self.start.saturating_add((time as f64 / self.scale).ceil() as Nanos)
    }
}

/// Runs it on the calling thread's event loop.
pub(crate) async fn run(
    options: &Options,
    telegram: &Telegram,
    driver: Driver,
    progress: &mut dyn FnMut(&Progress),
    intervals: Option<Intervals>,
) -> Result<Report, Error> {
    let clock = Clock::new();
    let shared = Rc::new(Shared {
        clock,
        start: clock.now(),
        scale: telegram.time_scale,
        record: RefCell::new(Record::new(options)),
        timer: Timer::new(clock).map_err(Error::Runtime)?,
        tasks: Cell::new(0),
        over: Cell::new(false),
    });
    let mut lines = Vec::new();
    for (index, each) in options_of_bots(options, telegram).iter().enumerate() {
        let source = Rc::new(Source::new(each)?);
        let mut schedule = Schedule::new(each, source.len());
        schedule.start(shared.start);
        let bot = Bot::new(each, index as u64, source, Rc::clone(&shared))?;
        lines.push(Line { bot: Rc::new(bot), schedule, planned: 0, stop: each.stop });
    }
    shared.record.borrow_mut().profile = intervals;
    shared.record.borrow_mut().timed_from = shared.start.saturating_add(nanos(options.warmup));
    let (started, cpu) = (SystemTime::now(), CpuTime::for_this_thread());
    drive(&shared, &mut lines, options, progress).await;
    let end = clock.now();
    let planned = Planned { updates: lines.iter().map(|line| line.planned).sum(), copies: 0 };
    let infos: Vec<WebhookInfo> = lines.iter().map(|line| line.bot.info(started)).collect();
    shared.over.set(true);
    for line in &lines {
        line.bot.close();
    }
    while shared.tasks.get() > 0 {
        shared.timer.set(clock.now() + TICK / 10);
        shared.timer.fired().await;
    }
    let cpu = CpuTime::for_this_thread() - cpu;
    // What came after the last whole second.
    shared.record.borrow_mut().end_interval(clock.now() - shared.start);
    let record = shared.record.replace(Record::new(options));
    let duration = Duration::from_nanos(end - shared.start);
    let mut report = Report::new(options, driver, planned, started, duration, cpu, record);
    report.telegram = Some(infos);
    Ok(report)
}

/// A bot with what is made for it.
struct Line {
    bot: Rc<Bot>,
    schedule: Schedule,
    /// Updates that fell due.
    planned: u64,
    stop: Stop,
}

impl Line {
    /// Hands over what is due at `now`. When the next one is; none if there is none any more.
    fn make(&mut self, now: Nanos) -> Option<Nanos> {
        loop {
            if self.schedule.is_closed() && self.bot.waiting() >= self.closed_waiting_max() {
                // Half of it must be gone, so that few looks are needed.
                self.bot.refill_below(self.closed_waiting_max() / 2);
                return Some(Nanos::MAX);
            }
            match self.schedule.take(now) {
                Next::End => return None,
                Next::Wait(due) => return Some(due),
                Next::Request(request) => {
                    self.planned += 1;
                    self.bot.push(request.index, request.due);
                }
            }
        }
    }

    /// How much may wait in a closed loop: what Telegram keeps, if the number is known. Otherwise
    /// enough to be never idle.
    fn closed_waiting_max(&self) -> usize {
        match self.stop {
            Stop::Requests(_) => WAITING_MAX,
            Stop::After(_) => 4 * self.bot.connections_max(),
        }
    }
}

async fn drive(
    shared: &Rc<Shared>,
    lines: &mut [Line],
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) {
    let clock = shared.clock;
    let mut second = shared.start + SECOND;
    // Of a closed loop, when the last update was taken.
    let mut last_due = shared.start;
    loop {
        let now = clock.now();
        let (mut wake, mut over) = (now + TICK, true);
        for line in &mut *lines {
            let planned = line.planned;
            match line.make(now) {
                Some(due) => (wake, over) = (wake.min(due), false),
                None => over &= line.bot.waiting() == 0,
            }
            if line.planned > planned {
                last_due = now;
            }
            last_due = last_due.max(line.schedule.last_due().unwrap_or(0));
            wake = wake.min(line.bot.drive());
        }
        if now >= second || over {
            second = second.max(now) + SECOND;
            let due = lines.iter().map(|line| line.planned).sum();
            let in_flight = lines.iter().map(|line| line.bot.in_flight()).sum();
            let mut record = shared.record.borrow_mut();
            Series::end_second(&mut record, due, in_flight, now - shared.start);
            progress(&Progress::new(&record, now - shared.start));
        }
        let late = last_due.saturating_add(nanos(options.timeout)) <= now;
        if over || late || options.cancel.load(Ordering::Relaxed) {
            return;
        }
        shared.timer.set(wake);
        shared.timer.fired().await;
    }
}

/// The options of each bot: those of the run, but for target, token and ids.
fn options_of_bots(options: &Options, telegram: &Telegram) -> Vec<Options> {
    if telegram.bots.is_empty() {
        return vec![options.clone()];
    }
    let each = |(index, bot): (usize, &TelegramBot)| {
        let mut options = options.clone();
        options.target = bot.target.clone();
        options.secret_token.clone_from(&bot.secret_token);
        options.first_update_id += index as u64 * Telegram::IDS_PER_BOT;
        options
    };
    telegram.bots.iter().enumerate().map(each).collect()
}

impl Telegram {
    /// The ids of a bot's updates begin so far after those of the bot before.
    pub const IDS_PER_BOT: u64 = 1_000_000_000;

    /// Checks what the types do not.
    pub(crate) fn check(&self, options: &Options) -> Result<(), Error> {
        let wrong = |reason: &str| Err(Error::Option(reason.to_owned()));
        if !(1.0..=100_000.0).contains(&self.time_scale) {
            return wrong("the time scale must be 1 to 100000");
        }
        if options.churn || options.duplicates > 0.0 || options.slow_peers.is_some() {
            return wrong("Telegram neither churns nor doubles nor drips: leave that out");
        }
        for each in options_of_bots(options, self) {
            each.check_target()?;
        }
        if options.rate == Rate::Max && options.stop == Stop::Requests(0) {
            return wrong("there must be a request at least");
        }
        Ok(())
    }
}
