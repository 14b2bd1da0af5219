//! Connections, handshakes, certificates and incidents.

use std::fmt;

use ringhook::report::{CloseReason, TurnedAway};

use super::{
    families::{Families, counts, head, label, timestamp},
    snapshot::Snapshot,
};

/// Certificates that have a series of their own, those that expire first; and the default one.
const CERTIFICATES_MAX: usize = 200;

pub(super) fn write(of: &Snapshot, families: &mut Families<'_>) -> fmt::Result {
    let report = &of.report;
    families.counter(
        head("connections_accepted", "Connections taken from the listening sockets"),
        report.connections_accepted,
    )?;
    let closed: u64 = report.connections_closed.values().sum();
    families.gauge(
        head("connections_open", "Connections that are open"),
        report.connections_accepted.saturating_sub(closed + report.connections_refused),
    )?;
    families.counters(
        head("connections_closed", "Connections that were served and have ended"),
        counts("reason", CloseReason::ALL, &report.connections_closed, CloseReason::as_str),
    )?;
    families.counters(
        head("connections_refused", "Connections closed before anything was served"),
        counts("reason", TurnedAway::ALL, &report.connections_refused_by, TurnedAway::as_str),
    )?;
    families.counter(
        head("accept_pauses", "Times that accepting paused because no descriptor was left"),
        report.accept_paused,
    )?;
    families.counters(
        head("handshakes", "TLS handshakes, by how they ended"),
        [
            (label("kind", "full"), report.handshakes_full),
            (label("kind", "resumed"), report.handshakes_resumed),
            (label("kind", "failed"), report.handshakes_failed),
        ],
    )?;
    certificates(of, families)?;
    families.counters(
        head("incidents", "What peers did wrong, and faults of the surroundings"),
        of.incidents.iter().map(|(kind, n)| (label("kind", *kind), *n)),
    )?;
    families.counter(
        head("incidents_dropped", "Incidents that /incidents does not have, because it was read"),
        of.incidents_dropped,
    )
}

/// The certificates that are served now. The default one has the name `default`, the others the
/// first that they are served for.
fn certificates(of: &Snapshot, families: &mut Families<'_>) -> fmt::Result {
    let mut all = of.certificates.iter().filter_map(|it| {
        Some((it.names.first().map_or(&*it.source, |name| &**name), it.not_after?))
    });
    let is_default_readable = of.certificates.first().is_some_and(|it| it.not_after.is_some());
    let default = if is_default_readable { all.next() } else { None };
    let mut others: Vec<_> = all.collect();
    // Two pairs may be for one name, of which the first is served.
    others.sort_by_key(|(name, not_after)| (*name, *not_after));
    others.dedup_by_key(|(name, _)| *name);
    others.sort_by_key(|(_, not_after)| *not_after);
    others.truncate(CERTIFICATES_MAX);
    let default = default.map(|(_, not_after)| ("default", not_after));
    let others = others.into_iter().filter(|(name, _)| *name != "default");
    let series = default.into_iter().chain(others);
    families.gauges(
        head(
            "certificate_not_after_timestamp",
            "When the first certificate of the chain expires that is served now, by name",
        )
        .seconds(),
        series.map(|(name, not_after)| (label("name", name), timestamp(not_after))),
    )?;
    families.counter(
        head("certificate_reloads", "Certificates replaced while the server runs"),
        of.report.certificate_reloads,
    )?;
    families.counter(
        head(
            "certificate_reload_failures",
            "Certificates that were to be replaced and could not be: the old one is served",
        ),
        of.report.certificate_reload_failures,
    )
}
