//! Tests of `inspect`.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::io::IoSlice;

use super::{
    super::{
        Directory,
        record::{HEADER_BYTES, seal},
        storage::Room,
    },
    *,
};

fn record(segment: u32, bot: &str, id: i64) -> Vec<u8> {
    let body = format!("{{\"update_id\":{id}}}").into_bytes();
    let (bot, id) = (BotKey::from_name(bot), UpdateId::new(id));
    let header = RecordHeader::new(bot, id, 1000 * id.get(), false, &body);
    let mut record = header.to_bytes().to_vec();
    record.extend(body);
    seal(&mut record, segment);
    record
}

/// A segment with records of these ids and zeros behind them; where each begins, and the end.
fn write(storage: &Directory, number: u32, previous: Option<(u32, u64)>, ids: &[i64]) -> Vec<u64> {
    let head = SegmentHeader::new(number, previous, 5, &["a".to_owned()]).to_bytes();
    let file = storage.create(&file_name(number), Room::Zero(4096)).unwrap();
    file.write_at(&mut [IoSlice::new(&head)], 0).unwrap();
    let mut places = vec![head.len() as u64];
    for id in ids {
        let record = record(number, "a", *id);
        let at = *places.last().unwrap();
        file.write_at(&mut [IoSlice::new(&record)], at).unwrap();
        places.push(at + record.len() as u64);
    }
    places
}

type Listing = (Vec<(i64, bool)>, Vec<(&'static str, u64)>);

/// What there is: ids of records, settled or not, and the places of everything else.
fn read(journal: &Inspection<'_>, number: u32) -> Listing {
    let mut records = journal.records(number).unwrap().unwrap();
    let (mut found, mut other) = (Vec::new(), Vec::new());
    while let Some(item) = records.next_item().unwrap() {
        match item {
            Item::Record { header, body, is_settled, .. } => {
                let id = header.update_id.get();
                assert_eq!(body, format!("{{\"update_id\":{id}}}").as_bytes());
                found.push((id, is_settled));
            }
            Item::Damage { offset, .. } => other.push(("damage", offset)),
            Item::Unfinished { offset } => other.push(("unfinished", offset)),
        }
    }
    (found, other)
}

#[test]
fn tells_what_is_there_and_what_a_settler_has_noted() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Directory::own(dir.path()).unwrap();
    let first = write(&storage, 1, None, &[10, 11, 12]);
    let second = write(&storage, 2, Some((1, first[3])), &[13, 14]);
    let mut settler = Settler::new(&storage);
    let id = |segment, offset: u64| RecordId { segment, offset: offset as u32 };
    let mut records = vec![id(1, first[0]), id(1, first[2]), id(2, second[1])];
    settler.settle(&mut records).unwrap();
    assert!(records.is_empty());
    settler.settle(&mut vec![id(2, second[0])]).unwrap();
    settler.sync().unwrap();

    let looker = Directory::look_into(dir.path()).unwrap();
    let journal = Inspection::new(&looker).unwrap();
    assert_eq!(journal.numbers().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(journal.bots()[&BotKey::from_name("a")], "a");
    assert_eq!(read(&journal, 1), (vec![(10, true), (11, false), (12, true)], vec![]));
    assert_eq!(read(&journal, 2), (vec![(13, true), (14, true)], vec![]));
    let is_sealed = |number| journal.records(number).unwrap().unwrap().is_sealed;
    assert!(is_sealed(1) && !is_sealed(2));
    // One that goes meanwhile is none, and no damage.
    let mut begun = journal.records(2).unwrap().unwrap();
    let file = storage.open(&file_name(2)).unwrap();
    file.write_at(&mut [IoSlice::new(&[0xff; 200])], second[0]).unwrap();
    storage.remove(&file_name(2)).unwrap();
    assert!(begun.next_item().unwrap().is_none());
    assert!(journal.records(2).unwrap().is_none());
}

#[test]
fn a_record_that_is_being_written_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Directory::own(dir.path()).unwrap();
    let places = write(&storage, 1, None, &[1, 2, 3]);
    let file = storage.open(&file_name(1)).unwrap();
    let rest = record(1, "a", 2)[HEADER_BYTES..].to_vec();
    let at = places[1] + HEADER_BYTES as u64;
    file.write_at(&mut [IoSlice::new(&vec![0; rest.len()])], at).unwrap();
    let journal = Inspection::new(&storage).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(LOOK_PAUSE / 5);
            file.write_at(&mut [IoSlice::new(&rest)], at).unwrap();
        });
        assert_eq!(read(&journal, 1), (vec![(1, false), (2, false), (3, false)], vec![]));
    });
    file.truncate(places[3] - 1).unwrap();
    assert_eq!(read(&journal, 1).1, [("unfinished", places[2])]);
    // Where it is known that there was a record, it is damage.
    write(&storage, 2, Some((1, places[3])), &[]);
    let journal = Inspection::new(&storage).unwrap();
    assert_eq!(read(&journal, 1).1, [("damage", places[2])]);
}

#[test]
fn a_damaged_head_hides_no_record_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Directory::own(dir.path()).unwrap();
    let places = write(&storage, 1, None, &[1]);
    let file = storage.open(&file_name(1)).unwrap();
    file.write_at(&mut [IoSlice::new(b"X")], 3).unwrap();
    let journal = Inspection::new(&storage).unwrap();
    assert_eq!(read(&journal, 1), (vec![(1, false)], vec![("damage", 0)]));
    file.write_at(&mut [IoSlice::new(b"X")], places[0] + 7).unwrap();
    assert_eq!(read(&journal, 1), (vec![], vec![("damage", 0)]));
    // One that was not all written.
    file.write_at(&mut [IoSlice::new(b"g")], 3).unwrap();
    file.truncate(20).unwrap();
    let journal = Inspection::new(&storage).unwrap();
    assert_eq!(read(&journal, 1), (vec![], vec![("unfinished", 0)]));
    // A segment under another name, and a file that is ready to be one.
    let places = write(&storage, 2, None, &[]);
    storage.rename(&file_name(2), &file_name(3)).unwrap();
    let journal = Inspection::new(&storage).unwrap();
    assert_eq!(read(&journal, 3), (vec![], vec![("damage", 0)]));
    let foreign = journal.records(3).unwrap().unwrap().foreign().map(str::to_owned);
    assert_eq!(foreign.as_deref(), Some("it is segment 2 under another name"));
    let file = storage.open(&file_name(3)).unwrap();
    file.write_at(&mut [IoSlice::new(&vec![0; places[0] as usize])], 0).unwrap();
    assert_eq!(read(&Inspection::new(&storage).unwrap(), 3), (vec![], vec![]));
}

#[test]
fn ids_are_told_apart_by_bot() {
    let mut seen = SeenIds::default();
    let (a, b) = (BotKey::from_name("a"), BotKey::from_name("b"));
    assert!(seen.remember(a, UpdateId::new(1)));
    assert!(seen.remember(b, UpdateId::new(1)));
    assert!(!seen.remember(a, UpdateId::new(1)));
}
