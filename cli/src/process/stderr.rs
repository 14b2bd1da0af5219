//! Everything for people goes to stderr through this file. Where a server runs, a thread of its own
//! writes it, so that no other thread waits for a pipe that is not read or a terminal that is
//! stopped (Ctrl-S): what finds no room in the queue is dropped and counted.
//!
//! Our own, and not tracing-appender's `NonBlocking`: that prints to stdout, which belongs to the
//! updates, when its writer is blocked at the end; its queue has no bound in bytes; and it counts
//! what it drops but does not tell.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    cell::RefCell,
    fmt,
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd as _,
    panic::{self, PanicHookInfo},
    sync::{
        OnceLock,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rustix::event::{PollFd, PollFlags, poll};

use ringhook::internals::{duration::nanos, redact::hide_tokens};

/// The most texts that wait, such as lines of the log or tables.
const TEXTS_MAX: usize = 1024;
/// The most bytes that wait, unless it is a single text.
const BYTES_MAX: usize = 1024 * 1024;
/// How long the end of the process waits for stderr, in all.
const END_MAX: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<Queue> = OnceLock::new();
/// How long the end of the process has waited so far, in nanoseconds.
static WAITED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// What the writer's own thread logs: it must not wait for room in the queue that it empties.
    static OWN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Has a thread write from now on all messages, log lines and panics. Without this they are
/// written at once, and the caller waits.
pub(crate) fn queue() -> io::Result<()> {
    if QUEUE.get().is_some() {
        return Ok(());
    }
    // A copy of the descriptor: std's has a lock, which a blocked write would hold.
    let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let (queue, texts) = Queue::new();
    let run = move || Writer { queue: QUEUE.wait(), file }.run(&texts);
    // First the thread: what is in a queue without one is never written.
    thread::Builder::new().name("ringhook-log".into()).spawn(run)?;
    if QUEUE.set(queue).is_ok() {
        panic::set_hook(Box::new(tell_panic));
    }
    Ok(())
}

/// A text for people, which ends its line. A closed stderr (`2>&1 | head`) is no reason to stop
/// serving: `eprintln!` would panic.
pub(crate) fn log(text: impl fmt::Display) {
    let text = format!("{text}\n");
    match QUEUE.get() {
        Some(queue) => queue.push(text.into_bytes()),
        None => {
            let _ = io::stderr().write_all(hide_tokens(&text).as_bytes());
        }
    }
}

/// Waits until stderr has taken all that was logged, but not for longer than [`END_MAX`] in all
/// calls together: the process is about to end.
pub(crate) fn flush() {
    if let Some(queue) = QUEUE.get() {
        let begun = Instant::now();
        let left = END_MAX.saturating_sub(Duration::from_nanos(WAITED.load(SeqCst)));
        queue.flush(begun + left);
        WAITED.fetch_add(nanos(begun.elapsed()), SeqCst);
    }
}

/// Lines that were dropped since the start.
pub(crate) fn dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped.load(Relaxed))
}

/// As the standard library tells of a panic, but through the queue: a worker whose handler panics
/// must not wait for stderr either.
fn tell_panic(info: &PanicHookInfo<'_>) {
    let current = thread::current();
    let name = current.name().unwrap_or("<unnamed>");
    let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
    let payload = info.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let message = payload.downcast_ref::<&str>().copied().or(text).unwrap_or("Box<dyn Any>");
    let trace = Backtrace::capture();
    let more = match trace.status() {
        BacktraceStatus::Captured => format!("\nstack backtrace:\n{trace}"),
        _ => String::new(),
    };
    log(format_args!("thread '{name}' panicked{place}:\n{message}{more}"));
}

/// What a subscriber writes its lines to.
pub(crate) struct LogWriter;

/// Each call is a line: `tracing_subscriber` puts one together before it writes it.
impl Write for LogWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let is_own = OWN.try_with(|own| {
            own.borrow_mut().as_mut().map(|own| own.extend_from_slice(text)).is_some()
        });
        match QUEUE.get() {
            // Err: the thread ends.
            _ if is_own == Ok(true) => {}
            Some(queue) => queue.push(text.to_owned()),
            None => io::stderr().write_all(text)?,
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What waits to be written.
struct Queue {
    texts: Sender<Waiting>,
    /// Bytes that wait, with those that are being written.
    bytes: AtomicUsize,
    /// Lines that were dropped, in all.
    dropped: AtomicU64,
    /// Those of them of which nothing has been said.
    untold: AtomicU64,
}

enum Waiting {
    /// Tell when all before it is written.
    Mark(Sender<()>),
    /// A text, and how many lines were dropped before it.
    Text(Vec<u8>, u64),
}

impl Queue {
    fn new() -> (Self, Receiver<Waiting>) {
        let (texts, waiting) = bounded(TEXTS_MAX);
        let bytes = AtomicUsize::new(0);
        (Self { texts, bytes, dropped: AtomicU64::new(0), untold: AtomicU64::new(0) }, waiting)
    }

    /// Takes `text`, or drops it where there is no room.
    fn push(&self, text: Vec<u8>) {
        let length = text.len();
        let waiting = self.bytes.fetch_add(length, SeqCst);
        if waiting > 0 && waiting + length > BYTES_MAX {
            self.bytes.fetch_sub(length, SeqCst);
            return self.lose(&text);
        }
        let before = self.untold.swap(0, SeqCst);
        let refused = match self.texts.try_send(Waiting::Text(text, before)) {
            Ok(()) => return,
            Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) => refused,
        };
        self.bytes.fetch_sub(length, SeqCst);
        self.untold.fetch_add(before, SeqCst);
        if let Waiting::Text(text, _) = refused {
            self.lose(&text);
        }
    }

    fn lose(&self, text: &[u8]) {
        let lines = memchr::memchr_iter(b'\n', text).count() as u64;
        self.dropped.fetch_add(lines, SeqCst);
        self.untold.fetch_add(lines, SeqCst);
    }

    fn flush(&self, until: Instant) {
        let (mark, reached) = bounded(1);
        if self.texts.send_deadline(Waiting::Mark(mark), until).is_ok() {
            let _ = reached.recv_deadline(until);
        }
    }
}

/// The thread that waits for stderr, so that no other one has to.
struct Writer<'q> {
    queue: &'q Queue,
    file: File,
}

impl Writer<'_> {
    fn run(&mut self, texts: &Receiver<Waiting>) {
        for waiting in texts {
            match waiting {
                Waiting::Mark(mark) => {
                    self.tell_dropped(self.queue.untold.swap(0, SeqCst));
                    let _ = mark.try_send(());
                }
                Waiting::Text(text, dropped) => {
                    self.tell_dropped(dropped);
                    if self.write(&text).is_err() {
                        self.queue.lose(&text);
                    }
                    self.queue.bytes.fetch_sub(text.len(), SeqCst);
                    if texts.is_empty() {
                        self.tell_dropped(self.queue.untold.swap(0, SeqCst));
                    }
                }
            }
        }
    }

    /// Says that `lines` were dropped. Where that cannot be written either, it is said later.
    fn tell_dropped(&mut self, lines: u64) {
        if lines == 0 {
            return;
        }
        OWN.set(Some(Vec::new()));
        tracing::warn!("{lines} lines dropped: stderr did not take them in time");
        let line = OWN.take().unwrap_or_default();
        if self.write(&line).is_err() {
            self.queue.untold.fetch_add(lines, SeqCst);
        }
    }

    /// Writes all of `text`, however long that takes.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        // Here and not in the caller, which may be a thread that must not wait.
        let shown = std::str::from_utf8(text).map(hide_tokens);
        let mut rest = shown.as_ref().map_or(text, |shown| shown.as_bytes());
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                // Another program that has the same pipe or terminal has made it so.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut wait = [PollFd::new(&self.file, PollFlags::OUT)];
                    match poll(&mut wait, None) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used)]

    use std::{
        env,
        io::{PipeReader, Read as _, pipe},
        panic::catch_unwind,
        process::{self, Command, Stdio},
    };

    use super::*;

    const TOKEN: &str = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_";
    /// Longer than any pipe here.
    const FILLING: usize = 1 << 18;

    /// A queue whose writer stands before a full pipe.
    fn blocked() -> (&'static Queue, PipeReader) {
        let (reader, writer) = pipe().unwrap();
        let (queue, texts) = Queue::new();
        let queue: &Queue = Box::leak(Box::new(queue));
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        thread::spawn(move || Writer { queue, file }.run(&texts));
        queue.push([b"#".repeat(FILLING), b"\n".to_vec()].concat());
        (queue, reader)
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted_and_the_rest_comes_in_order() {
        let (queue, mut reader) = blocked();
        // Neither of them waits, though nothing is read.
        (0..3 * TEXTS_MAX).for_each(|n| queue.push(format!("line {n} {TOKEN}\n").into_bytes()));
        let dropped = queue.dropped.load(SeqCst);
        assert!(dropped > TEXTS_MAX as u64, "{dropped}");
        let start = Instant::now();
        queue.flush(start + Duration::from_millis(50));
        assert!(start.elapsed() >= Duration::from_millis(50), "it had nothing to wait for");

        let gathered = thread::spawn(move || {
            let mut text = Vec::new();
            let mut chunk = [0; 4096];
            while !text.ends_with(b"the end\n") {
                let n = reader.read(&mut chunk).unwrap();
                text.extend(chunk.iter().take(n));
            }
            String::from_utf8(text).unwrap()
        });
        while queue.untold.load(SeqCst) > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        queue.push(b"the end\n".to_vec());
        let text = gathered.join().unwrap();
        let lines = text.lines().filter_map(|line| {
            let number = line.strip_prefix("line ")?.strip_suffix(" (hidden)")?;
            number.parse::<u64>().ok()
        });
        let lines: Vec<_> = lines.collect();
        assert!(lines.is_sorted() && lines.first() == Some(&0));
        assert_eq!(lines.len() as u64 + dropped, 3 * TEXTS_MAX as u64);
        queue.flush(Instant::now() + Duration::from_secs(30));
        assert_eq!(queue.bytes.load(SeqCst), 0);
    }

    #[test]
    fn bytes_have_a_bound_as_well() {
        let (queue, reader) = blocked();
        let table = [b"x".repeat(BYTES_MAX / 4 - 1), b"\n".to_vec()].concat();
        (0..TEXTS_MAX).for_each(|_| queue.push(table.clone()));
        assert!(queue.bytes.load(SeqCst) <= 2 * BYTES_MAX);
        assert!(queue.dropped.load(SeqCst) >= TEXTS_MAX as u64 - 8);
        drop(reader);
    }

    /// Runs only as the process of the test below.
    #[test]
    fn child() {
        if env::var_os("RINGHOOK_TEST_PANICS").is_none() {
            return;
        }
        queue().unwrap();
        // More than a pipe holds.
        (0..64).for_each(|_| log("#".repeat(8 * 1024)));
        let run = || catch_unwind(|| panic!("on purpose"));
        let thread = thread::Builder::new().name("worker".to_owned()).spawn(run).unwrap();
        assert!(thread.join().unwrap().is_err());
        flush();
        process::exit(7);
    }

    #[test]
    fn a_panic_and_the_end_do_not_wait_for_a_pipe_that_is_not_read() {
        for is_read in [false, true] {
            let (mut reader, writer) = pipe().unwrap();
            let mut command = Command::new(env::current_exe().unwrap());
            let (_, module) = module_path!().split_once("::").unwrap();
            command.args(["--exact", &format!("{module}::child"), "--nocapture"]);
            command.env("RINGHOOK_TEST_PANICS", "1").env("RUST_BACKTRACE", "0");
            let mut child = command.stdout(Stdio::null()).stderr(writer).spawn().unwrap();
            drop(command);
            let mut text = String::new();
            if is_read {
                reader.read_to_string(&mut text).unwrap();
            }
            let start = Instant::now();
            let status = loop {
                match child.try_wait().unwrap() {
                    Some(status) => break status,
                    None if start.elapsed() > Duration::from_secs(30) => {
                        child.kill().unwrap();
                        panic!("it waits for stderr");
                    }
                    None => thread::sleep(Duration::from_millis(5)),
                }
            };
            assert_eq!(status.code(), Some(7), "{text}");
            let said = concat!("thread 'worker' panicked at ", file!(), ":");
            assert_eq!(text.contains(said) && text.contains(":\non purpose\n"), is_read, "{text}");
        }
    }
}
