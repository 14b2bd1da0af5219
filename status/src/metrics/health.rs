//! Health, hangs, shards, reloads, the log and the build.

use std::fmt;

use ringhook::report::Step;

use super::{
    families::{Families, counts, head, label},
    snapshot::Snapshot,
};

pub(super) fn write(of: &Snapshot, families: &mut Families<'_>) -> fmt::Result {
    let report = &of.report;
    families.gauge(
        head("healthy", "1 where /healthz says that the server works, else 0"),
        u64::from(of.is_healthy),
    )?;
    families.gauge(
        head("ready", "1 where /readyz says that updates are taken, else 0"),
        u64::from(of.is_ready),
    )?;
    families.counters(
        head("hangs", "Times that something had not returned for long, by what it was"),
        counts("step", Step::ALL, &report.hangs, Step::as_str),
    )?;
    families.gauges(
        head("hanging_threads", "Threads that hang now, by what they are in"),
        of.hangs.iter().map(|it| (label("step", it.step.as_str()), it.threads)),
    )?;
    families.gauges(
        head("hanging", "For how long the first of them has not returned").seconds(),
        of.hangs.iter().map(|it| (label("step", it.step.as_str()), it.longest.as_secs_f64())),
    )?;
    let shards = of.shards_silent_for.iter().enumerate();
    let silent = shards.filter_map(|(shard, time)| Some((shard, (*time)?)));
    families.gauges(
        head("shard_silent", "Time since the shard's last sign of life; it gives one a second")
            .seconds(),
        silent.map(|(shard, time)| (label("shard", shard.to_string()), time.as_secs_f64())),
    )?;
    families.counter(
        head("config_reloads", "Configs put in force while the server runs"),
        report.config_reloads,
    )?;
    families.counter(
        head("config_reload_failures", "Configs that were wrong: the one before stayed"),
        report.config_reload_failures,
    )?;
    families.counter(
        head("log_lines_dropped", "Lines of the log that stderr did not take"),
        of.stderr_lines_dropped,
    )?;
    families.counter(
        head("profile_intervals_lost", "Intervals of the profile that were late"),
        report.profile_intervals_lost,
    )?;
    families.gauge(head("uptime", "Time since the server's start").seconds(), report.uptime_s)?;
    families.gauges(
        head("threads", "Threads that serve, by what they do"),
        [(label("kind", "shard"), report.shards), (label("kind", "worker"), report.workers)],
    )?;
    families.info(
        head("build", "The version, and how the kernel is talked to"),
        &[("version", of.version.into()), ("driver", report.driver.to_string().into())],
    )
}
