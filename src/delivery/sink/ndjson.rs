//! Newline-delimited JSON: one update a line, equal in value to what came in.

use std::{
    fmt,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime},
};

use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap as _},
};

use super::{
    BotNames, Refused, Sink, SinkWriter,
    lines::{Lines, Rotation},
};
use crate::{
    bots::BotId,
    control::panics,
    error::Error,
    proto::update::{Update, Value},
};

/// Writes lines to a file or a pipe.
///
/// Lines are whole: a batch that was written in part goes on where it stopped before anything else
/// is written. No line is lost where the file is renamed or removed: that is noticed before a batch
/// counts as written, and the batch is written again to the file that is opened then.
#[derive(Clone, Debug)]
pub struct NdjsonSink {
    fields: Option<Mapping>,
    form: Form,
    lines: Arc<Lines>,
}

/// What gives lines further fields: it passes each to its second argument.
#[derive(Clone)]
struct Mapping(Arc<Map>);

type Map = dyn Fn(&Update, &mut dyn FnMut(&str, Value<'_>)) + Send + Sync;

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mapping")
    }
}

/// What a line contains.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// The update alone.
    Update,
    WithMeta,
    /// The update alone while its bot is the only one that is configured, by each reload anew.
    ByBots,
}

impl Form {
    fn has_meta(self, bots: &BotNames, bot: BotId) -> bool {
        match self {
            Self::Update => false,
            Self::WithMeta => true,
            Self::ByBots => !bots.is_alone(bot),
        }
    }
}

/// What a line has beside the update, which follows as its last member.
#[derive(Serialize)]
struct BesideUpdate<'a> {
    bot: &'a str,
    update_id: i64,
    kind: &'a str,
    received: Moment,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<FieldsOf<'a>>,
}

/// What a mapping gives for an update, as an object.
struct FieldsOf<'a> {
    mapping: &'a Mapping,
    update: &'a Update,
}

impl Serialize for FieldsOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        let mut outcome = Ok(());
        let mut add = |name: &str, value: Value<'_>| {
            if outcome.is_ok() {
                outcome = object.serialize_entry(name, &value);
            }
        };
        // It is the program's.
        panics::caught(|| (self.mapping.0)(self.update, &mut add))
            .map_err(|_| S::Error::custom("the mapping has panicked"))?;
        outcome?;
        object.end()
    }
}

struct Moment(SystemTime);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(self.0))
    }
}

impl NdjsonSink {
    /// Lines to standard output.
    ///
    /// # Errors
    /// Where the process has no standard output.
    pub fn stdout() -> Result<Self, Error> {
        Lines::stdout().map(Self::from)
    }

    /// Lines appended to the file at `path`, which is made with mode 0600 where there is none:
    /// updates are private messages.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn file(path: &Path) -> Result<Self, Error> {
        Lines::file(path, "sink ndjson:").map(Self::from)
    }

    /// Lines appended to the file at `path`, as by [`file`](Self::file); each batch is synced to
    /// the disk before its updates count as handled, so that a power cut cannot take them.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn synced_file(path: &Path) -> Result<Self, Error> {
        Lines::synced_file(path, "sink ndjson:").map(Self::from)
    }

    /// With `has_meta`, a line is not the update alone but
    /// `{"bot":"shop","update_id":7,"kind":"message","received":"...","update":{...}}`:
    /// the bot's name, the update's id and kind, and when it came in. Without, two bots' updates
    /// look alike.
    #[must_use]
    pub fn with_meta(self, has_meta: bool) -> Self {
        let form = if has_meta { Form::WithMeta } else { Form::Update };
        Self { fields: None, form, ..self }
    }

    /// Lines [with meta](Self::with_meta) which have further fields of each update in an object
    /// `fields`, before `update`: those that `map` passes to its second argument. A panic of it is
    /// caught, and leaves the line without them.
    #[must_use]
    pub fn with_fields(
        self,
        map: impl Fn(&Update, &mut dyn FnMut(&str, Value<'_>)) + Send + Sync + 'static,
    ) -> Self {
        Self { fields: Some(Mapping(Arc::new(map))), form: Form::WithMeta, ..self }
    }

    /// As [with meta](Self::with_meta) while the server has more than one bot, and for updates of a
    /// bot that a reload has removed; without for those of the only one. A reload needs no other
    /// sink.
    #[must_use]
    #[doc(hidden)]
    pub fn with_meta_by_bots(self) -> Self {
        Self { fields: None, form: Form::ByBots, ..self }
    }

    /// Renames the file to `NAME.1` when a batch has made it `size` bytes long or longer, the one
    /// of that name to `NAME.2` and so on. Of the renamed ones `keep` are kept, at least one.
    #[must_use]
    pub fn rotating(self, size: u64, keep: u32) -> Self {
        self.lines.set_rotation(Some(Rotation { size, keep }));
        self
    }

    /// Lets the file grow, as by default. This and [`rotating`](Self::rotating) hold for all copies
    /// of the sink, those that are written to as well.
    #[must_use]
    pub fn without_rotation(self) -> Self {
        self.lines.set_rotation(None);
        self
    }

    /// Lines to any writer. Its errors make a batch wait, not fail.
    #[must_use]
    pub fn to(writer: impl Write + Send + 'static) -> Self {
        Lines::to(writer).into()
    }
}

impl From<Lines> for NdjsonSink {
    fn from(lines: Lines) -> Self {
        Self { fields: None, form: Form::Update, lines: Arc::new(lines) }
    }
}

impl Sink for NdjsonSink {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        self.writer_for(&BotNames::default())
    }

    fn writer_for(&self, bots: &BotNames) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(NdjsonWriter {
            batch: Vec::new(),
            fields: self.fields.clone(),
            form: self.form,
            lines: Arc::clone(&self.lines),
            meta: Meta { bots: bots.clone(), clock: None },
        }))
    }

    fn reopen(&self) -> io::Result<()> {
        self.lines.reopen()
    }
}

struct NdjsonWriter {
    batch: Vec<u8>,
    fields: Option<Mapping>,
    form: Form,
    lines: Arc<Lines>,
    meta: Meta,
}

/// What lines have beside the update, where they have it.
struct Meta {
    bots: BotNames,
    /// Read once for a batch: the clock may have been set since. `None` until a line needs it.
    clock: Option<Clock>,
}

/// Both clocks at one moment, by which one's time is converted to the other's.
struct Clock {
    instant: Instant,
    time: SystemTime,
}

impl Clock {
    fn read() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }

    fn time_of(&self, instant: Instant) -> SystemTime {
        let time = match self.instant.checked_duration_since(instant) {
            Some(ago) => self.time.checked_sub(ago),
            None => self.time.checked_add(instant.saturating_duration_since(self.instant)),
        };
        // A clock that stands before 1970 has no such form.
        time.unwrap_or(self.time).max(SystemTime::UNIX_EPOCH)
    }
}

impl Meta {
    fn of<'a>(&'a mut self, update: &'a Update, fields: Option<&'a Mapping>) -> BesideUpdate<'a> {
        let clock = self.clock.get_or_insert_with(Clock::read);
        BesideUpdate {
            fields: fields.map(|mapping| FieldsOf { mapping, update }),
            bot: self.bots.get(update.bot()).unwrap_or_default(),
            update_id: update.id().get(),
            kind: update.kind().as_str(),
            received: Moment(clock.time_of(update.received_at())),
        }
    }
}

impl SinkWriter for NdjsonWriter {
    fn write(&mut self, update: &Update) {
        let batch = &mut self.batch;
        if !self.form.has_meta(&self.meta.bots, update.bot()) {
            update.write_line(batch);
            batch.push(b'\n');
            return;
        }
        let start = batch.len();
        let fields = self.fields.as_ref();
        let mut written = serde_json::to_writer(&mut *batch, &self.meta.of(update, fields));
        if written.is_err() && fields.is_some() {
            tracing::error!("the program's mapping of fields has panicked");
            batch.truncate(start);
            written = serde_json::to_writer(&mut *batch, &self.meta.of(update, None));
        }
        // Writing to memory cannot fail; should a change bring an error, half a line must not stay.
        if written.is_err() {
            batch.truncate(start);
            return;
        }
        // In the place of the brace that ends the object.
        batch.pop();
        batch.extend_from_slice(b",\"update\":");
        update.write_line(batch);
        batch.extend_from_slice(b"}\n");
    }

    fn pending_bytes(&self) -> usize {
        self.batch.len()
    }

    fn commit(&mut self, _: &mut Refused) -> io::Result<()> {
        self.meta.clock = None;
        self.lines.commit(&mut self.batch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use std::{
        os::unix::fs::PermissionsExt as _,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
        time::Instant,
    };

    use super::*;
    use crate::{
        bots::{BotId, BotRegistry},
        error::ErrorKind,
        proto::update::{UpdateBody, UpdateParser},
    };

    fn update(json: &str) -> Update {
        UpdateParser::default()
            .parse(UpdateBody::from(json.as_bytes().to_vec()), BotId::new(0), Instant::now())
            .unwrap()
    }

    /// Takes `room` bytes, then has no space until more room is given.
    #[derive(Clone, Default)]
    struct Disk {
        room: Arc<AtomicUsize>,
        bytes: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = self.room.load(Ordering::Relaxed).min(bytes.len()).min(7);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room.fetch_sub(n, Ordering::Relaxed);
            self.bytes.lock().unwrap().extend_from_slice(bytes.get(..n).unwrap());
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_delays_lines_and_neither_loses_nor_mixes_them() {
        let disk = Disk::default();
        let sink = NdjsonSink::to(disk.clone());
        let (mut one, mut two) = (sink.writer().unwrap(), sink.writer().unwrap());
        one.write(&update("{\"update_id\":1,\n\"text\":\"a\\nb\"}"));
        two.write(&update("{\"update_id\":2}"));
        disk.room.store(10, Ordering::Relaxed);
        assert_eq!(
            one.commit(&mut Refused::default()).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        assert_eq!(
            two.commit(&mut Refused::default()).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        disk.room.store(1000, Ordering::Relaxed);
        two.commit(&mut Refused::default()).unwrap();
        one.commit(&mut Refused::default()).unwrap();
        let text = String::from_utf8(disk.bytes.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "{\"update_id\":1,\"text\":\"a\\nb\"}\n{\"update_id\":2}\n");
    }

    #[test]
    fn a_file_is_private_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("updates.ndjson");
        for (id, open) in [(1, NdjsonSink::file as fn(&Path) -> _), (2, NdjsonSink::synced_file)] {
            let mut writer = open(&path).unwrap().writer().unwrap();
            writer.write(&update(&format!("{{\"update_id\":{id}}}")));
            writer.commit(&mut Refused::default()).unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"update_id\":1}\n{\"update_id\":2}\n");
        let error = NdjsonSink::file(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Sink);
    }

    /// By default, so that two bots' updates never look alike.
    #[test]
    fn lines_follow_the_bots_and_name_those_that_were_removed() {
        let disk = Disk::default();
        disk.room.store(usize::MAX / 2, Ordering::Relaxed);
        let registry = Arc::new(BotRegistry::default());
        let ids = registry.register(["a", "b"].into_iter()).unwrap();
        let (one, other) = (ids[0], ids[1]);
        let sink = NdjsonSink::to(disk.clone()).with_meta_by_bots();
        let mut writer = sink.writer_for(&BotNames::new(&registry)).unwrap();
        for (configured, bot) in [
            (vec![one], one),
            (vec![one, other], one),
            (vec![one, other], other),
            (vec![other], one),
            (vec![other], other),
            (vec![], other),
        ] {
            registry.configure(&configured);
            let body = UpdateBody::from(b"{\"update_id\":1}".to_vec());
            writer.write(&UpdateParser::default().parse(body, bot, Instant::now()).unwrap());
        }
        writer.commit(&mut Refused::default()).unwrap();
        let text = String::from_utf8(disk.bytes.lock().unwrap().clone()).unwrap();
        let bots = text.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["bot"].as_str().unwrap_or("-").to_owned()
        });
        assert_eq!(bots.collect::<Vec<_>>(), ["-", "a", "b", "a", "-", "b"]);
    }

    /// As a writer leaves it that was killed.
    #[test]
    fn a_mapping_gives_a_line_fields_and_one_that_panics_gives_none() {
        let disk = Disk::default();
        disk.room.store(10_000, Ordering::Relaxed);
        let sink = NdjsonSink::to(disk.clone()).with_fields(|update, add| {
            if let Some(text) = update.root().get("text") {
                add("text", text);
                add("again", text);
            }
            assert!(update.id().get() != 2);
        });
        let mut writer = sink.writer().unwrap();
        for json in [
            "{\"update_id\":1,\"text\":\"a\\nb\"}",
            "{\"update_id\":2,\"text\":1}",
            "{\"update_id\":3}",
        ] {
            writer.write(&update(json));
        }
        writer.commit(&mut Refused::default()).unwrap();
        let text = String::from_utf8(disk.bytes.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let fields: Vec<_> = lines.iter().map(|line| line.get("fields").cloned()).collect();
        let whole = serde_json::json!({"text": "a\nb", "again": "a\nb"});
        assert_eq!(fields, [Some(whole), None, Some(serde_json::json!({}))]);
        assert_eq!(lines[1]["update"]["text"], 1);
    }

    #[test]
    fn half_a_line_is_ended_before_the_next_and_a_whole_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("updates.ndjson");
        let one = "{\"update_id\":1}\n";
        for (before, after) in [
            ("", one.to_owned()),
            ("{}\n", format!("{{}}\n{one}")),
            ("{}\n{\"upd", format!("{{}}\n{{\"upd\n{one}")),
        ] {
            std::fs::write(&path, before).unwrap();
            let mut writer = NdjsonSink::file(&path).unwrap().writer().unwrap();
            writer.write(&update(one));
            writer.commit(&mut Refused::default()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }
}
