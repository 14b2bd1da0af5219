//! A report as text.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use crate::{
    Report, WebhookInfo,
    latencies::Latencies,
    record::{Failures, Retries, SlowPeersSeen},
    units::{Bytes, Short},
};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_counts(f)?;
        self.fmt_costs(f)?;
        self.fmt_times(f)?;
        for expectation in &self.expectations {
            // That nothing may be lost goes without saying where nothing was.
            if !(expectation.ok && expectation.name == "lost") {
                writeln!(f, "{expectation}")?;
            }
        }
        for info in self.telegram.iter().flatten() {
            fmt_webhook_info(f, info)?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

impl Report {
    fn fmt_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "planned         {}", self.planned)?;
        writeln!(f, "sent            {}", self.sent)?;
        if self.options.replay.is_none() {
            let (seed, first) = (self.options.seed, self.options.first_update_id);
            writeln!(f, "seed            {seed}, ids from {first} on")?;
        }
        write!(f, "answered 2xx    {}", self.acknowledged)?;
        fmt_statuses(f, &self.statuses)?;
        writeln!(f)?;
        fmt_failures(f, "not answered", &self.failures)?;
        if let Some(retries) = &self.retries {
            fmt_retries(f, retries)?;
        }
        if let Some(copies) = &self.copies {
            write!(f, "copies          {}  acknowledged {}", copies.planned, copies.acknowledged)?;
            fmt_statuses(f, &copies.statuses)?;
            writeln!(f)?;
            fmt_failures(f, "  not answered", &copies.failures)?;
        }
        if let Some(peers) = &self.slow_peers {
            let SlowPeersSeen { connections, closed, failed, bytes } = peers;
            write!(f, "slow peers      {connections} connections, {bytes} bytes sent")?;
            writeln!(f, "  [closed: {closed}]  [failed: {failed}]")?;
        }
        Ok(())
    }

    fn fmt_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "duration        {:.3} s", self.duration_s)?;
        write!(f, "rate            {:.1} answers/s", self.rate_per_s)?;
        match self.rate_asked_per_s {
            Some(asked) => writeln!(f, " ({asked:.1}/s asked)")?,
            None => writeln!(f, " (closed loop)")?,
        }
        let (sent, received) = (Bytes(self.bytes_sent), Bytes(self.bytes_received));
        writeln!(f, "bytes           {sent} sent, {received} received")?;
        writeln!(
            f,
            "connections     {} (handshakes: {} full, {} resumed)",
            self.connections, self.handshakes_full, self.handshakes_resumed
        )?;
        let cpu = self.cpu_user_s + self.cpu_system_s;
        writeln!(
            f,
            "generator       {cpu:.3} s CPU ({:.0} %), {:.1} us per request, {}\n",
            cpu * 100.0 / self.duration_s.max(1e-9),
            self.cpu_us_per_request,
            self.driver
        )
    }

    fn fmt_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16}", "")?;
        for name in Latencies::COLUMNS {
            write!(f, "{name:>10}")?;
        }
        writeln!(f)?;
        for (name, latencies) in [
            ("due to answer", &self.latency_us),
            ("send to answer", &self.send_to_answer_us),
            ("own lateness", &self.lateness_us),
            ("handshake", &self.handshake_us),
        ] {
            if latencies.count() == 0 {
                continue;
            }
            write!(f, "{name:<16}")?;
            for value in latencies.summary() {
                write!(f, "{:>10}", Short(value))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn fmt_webhook_info(f: &mut fmt::Formatter<'_>, info: &WebhookInfo) -> fmt::Result {
    writeln!(f, "\nwebhook         {}", info.url)?;
    let WebhookInfo { pending_update_count, max_connections, connections_peak, .. } = info;
    writeln!(f, "  pending_update_count  {pending_update_count}")?;
    writeln!(f, "  max_connections       {max_connections} ({connections_peak} at a time)")?;
    if let (Some(date), Some(message)) = (info.last_error_date, &info.last_error_message) {
        let date = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(date));
        writeln!(f, "  last_error_date       {date}")?;
        writeln!(f, "  last_error_message    {message}")?;
    }
    let WebhookInfo { delivered, expired, overflown, .. } = info;
    writeln!(f, "  delivered             {delivered}  [expired: {expired}]  [lost: {overflown}]")
}

fn fmt_statuses(f: &mut fmt::Formatter<'_>, statuses: &BTreeMap<u16, u64>) -> fmt::Result {
    statuses.iter().try_for_each(|(status, count)| write!(f, "  [{status}: {count}]"))
}

fn fmt_failures(f: &mut fmt::Formatter<'_>, name: &str, failures: &Failures) -> fmt::Result {
    write!(f, "{name:<16}{}", failures.total())?;
    for (kind, count) in failures.named() {
        if count > 0 {
            write!(f, "  [{kind}: {count}]")?;
        }
    }
    writeln!(f)
}

fn fmt_retries(f: &mut fmt::Formatter<'_>, retries: &Retries) -> fmt::Result {
    let Retries { attempts, retried, pending, statuses } = retries;
    writeln!(f, "attempts        {attempts}  (retried {retried}, pending {pending})")?;
    for (index, statuses) in statuses.iter().enumerate() {
        let later = if index + 1 == Retries::PLACES_MAX { " on" } else { "" };
        write!(f, "{:<16}", format!("  no. {}{later}", index + 1))?;
        fmt_statuses(f, statuses)?;
        writeln!(f)?;
    }
    Ok(())
}
