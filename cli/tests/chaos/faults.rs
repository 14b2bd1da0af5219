//! How each fault is brought about, and undone.

use std::{
    fs, io,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    place::Named,
    plan::{Event, Fault, Net},
    run::Run,
    sender::TIMER,
    unauthorized,
};

use crate::support::disk::Ballast;

/// What the clock is set to, by the form.
const CLOCKS: [&str; 6] = ["+3600", "-3600", "+3d", "-400d", "+400d", "-55y"];

/// A disk that hangs for so long is told of.
const SEEN: Duration = Duration::from_secs(8);

/// What has to be done to end a fault.
enum Undo {
    Nothing,
    Ballast(Ballast),
    Bots,
    Certs,
    Clock,
    Config,
    Journal,
    Stderr,
    Thaw,
}

impl Run {
    #[track_caller]
    pub(crate) fn perform(&mut self, event: &Event) {
        match event.fault {
            Fault::Calm => self.calm(),
            Fault::Kill => {
                let from = self.in_hand();
                self.kill(from);
                thread::sleep(event.lasts / 4);
                self.start();
                // Again on its first steps, where it reads what the one before has left.
                for _ in 0..event.form / 4 {
                    thread::sleep(event.lasts / 16);
                    self.kill(from);
                    self.start();
                }
            }
            Fault::Term => {
                let from = self.in_hand();
                if event.form.is_multiple_of(4) {
                    self.force(from);
                } else {
                    self.terminate(None);
                }
                thread::sleep(event.lasts / 4);
                self.start();
            }
            Fault::Pause => {
                self.server.signal(Signal::STOP);
                thread::sleep(event.lasts);
                self.server.signal(Signal::CONT);
            }
            Fault::TakeOver => self.take_over(event),
            Fault::Usurp => self.usurp(event),
            _ => self.disturb(event),
        }
    }

    /// A fault that lasts, with what happens to the process in the middle of it.
    #[track_caller]
    fn disturb(&mut self, event: &Event) {
        let from = self.in_hand();
        let has_disk = matches!(event.fault, Fault::Freeze | Fault::Full | Fault::FullSink);
        let Some(undo) = self.begin_fault(event, from) else { return };
        thread::sleep(event.lasts / 2);
        let is_hung = event.fault == Fault::Freeze;
        let mut is_down = event.strike.is_some_and(|it| self.strike(it, from, is_hung, has_disk));
        thread::sleep(event.lasts / 2);
        let goes_on = matches!(
            event.fault,
            Fault::Certs | Fault::Clock | Fault::Config | Fault::Stderr | Fault::Unauthorized
        );
        if matches!(undo, Undo::Stderr) {
            self.server.shut_stderr(true);
        }
        let is_seen = event.lasts >= SEEN && event.strike.is_none() && event.net.passes();
        if is_hung && is_seen {
            self.until(
                "/readyz says that the disk hangs",
                Duration::from_secs(25),
                |run| match run.server.readyz() {
                    Ok((503, text)) if text.contains("journal") => Ok(()),
                    other => Err(format!("{other:?}")),
                },
            );
        }
        if goes_on && event.net.passes() {
            self.await_progress("meanwhile");
        }
        self.undo(undo, event);
        if is_down {
            let status = self.server.wait(Duration::from_secs(30));
            assert!(status.is_some(), "not ended with the disk back");
            let to = self.output.look();
            self.output.lines.excuse(from, to);
        } else if has_disk && self.server.ended().is_some() {
            // A start may fail where there is no room to start in.
            assert!(event.strike.is_some(), "the server has ended by itself");
            is_down = true;
        }
        if is_down {
            self.start();
        }
    }

    /// `None` where that fault is not to be had here.
    #[track_caller]
    fn begin_fault(&mut self, event: &Event, from: usize) -> Option<Undo> {
        let form = event.form;
        let hangs_up = form.is_multiple_of(2);
        let room = [0, 4096, 100_000][(form % 3) as usize];
        let undo = match event.fault {
            Fault::Full => match &self.place.disk {
                Some(disk) => Undo::Ballast(disk.fs.fill_up_to(room)),
                None => {
                    self.skip(Fault::Full, "the journal has no disk of its own");
                    return None;
                }
            },
            Fault::FullSink => match &self.place.sink {
                Some(disk) => Undo::Ballast(disk.fill_up_to(room)),
                None => {
                    self.skip(Fault::FullSink, "the output has no disk of its own");
                    return None;
                }
            },
            Fault::Freeze => {
                if self.place.disk.is_none() {
                    self.skip(Fault::Freeze, "the journal has no disk of its own");
                    return None;
                }
                self.frozen = true;
                self.fsfreeze("--freeze");
                Undo::Thaw
            }
            Fault::Clock => {
                if !self.place.has_fake_clock() {
                    self.skip(Fault::Clock, "libfaketime is not installed");
                    return None;
                }
                self.place.set_clock(CLOCKS[form as usize % CLOCKS.len()]);
                Undo::Clock
            }
            Fault::Bots => {
                let named = if form.is_multiple_of(3) { Named::More } else { Named::Fewer };
                self.senders.excuse(Some(404));
                self.place.write_config(named);
                Undo::Bots
            }
            Fault::Certs => {
                self.spoil_certificates(form);
                Undo::Certs
            }
            Fault::Config => {
                self.spoil_config(form);
                Undo::Config
            }
            Fault::Journal => {
                self.take_journal_away(form.is_multiple_of(3));
                Undo::Journal
            }
            Fault::Rotate => {
                match form % 3 {
                    0 => self.output.remove(),
                    _ => self.output.rename(),
                }
                // Who notices it after a batch was written writes that one once more.
                let to = self.output.look() + self.in_one_go();
                self.output.lines.excuse(from, to);
                Undo::Nothing
            }
            Fault::DeadLetters => {
                let file = self.place.file("dead.ndjson");
                let _ = match form % 3 {
                    0 => fs::remove_file(file),
                    _ => fs::rename(file, self.place.file("dead.1")),
                };
                Undo::Nothing
            }
            Fault::Stderr => {
                self.server.shut_stderr(true);
                self.server.signal(Signal::USR1);
                self.send_unauthorized(event.lasts / 4);
                Undo::Stderr
            }
            Fault::Unauthorized => {
                self.send_unauthorized(event.lasts);
                Undo::Nothing
            }
            // The network is as the event says already.
            _ => Undo::Nothing,
        };
        let is_for_it = !matches!(event.fault, Fault::Clock | Fault::Net | Fault::Unauthorized);
        if hangs_up && is_for_it && !self.frozen {
            self.server.signal(Signal::HUP);
        }
        Some(undo)
    }

    #[track_caller]
    fn undo(&mut self, undo: Undo, event: &Event) {
        let hangs_up = event.form.is_multiple_of(2);
        match undo {
            Undo::Nothing => return,
            Undo::Ballast(ballast) => return drop(ballast),
            Undo::Thaw => return self.thaw(),
            Undo::Stderr => return self.server.shut_stderr(false),
            Undo::Clock => return self.place.set_clock("+0"),
            Undo::Certs => self.place.write_certificate(),
            Undo::Bots | Undo::Config => self.place.write_config(Named::All),
            Undo::Journal => {
                // What is in no file any more lasts as long as the process.
                self.proxy.set(Net::Clear);
                self.await_settled();
                let _ = fs::remove_dir_all(self.place.file("journal.moved"));
                let _ = fs::remove_dir_all(self.place.data().join("journal.moved"));
                return;
            }
        }
        if hangs_up {
            self.server.signal(Signal::HUP);
        }
    }

    /// Waits until what is acknowledged by now is put out.
    #[track_caller]
    fn await_settled(&mut self) {
        let acknowledged = self.ledger.entries().acknowledged.clone();
        self.until("what was acknowledged is put out", Duration::from_secs(60), |run| {
            run.output.look();
            let lost = run.ledger.lost(&run.output.lines);
            let missing = lost.iter().filter(|id| acknowledged.contains(id)).count();
            if missing == 0 { Ok(()) } else { Err(format!("{missing} are missing")) }
        });
    }

    fn spoil_certificates(&self, form: u64) {
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| self.place.file(name));
        match form % 4 {
            0 => {
                fs::remove_file(cert).unwrap();
                fs::remove_file(key).unwrap();
            }
            1 => fs::write(cert, "no certificate").unwrap(),
            2 => {
                // The key of one and the certificate of another.
                let before = fs::read(&key).unwrap();
                self.place.write_certificate();
                fs::write(key, before).unwrap();
            }
            _ => self.place.write_certificate(),
        }
    }

    fn spoil_config(&self, form: u64) {
        let file = self.place.file("ringhook.toml");
        match form % 4 {
            0 => fs::remove_file(file).unwrap(),
            1 => fs::write(file, "[server\n").unwrap(),
            2 => fs::write(file, "[server]\nlisen = '127.0.0.1:1'\n").unwrap(),
            _ => fs::write(file, "").unwrap(),
        }
    }

    /// Renames the journal's directory, and removes it if `remove`.
    fn take_journal_away(&mut self, remove: bool) {
        self.output.look();
        self.output.lines.forget(&self.ledger);
        let moved = self.place.data().join("journal.moved");
        if fs::rename(self.place.journal(), &moved).is_ok() && remove {
            remove_all(&moved);
        }
    }

    fn send_unauthorized(&self, time: Duration) {
        for taken in unauthorized::send(self.place.addr(), &self.config, time) {
            self.ledger.complain(format!("{taken} was answered with 200"));
        }
    }

    pub(crate) fn thaw(&mut self) {
        self.fsfreeze("--unfreeze");
        self.frozen = false;
    }

    fn fsfreeze(&self, how: &str) {
        let Some(disk) = &self.place.disk else { return };
        let status = Command::new("fsfreeze").arg(how).arg(disk.fs.path()).status();
        assert!(
            status.is_ok_and(|status| status.success()) || thread::panicking(),
            "fsfreeze {how}"
        );
    }

    /// A successor waits for the journal while the server drains, or dies.
    #[track_caller]
    fn take_over(&mut self, event: &Event) {
        let mut successor = self.spawn();
        thread::sleep(event.lasts.min(Duration::from_secs(1)));
        let from = self.in_hand();
        match event.form % 6 {
            0 => self.kill(from),
            // It goes before its turn has come, and nothing else happens.
            1 => {
                successor.signal(if event.form == 1 { Signal::KILL } else { Signal::TERM });
                assert!(successor.wait(Duration::from_secs(30)).is_some(), "it waits for ever");
                return;
            }
            _ => self.terminate(None),
        }
        self.server = successor;
        let start = Instant::now();
        self.await_ready();
        self.took("until the successor is ready", start);
    }

    /// The journal's directory is removed, and a successor starts that knows nothing of the server
    /// that has lost it. Both serve for a while, and each has what it has acknowledged.
    #[track_caller]
    fn usurp(&mut self, event: &Event) {
        let from = self.in_hand();
        self.ledger.loosen(Duration::from_secs(600));
        self.take_journal_away(true);
        let successor = self.spawn();
        thread::sleep(event.lasts.max(Duration::from_secs(1)));
        self.terminate(None);
        self.server = successor;
        self.await_ready();
        self.await_settled();
        // What was sent to the one may have come again to the other.
        self.ledger.loosen(2 * TIMER);
        let to = self.output.look();
        self.output.lines.excuse(from, to);
    }
}

/// Removes a directory into which something may still be written.
fn remove_all(dir: &Path) {
    for _ in 0..100 {
        match fs::remove_dir_all(dir) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}
