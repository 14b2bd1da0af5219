//! The outputs for bots that poll.

use std::fmt;

use ringhook_outputs::getupdates::{ConsumerStatus, GetUpdatesStatus};

use super::{
    families::{Families, head, label},
    snapshot::Snapshot,
};

pub(super) fn write(of: &Snapshot, families: &mut Families<'_>) -> fmt::Result {
    let each = |pick: fn(&GetUpdatesStatus) -> u64| {
        of.getupdates.iter().map(move |(name, it)| (label("output", &**name), pick(it)))
    };
    families.counters(head("getupdates_polls", "Calls of getUpdates"), each(|it| it.polls))?;
    families.counters(
        head("getupdates_conflicts", "Calls of getUpdates that another one has ended"),
        each(|it| it.conflicts),
    )?;
    families.counters(
        head("getupdates_handed_out", "Updates in answers, the repeated ones included"),
        each(|it| it.handed_out),
    )?;
    families.counters(
        head("getupdates_confirmed", "Updates that a client has confirmed"),
        each(|it| it.confirmed),
    )?;
    families.counters(
        head("getupdates_dropped", "Updates that a client did not want, or has forgotten"),
        each(|it| it.unwanted + it.forgotten),
    )?;
    families.counters(
        head("getupdates_refused", "Requests of clients with a wrong token or path"),
        each(|it| it.refused),
    )?;
    families.counters(
        head("getupdates_passed", "Calls of other methods that went to the Bot API"),
        each(|it| it.passed),
    )?;
    families.counters(
        head("getupdates_failed", "Calls of other methods that had no answer"),
        each(|it| it.failed),
    )?;
    families.gauges(
        head("getupdates_connections", "Connections of clients that are open"),
        each(|it| it.connections),
    )?;
    families.gauges(
        head("getupdates_waiting_updates", "Updates that wait for a client to ask"),
        each(|it| it.consumers.iter().map(|consumer| consumer.waiting).sum()),
    )?;
    families.gauges(
        head("getupdates_unconfirmed_updates", "Updates that are handed out and not confirmed"),
        each(|it| it.consumers.iter().map(|consumer| consumer.unconfirmed).sum()),
    )?;
    let oldest = |it: &ConsumerStatus| it.oldest;
    families.gauges(
        head("getupdates_oldest", "Age of the oldest update that is not confirmed").seconds(),
        of.getupdates.iter().map(|(name, it)| {
            let oldest = it.consumers.iter().filter_map(oldest).max();
            (label("output", &**name), oldest.unwrap_or_default().as_secs_f64())
        }),
    )
}
