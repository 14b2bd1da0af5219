//! What is read from a damaged segment: all that is whole, nothing else, and where the rest was.

use std::{io::IoSlice, sync::Arc};

use fastrand::Rng;

use super::disk::SimDisk;
use crate::{
    bots::BotKey,
    journal::{
        header::SegmentHeader,
        reader::{Found, SegmentReader},
        record::{HEADER_BYTES, MARKER, RecordHeader, seal},
        recover,
        segment::{damaged_name, file_name},
        storage::{Room, Storage, Stored},
    },
    proto::update::UpdateId,
};

const SEGMENT: u32 = 4;

/// Where a record begins and ends.
type Span = (u64, u64);

/// A segment's file, with the places of its records.
fn segment(number: u32, bodies: &[Vec<u8>]) -> (Vec<u8>, Vec<Span>) {
    let mut bytes = SegmentHeader::new(number, None, 0, &["bot".to_owned()]).to_bytes();
    let mut places = Vec::new();
    for (id, body) in bodies.iter().enumerate() {
        let at = bytes.len();
        let id = UpdateId::new(id as i64);
        let header = RecordHeader::new(BotKey::from_name("bot"), id, 0, false, body);
        bytes.extend(header.to_bytes());
        seal(&mut bytes[at..], number);
        bytes.extend(body);
        places.push((at as u64, bytes.len() as u64));
    }
    (bytes, places)
}

/// Bodies of all lengths around the reader's chunks, without bytes of the marker.
fn bodies(rng: &mut Rng, count: usize, longest: u64) -> Vec<Vec<u8>> {
    let body = |rng: &mut Rng| {
        let len = if rng.u64(..4) == 0 { rng.u64(..longest) } else { rng.u64(..60) };
        (0..len).map(|_| rng.u8(..128)).collect()
    };
    (0..count).map(|_| body(rng)).collect()
}

fn file(bytes: &[u8]) -> Arc<dyn Stored> {
    let disk = SimDisk::new(1);
    let file = disk.create("segment", Room::Grow).unwrap();
    file.write_at(&mut [IoSlice::new(bytes)], 0).unwrap();
    file
}

/// The outcome of a read.
#[derive(Debug, Default, Eq, PartialEq)]
struct Read {
    records: Vec<Span>,
    damages: Vec<Span>,
    torn: usize,
}

/// Reads `bytes` from `start` on, and checks that each record is one and that there is an end.
fn read(bytes: &[u8], start: u64, end: Option<u64>) -> Read {
    let mut reader = SegmentReader::new(file(bytes), SEGMENT, start, end);
    let mut read = Read::default();
    let mut at = start;
    for _ in 0..bytes.len() + 9 {
        let before = reader.position();
        match reader.next().unwrap() {
            Some(Found::Record { header, offset, body }) => {
                let place = (u64::from(offset), u64::from(offset) + header.record_len());
                assert_eq!(place.0, before);
                assert_eq!(body, &bytes[place.0 as usize + HEADER_BYTES..place.1 as usize]);
                assert!(header.fits(body));
                read.records.push(place);
            }
            Some(Found::Corrupt { offset, len }) => {
                assert_eq!(offset, before);
                read.damages.push((offset, offset + len));
            }
            Some(Found::Torn) => read.torn += 1,
            None => {
                assert!(reader.next().unwrap().is_none(), "the end stays the end");
                return read;
            }
        }
        assert!(reader.position() > at || read.torn > 0, "it does not go on");
        at = reader.position();
    }
    panic!("there is no end");
}

/// What is to be read where the records of `places` are whole that `is_whole` says.
fn expected(places: &[Span], end: Option<u64>, is_whole: impl Fn(Span) -> bool) -> Read {
    let mut expected = Read::default();
    let mut at = places[0].0;
    for place in places.iter().copied().filter(|place| is_whole(*place)) {
        if place.0 > at {
            expected.damages.push((at, place.0));
        }
        expected.records.push(place);
        at = place.1;
    }
    if let Some(end) = end.filter(|end| *end > at) {
        expected.damages.push((at, end));
    }
    expected
}

/// Compares what is read of `bytes` with what was written as `whole`, with and without the end.
fn check(whole: &[u8], places: &[Span], bytes: &[u8], what: &str) {
    let slice = |bytes: &[u8], (from, to): Span| -> Option<Vec<u8>> {
        bytes.get(from as usize..to as usize).map(<[u8]>::to_vec)
    };
    let is_whole = |place| slice(whole, place) == slice(bytes, place);
    let start = places[0].0;
    for end in [None, Some(whole.len() as u64)] {
        let mut read = read(bytes, start, end);
        assert!(read.torn <= 1 && (end.is_none() || read.torn == 0), "{what}");
        // Whether there is the beginning of a record behind the last whole one.
        let last = read.records.last().map_or(start, |last| last.1);
        let begins = bytes.get(last as usize..).unwrap_or_default().starts_with(&MARKER);
        assert_eq!(read.torn == 1, begins && end.is_none(), "{what}");
        read.torn = 0;
        assert_eq!(read, expected(places, end, is_whole), "{what}, end {end:?}");
    }
}

#[test]
fn one_byte_costs_one_record() {
    let mut rng = Rng::with_seed(1);
    let (whole, places) = segment(SEGMENT, &bodies(&mut rng, 9, 700));
    check(&whole, &places, &whole, "whole");
    for at in places[0].0 as usize..whole.len() {
        for change in [0xff, 1, whole[at]] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            check(&whole, &places, &bytes, &format!("byte {at} ^ {change}"));
        }
    }
}

#[test]
fn a_cut_costs_what_is_behind_it() {
    let mut rng = Rng::with_seed(2);
    let (whole, places) = segment(SEGMENT, &bodies(&mut rng, 9, 700));
    for len in 0..whole.len() {
        check(&whole, &places, &whole[..len], &format!("cut at {len}"));
    }
}

#[test]
fn holes_cost_what_they_hit() {
    for seed in 0..400 {
        let mut rng = Rng::with_seed(seed);
        let (whole, places) = segment(SEGMENT, &bodies(&mut rng, 20, 1500));
        let mut bytes = whole.clone();
        for _ in 0..rng.u64(1..=3) {
            let (from, len) = (rng.usize(..whole.len()), rng.u64(1..=2000));
            let to = (from + len as usize).min(whole.len());
            let what = [0, 0xff, MARKER[0]][rng.usize(..3)];
            bytes[from.max(places[0].0 as usize)..to.max(places[0].0 as usize)].fill(what);
        }
        check(&whole, &places, &bytes, &format!("seed {seed}"));
    }
}

/// The file was another segment's before, whose records lie behind the end, and in it where the
/// disk has lost what was written over them.
#[test]
fn records_of_a_former_life_are_none() {
    for seed in 0..400 {
        let mut rng = Rng::with_seed(seed);
        // Sometimes of the same lengths, so that records lie over records.
        let old = bodies(&mut rng, 30, 700);
        let new = match rng.bool() {
            true => old[..rng.usize(1..=20)].to_vec(),
            false => bodies(&mut rng, 12, 700),
        };
        let (mut bytes, old_places) = segment(SEGMENT - 1, &old);
        let (whole, places) = segment(SEGMENT, &new);
        if bytes.len() < whole.len() {
            continue;
        }
        let stale = bytes.clone();
        bytes[..whole.len()].copy_from_slice(&whole);
        let all = Read { records: places.clone(), ..Read::default() };
        assert_eq!(read(&bytes, places[0].0, Some(whole.len() as u64)), all, "seed {seed}");
        let mut found = read(&bytes, places[0].0, None);
        found.torn = 0;
        assert_eq!(found, all, "seed {seed}");
        let on_record = old_places.iter().any(|place| place.0 == whole.len() as u64);
        if on_record || bytes.len() == whole.len() {
            assert_eq!(read(&bytes, places[0].0, None).torn, 0, "a record of old is not torn");
        }
        // A record's room is as it was.
        let lost = rng.usize(..places.len());
        let (from, to) = places[lost];
        let range = from as usize..to as usize;
        bytes[range.clone()].copy_from_slice(&stale[range]);
        let end = Some(whole.len() as u64);
        let found = read(&bytes, places[0].0, end);
        assert_eq!(found, expected(&places, end, |place| place.0 != from), "seed {seed}");
    }
}

#[test]
fn any_bytes_come_to_an_end() {
    for seed in 0..500 {
        let mut rng = Rng::with_seed(seed);
        let mut bytes = Vec::new();
        while bytes.len() < 3000 {
            match rng.u64(..4) {
                0 => bytes.extend(&MARKER[..rng.usize(1..=3)]),
                1 => bytes.extend((0..rng.u64(..60)).map(|_| rng.u8(..))),
                2 => bytes.extend(vec![0; rng.usize(..600)]),
                _ => {
                    let (some, places) = segment(SEGMENT, &bodies(&mut rng, 2, 700));
                    let cut = rng.u64(places[0].0..=some.len() as u64);
                    bytes.extend(&some[places[0].0 as usize..cut as usize]);
                }
            }
        }
        let (start, end) = (rng.u64(..50), rng.u64(..4000));
        read(&bytes, start, None);
        // An end that is behind the file's is as good as any.
        read(&bytes, start, Some(end));
    }
}

/// Each byte of a file, head and all, changed before a start: nothing but its own record is lost,
/// and the report has its offset.
#[test]
fn a_start_tells_what_is_damaged() {
    let mut rng = Rng::with_seed(5);
    let mut texts: Vec<_> = bodies(&mut rng, 5, 300);
    texts.iter_mut().for_each(|text| text.retain(u8::is_ascii_alphanumeric));
    let (whole, places) = segment(SEGMENT, &texts);
    let name = file_name(SEGMENT);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        let disk = SimDisk::new(1);
        let file = disk.create(&name, Room::Grow).unwrap();
        file.write_at(&mut [IoSlice::new(&bytes)], 0).unwrap();
        let mut ids = Vec::new();
        let bots = ["bot".to_owned()];
        let remember = |_, id: UpdateId| {
            ids.push(id.get());
            true
        };
        let found = recover(&disk, &bots, remember, |_| {}).unwrap();
        let hit = places.iter().position(|(from, to)| (*from..*to).contains(&(at as u64)));
        let expected: Vec<_> = (0..5).filter(|id| hit != Some(*id as usize)).collect();
        assert_eq!(ids, expected, "byte {at}");
        let damages: Vec<_> = found.damages.iter().map(|it| (it.offset, it.bytes)).collect();
        match hit {
            // A head has nothing that is needed; where it was is damage before the first record.
            None => assert_eq!(damages, [(0, places[0].0)], "byte {at}"),
            Some(4) => assert_eq!(damages, [], "the last one may never have been finished"),
            Some(hit) => {
                let (from, to) = places[hit];
                assert_eq!(damages, [(from, to - from)], "byte {at}");
            }
        }
        assert!(found.damages.iter().all(|damage| damage.file == name));
        assert!(!disk.files().contains_key(&damaged_name(SEGMENT)), "it is needed still");
    }
}
