//! `ringhook journal ls`: which segments there are and what waits in them.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{Found, Named, Out, Part, Place, rfc3339};
use ringhook::{
    Error,
    internals::journal::{
        inspect::{Inspection, Item, Records},
        now_us,
    },
};

/// List the segments: what is in them, and how much of it waits to be settled (lag).
///
/// A sealed segment gets no more records, and goes when all in it are settled; the active one is
/// the last, which a server writes or has left. `damaged` says how many bytes are no records any
/// more, `unfinished` that a record was begun and not acknowledged.
#[derive(Args, Debug)]
pub(super) struct LsArgs {
    #[command(flatten)]
    pub(super) place: Place,
    /// Print one object of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Listing {
    dir: String,
    segments: Vec<Row>,
    total: Lag,
    /// Files of ids: what is known of the updates of segments that are sealed or gone.
    ids: Vec<Named>,
    /// Files that segments to come will be in.
    spare: Vec<Named>,
    /// Files of damaged segments in which nothing waits.
    kept: Vec<Named>,
}

#[derive(Debug, Serialize)]
struct Row {
    segment: u32,
    file: String,
    created: Option<String>,
    state: &'static str,
    file_bytes: u64,
    #[serde(flatten)]
    lag: Lag,
    damages: Vec<Part>,
    unfinished: Option<u64>,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Lag {
    /// Bytes of head and records.
    bytes: u64,
    records: u64,
    settled: u64,
    unsettled: u64,
    unsettled_bytes: u64,
    #[serde(rename = "oldest_unsettled_seconds", serialize_with = "seconds")]
    oldest_us: Option<i64>,
}

/// How long ago that was.
fn age(us: i64) -> Duration {
    // A clock that was set back since gives no negative age.
    Duration::from_micros(u64::try_from(now_us().saturating_sub(us)).unwrap_or(0))
}

fn seconds<S: serde::Serializer>(us: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    us.map(|us| age(us).as_secs_f64()).serialize(serializer)
}

impl Lag {
    fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.records += other.records;
        self.settled += other.settled;
        self.unsettled += other.unsettled;
        self.unsettled_bytes += other.unsettled_bytes;
        self.wait_since(other.oldest_us);
    }

    fn wait_since(&mut self, us: Option<i64>) {
        self.oldest_us = self.oldest_us.into_iter().chain(us).min();
    }

    fn columns(&self) -> [String; 6] {
        let oldest = self.oldest_us.map_or_else(
            || "-".to_owned(),
            |us| {
                let seconds = Duration::from_secs(age(us).as_secs());
                humantime::format_duration(seconds).to_string()
            },
        );
        [
            self.bytes.to_string(),
            self.records.to_string(),
            self.settled.to_string(),
            self.unsettled.to_string(),
            self.unsettled_bytes.to_string(),
            oldest,
        ]
    }
}

pub(super) fn run(args: &LsArgs, found: &Found) -> Result<(), Error> {
    let directory = found.look_into()?;
    let journal = found.inspect(&directory)?;
    let listing = list(found, &journal)?;
    let mut out = Out::new()?;
    match args.json {
        true => out.json(&listing)?,
        false => print(&listing, &mut out)?,
    }
    out.flush()
}

fn list(found: &Found, journal: &Inspection<'_>) -> Result<Listing, Error> {
    let mut segments = Vec::new();
    let mut total = Lag::default();
    for number in journal.numbers() {
        if let Some(records) = found.records(journal, number)? {
            let row = row(found, records)?;
            total.add(&row.lag);
            segments.push(row);
        }
    }
    // Of several segments without a known end only the last one may get more.
    let active = segments.iter_mut().rev().filter(|row| row.state == "active");
    for row in active.skip(1) {
        row.state = "sealed";
    }
    Ok(Listing {
        dir: found.dir.display().to_string(),
        segments,
        total,
        ids: Named::list(journal.ids_files()),
        spare: Named::list(journal.spares()),
        kept: Named::list(journal.kept()),
    })
}

fn row(found: &Found, mut records: Records<'_>) -> Result<Row, Error> {
    let file = records.file_name();
    let (mut damages, mut unfinished) = (Vec::new(), None);
    let mut lag = Lag { bytes: records.position(), ..Lag::default() };
    loop {
        let item = records.next_item().map_err(|error| found.unreadable(file.clone(), error))?;
        match item {
            Some(Item::Record { header, id, is_settled, .. }) => {
                lag.records += 1;
                lag.bytes = u64::from(id.offset) + header.record_len();
                if is_settled {
                    lag.settled += 1;
                } else {
                    lag.unsettled += 1;
                    lag.unsettled_bytes += header.record_len();
                    lag.wait_since(Some(header.received_us));
                }
            }
            Some(Item::Damage { offset, len }) => {
                damages.push(Part { offset, bytes: len });
                lag.bytes = offset + len;
            }
            Some(Item::Unfinished { offset }) => unfinished = Some(offset),
            None => break,
        }
    }
    let is_unused =
        records.created_us.is_none() && (lag.records, damages.len(), unfinished) == (0, 0, None);
    Ok(Row {
        segment: records.number,
        file,
        created: records.created_us.map(rfc3339),
        state: match records.is_sealed {
            true => "sealed",
            false if is_unused => "unused",
            false => "active",
        },
        file_bytes: records.file_len(),
        lag,
        damages,
        unfinished,
    })
}

fn print(listing: &Listing, out: &mut Out) -> Result<(), Error> {
    let names = [
        "segment",
        "created",
        "bytes",
        "records",
        "settled",
        "lag",
        "lag bytes",
        "oldest",
        "state",
    ];
    let mut table = vec![names.map(str::to_owned).to_vec()];
    for row in &listing.segments {
        let created = row.created.as_deref().map_or("-".to_owned(), |created| {
            created.split_once('.').map_or(created.to_owned(), |(seconds, _)| format!("{seconds}Z"))
        });
        let mut state = row.state.to_owned();
        if !row.damages.is_empty() {
            let bytes: u64 = row.damages.iter().map(|part| part.bytes).sum();
            state += &format!(", damaged ({bytes} bytes)");
        }
        if row.unfinished.is_some() {
            state += ", unfinished";
        }
        let mut cells = vec![row.file.clone(), created];
        cells.extend(row.lag.columns());
        cells.push(state);
        table.push(cells);
    }
    let segments = listing.segments.len();
    let mut cells = vec!["total".to_owned(), format!("{segments} segment(s)")];
    cells.extend(listing.total.columns());
    table.push(cells);
    for line in aligned(&table) {
        out.line(&line)?;
    }
    let sum = |files: &[Named]| files.iter().map(|file| file.bytes).sum::<u64>();
    let (count, bytes) = (listing.ids.len(), sum(&listing.ids));
    out.line(&format!("ids: {count} file(s), {bytes} bytes"))?;
    if !listing.spare.is_empty() {
        out.line(&format!("spare: {} bytes for the next segment", sum(&listing.spare)))?;
    }
    for Named { file, bytes } in &listing.kept {
        let advice = "a damaged segment in which nothing waits, remove it when you have seen it";
        out.line(&format!("kept: {file}, {bytes} bytes: {advice}"))?;
    }
    Ok(())
}

/// Lines of a table: texts in the first two columns and the last one, numbers between them.
fn aligned(table: &[Vec<String>]) -> impl Iterator<Item = String> {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = table.iter().filter_map(move |row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    table.iter().map(move |row| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            match (2..columns - 1).contains(&column) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    })
}
