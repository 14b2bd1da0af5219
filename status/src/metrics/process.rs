//! The process, as the kernel counts it. The names are those of Prometheus' own clients.

use std::fmt;

use procfs::process::{LimitValue, Process as OfKernel};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::families::{Families, Label, head, label};

/// Writes what `/proc` has of this process; heads alone where it has nothing.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let families = &mut Families(encoder);
        let process = OfKernel::myself().ok();
        let stat = process.as_ref().and_then(|process| process.stat().ok());
        let cpu = stat
            .as_ref()
            .map(|stat| (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64);
        families.counters(
            head("process_cpu", "CPU time in user mode and in the kernel").seconds(),
            one(cpu),
        )?;
        let resident = stat.as_ref().map(|stat| stat.rss * procfs::page_size());
        families
            .gauges(head("process_resident_memory", "Resident memory").bytes(), one(resident))?;
        families.gauges(
            head("process_virtual_memory", "Virtual memory").bytes(),
            one(stat.as_ref().map(|stat| stat.vsize)),
        )?;
        families.gauges(
            head("process_threads", "Threads"),
            one(stat.as_ref().map(|stat| stat.num_threads)),
        )?;
        families.gauges(
            head("process_open_fds", "Open descriptors"),
            one(process.as_ref().and_then(|process| process.fd_count().ok())),
        )?;
        let limit = process.as_ref().and_then(|process| process.limits().ok());
        let limit = limit.and_then(|limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(most) => Some(most),
            LimitValue::Unlimited => None,
        });
        families.gauges(head("process_max_fds", "Descriptors that may be open"), one(limit))?;
        let boot = procfs::boot_time_secs().ok();
        let start = stat.as_ref().zip(boot).map(|(stat, boot)| {
            boot as f64 + stat.starttime as f64 / procfs::ticks_per_second() as f64
        });
        families.gauges(head("process_start_time", "When it was started").seconds(), one(start))?;
        let tasks = process.as_ref().and_then(|process| process.tasks().ok());
        let (mut voluntary, mut involuntary) = (0, 0);
        for status in tasks.into_iter().flatten().flatten().filter_map(|task| task.status().ok()) {
            voluntary += status.voluntary_ctxt_switches.unwrap_or(0);
            involuntary += status.nonvoluntary_ctxt_switches.unwrap_or(0);
        }
        families.gauges(
            head("process_context_switches", "Context switches of the threads there are now"),
            [(label("kind", "voluntary"), voluntary), (label("kind", "involuntary"), involuntary)],
        )
    }
}

fn one<V>(value: Option<V>) -> impl Iterator<Item = ([Label<'static>; 0], V)> {
    value.into_iter().map(|value| ([], value))
}
