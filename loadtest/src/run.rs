//! Puts a run together on a thread of its own.

use std::{
    rc::Rc,
    thread,
    time::{Duration, SystemTime},
};

use crate::{
    Error, Options, Report, client,
    clock::Clock,
    cpu::CpuTime,
    load::Load,
    pacer::{self, Span},
    profile::{Intervals, Profile},
    progress::Progress,
    record::Record,
    report::Planned,
    runtime::{Runtime, spawn},
    slow_peer, telegram,
};

/// Runs a load and waits for its end. Several may run at once; nothing is shared between them.
///
/// # Errors
/// If the run could not begin. Requests that fail are counted in the report.
pub fn run(options: &Options) -> Result<Report, Error> {
    run_watched(options, |_| {})
}

/// As [`run`], and calls `progress` once per second from the generator's thread. It must be quick:
/// nothing is sent meanwhile.
///
/// # Errors
/// As [`run`].
pub fn run_watched(
    options: &Options,
    progress: impl FnMut(&Progress) + Send,
) -> Result<Report, Error> {
    options.check()?;
    let (profile, intervals) = match &options.profile {
        Some(dir) => Some(Profile::start(dir)?).unzip(),
        None => (None, None),
    };
    // A thread of its own has its own affinity, ring and CPU time.
    let mut report = thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("loadtest".to_owned())
            .spawn_scoped(scope, || run_here(options, progress, intervals))
            .map_err(Error::Runtime)?;
        thread.join().unwrap_or(Err(Error::Panicked))
    })?;
    let trouble = profile.and_then(|profile| profile.finish(&report));
    report.warnings.extend(trouble);
    Ok(report)
}

fn run_here(
    options: &Options,
    mut progress: impl FnMut(&Progress),
    intervals: Option<Intervals>,
) -> Result<Report, Error> {
    if let Some(id) = options.pin {
        pin(id)?;
    }
    let mut runtime = Runtime::new(options.driver, options.connections).map_err(Error::Runtime)?;
    let driver = runtime.driver();
    runtime.block_on(async {
        if let Some(telegram) = &options.telegram {
            return telegram::run(options, telegram, driver, &mut progress, intervals).await;
        }
        let load = Rc::new(Load::new(options, Clock::new())?);
        load.record.borrow_mut().profile = intervals;
        let clients: Vec<_> = (0..options.connections)
            .map(|slot| spawn(client::run(Rc::clone(&load), slot)))
            .collect();
        let peers: Vec<_> = options
            .slow_peers
            .iter()
            .flat_map(|peers| (0..peers.connections).map(|index| (index, peers.every)))
            .map(|(index, every)| (options.connections + index, every))
            .map(|(slot, every)| spawn(slow_peer::run(Rc::clone(&load), slot, every)))
            .collect();
        let started = SystemTime::now();
        let Span { start, end, cpu } = pacer::run(Rc::clone(&load), options, &mut progress).await;
        let cpu = CpuTime::for_this_thread() - cpu;
        for client in clients {
            client.await;
        }
        load.pool.release();
        for peer in peers {
            peer.await;
        }
        let record = load.record.replace(Record::new(options));
        let feed = load.pool.feed.borrow();
        let planned = Planned { updates: feed.planned(), copies: feed.copies_planned() };
        let duration = Duration::from_nanos(end - start);
        Ok(Report::new(options, driver, planned, started, duration, cpu, record))
    })
}

fn pin(id: usize) -> Result<(), Error> {
    // Asked first, because setting panics over numbers that no machine has.
    let ours = core_affinity::get_core_ids().unwrap_or_default();
    let core = ours.into_iter().find(|core| core.id == id);
    if core.is_some_and(core_affinity::set_for_current) {
        return Ok(());
    }
    Err(Error::Option(format!("cannot stay on CPU {id}: it is not ours to use")))
}
