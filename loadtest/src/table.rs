//! A report as text.

use std::fmt;

use crate::{
    Report,
    latencies::Latencies,
    units::{Bytes, Short},
};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_counts(f)?;
        self.fmt_costs(f)?;
        self.fmt_times(f)?;
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
        write!(f, "answered 2xx    {}", self.acknowledged)?;
        for (status, count) in &self.statuses {
            write!(f, "  [{status}: {count}]")?;
        }
        let failures = &self.failures;
        write!(f, "\nnot answered    {}", failures.total())?;
        for (count, kind) in [
            (failures.bad_response, "bad response"),
            (failures.closed, "closed"),
            (failures.connect, "connect"),
            (failures.timeout, "timeout"),
            (failures.tls, "tls"),
            (failures.unsent, "unsent"),
        ] {
            if count > 0 {
                write!(f, "  [{kind}: {count}]")?;
            }
        }
        writeln!(f)
    }

    fn fmt_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "duration        {:.3} s", self.duration_s)?;
        writeln!(f, "rate            {:.1} answers/s", self.rate_per_s)?;
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
            self.cpu_us_per_request(),
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
