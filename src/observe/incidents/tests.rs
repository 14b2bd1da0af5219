//! Tests of `incidents`.

#![allow(clippy::indexing_slicing)]

use std::{net::Ipv6Addr, thread};

use super::*;

fn address(last: u16) -> Option<IpAddr> {
    Some(Ipv6Addr::new(0x2001, 0xdb8, 0, last, 0, 0, 0, 1).into())
}

#[test]
fn kinds_are_numbered_in_order_and_have_names_of_their_own() {
    for (index, kind) in IncidentKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, index);
        let same = IncidentKind::ALL.iter().filter(|it| it.as_str() == kind.as_str());
        assert_eq!(same.count(), 1, "{kind:?}");
    }
}

#[test]
fn the_same_again_is_counted_and_the_newest_come_first() {
    let incidents = Incidents::new(10);
    let (one, two) = (incidents.writer(), incidents.writer());
    let bot: Arc<str> = "shop".into();
    one.note(IncidentKind::AuthFailed, address(1), Some(Arc::clone(&bot)), "wrong");
    two.note(IncidentKind::UnknownPath, address(1), None, "404");
    one.note(IncidentKind::AuthFailed, address(1), Some(bot), "missing");
    one.note(IncidentKind::AuthFailed, address(1), Some("news".into()), "missing");
    // Another address of the same host.
    let near = Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 9, 9, 9, 9).into());
    two.note(IncidentKind::UnknownPath, near, None, "404");
    two.note(IncidentKind::UnknownPath, address(2), None, "404");
    let (latest, dropped) = incidents.latest(usize::MAX);
    let seen: Vec<_> = latest
        .iter()
        .map(|it| (it.kind.as_str(), it.address, it.bot.as_deref(), it.detail, it.count))
        .collect();
    assert_eq!(
        seen,
        [
            ("unknown_path", address(2), None, "404", 1),
            ("unknown_path", near, None, "404", 2),
            ("auth_failed", address(1), Some("news"), "missing", 1),
            ("auth_failed", address(1), Some("shop"), "missing", 2),
        ]
    );
    assert!(latest[1].since < latest[1].time && latest[0].since == latest[0].time);
    assert_eq!(dropped, 0);
    assert_eq!(incidents.latest(1).0.len(), 1);
}

#[test]
fn the_oldest_goes_when_there_are_as_many_as_may_be() {
    let incidents = Incidents::new(4);
    let writer = incidents.writer();
    for n in 0..1000 {
        writer.note(IncidentKind::AddressRefused, address(n), None, "");
    }
    let addresses = || incidents.latest(9).0.iter().map(|it| it.address).collect::<Vec<_>>();
    assert_eq!(addresses(), [999, 998, 997, 996].map(address));
    // One that is there is not a new one, and one that has gone is.
    writer.note(IncidentKind::AddressRefused, address(997), None, "");
    writer.note(IncidentKind::AddressRefused, address(0), None, "");
    assert_eq!(addresses(), [0, 997, 999, 998].map(address));
    let ring = writer.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(ring.places.len(), 4, "what has gone is forgotten");
}

/// What the documentation of `admin.incidents` says.
#[test]
fn an_incident_is_small() {
    assert!(size_of::<Incident>() + 2 * size_of::<(Sameness, usize)>() <= 256);
}

#[test]
fn where_none_are_kept_none_are() {
    let incidents = Incidents::new(0);
    let writer = incidents.writer();
    writer.note(IncidentKind::AuthFailed, None, None, "");
    assert_eq!(incidents.latest(9).0.len(), 0);
}

#[test]
fn a_writer_waits_for_no_reader_and_what_is_lost_is_counted() {
    let incidents = Incidents::new(4);
    let writer = incidents.writer();
    let shared = Arc::clone(&writer.shared);
    let reading = shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
    // On another thread, since a wait would never return.
    let writer = thread::spawn(move || {
        writer.note(IncidentKind::AuthFailed, None, None, "");
        writer
    });
    let writer = writer.join().ok();
    drop(reading);
    assert!(writer.is_some());
    assert_eq!(incidents.latest(9).1, 1);
    assert_eq!(incidents.latest(9).0.len(), 0);
}
