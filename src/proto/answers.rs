//! A shard's answers with their `Date` (RFC 9110 section 6.6.1). The clock is read once a second at
//! the most, and each answer put together as seldom.

use std::{
    cell::RefCell,
    io::Write as _,
    mem,
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use httpdate::HttpDate;

use crate::proto::http::{ConnectionDirective, DATE_BYTES, Status, dated_response, response};

/// The first second that HTTP's form of a date cannot say: that of the year 10000.
const TOO_LATE: u64 = 253_402_300_800;
/// There are three directives.
const FORMS: usize = 3 * Status::ALL.len();

/// The bytes of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Without a date.
    Bare(&'static [u8]),
    Dated(Rc<Vec<u8>>),
}

impl Answer {
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bare(bytes) => bytes,
            Self::Dated(bytes) => bytes,
        }
    }
}

/// `time` in HTTP's form; `None` where that cannot say it.
pub(crate) fn date(time: SystemTime) -> Option<[u8; DATE_BYTES]> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    if since.as_secs() >= TOO_LATE {
        return None;
    }
    let mut date = [0; DATE_BYTES];
    write!(&mut date[..], "{}", HttpDate::from(time)).ok()?;
    Some(date)
}

/// All answers of a shard.
#[derive(Default)]
pub(crate) struct Answers(RefCell<Dated>);

struct Dated {
    /// The time in HTTP's form; `None` where it has none: without a reasonable clock there must be
    /// no date.
    date: Option<[u8; DATE_BYTES]>,
    /// By status and directive.
    made: [Option<Made>; FORMS],
    /// How often the clock has been read.
    readings: u64,
    /// When the second of `date` is over.
    until: Option<Instant>,
}

/// An answer that was put together.
#[derive(Default)]
struct Made {
    bytes: Rc<Vec<u8>>,
    /// Memory of the answer before it, which connections may still be writing.
    previous: Rc<Vec<u8>>,
    /// The number of the reading it is of.
    reading: u64,
}

impl Default for Dated {
    fn default() -> Self {
        Self { date: None, made: [const { None }; FORMS], readings: 0, until: None }
    }
}

impl Answers {
    /// The answer with a date. `at` is a time not later than now, and as late as is known without a
    /// look at the clock: the date is as right as that.
    #[inline]
    pub(crate) fn dated(
        &self,
        status: Status,
        directive: ConnectionDirective,
        at: Instant,
    ) -> Answer {
        self.0.borrow_mut().answer(status, directive, at, || (Instant::now(), SystemTime::now()))
    }
}

impl Dated {
    #[inline]
    fn answer(
        &mut self,
        status: Status,
        directive: ConnectionDirective,
        at: Instant,
        clock: impl FnOnce() -> (Instant, SystemTime),
    ) -> Answer {
        if self.until.is_none_or(|until| at >= until) {
            self.read(clock());
        }
        match self.made.get(place(status, directive)) {
            Some(Some(made)) if made.reading == self.readings => {
                Answer::Dated(Rc::clone(&made.bytes))
            }
            _ => self.make(status, directive),
        }
    }

    /// Takes the time, and until when it stays the same in whole seconds. A clock that is set is so
    /// for the answers a second later.
    #[cold]
    fn read(&mut self, (now, time): (Instant, SystemTime)) {
        let spent = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        self.until = Some(now + Duration::from_secs(1) - Duration::from_nanos(spent.into()));
        self.date = date(time);
        self.readings += 1;
    }

    #[cold]
    fn make(&mut self, status: Status, directive: ConnectionDirective) -> Answer {
        let (Some(date), Some(made)) = (&self.date, self.made.get_mut(place(status, directive)))
        else {
            return Answer::Bare(response(status, directive));
        };
        let made = made.get_or_insert_default();
        // Two alternate, so that the memory of one is free when it is wanted again.
        mem::swap(&mut made.bytes, &mut made.previous);
        if Rc::get_mut(&mut made.bytes).is_none() {
            // It is still being written, and stays as it is.
            made.bytes = Rc::default();
        }
        if let Some(bytes) = Rc::get_mut(&mut made.bytes) {
            bytes.clear();
            dated_response(status, directive, date, bytes);
        }
        made.reading = self.readings;
        Answer::Dated(Rc::clone(&made.bytes))
    }
}

fn place(status: Status, directive: ConnectionDirective) -> usize {
    status as usize * 3 + directive as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn said(answer: &Answer) -> String {
        let text = str::from_utf8(answer.bytes()).unwrap();
        let line = text.split("\r\n").find(|line| line.starts_with("Date: ")).unwrap();
        line["Date: ".len()..].to_owned()
    }

    /// The common answer, at `at` after `start` by both clocks.
    fn at(dated: &mut Dated, start: Instant, after: Duration, readings: &mut u32) -> Answer {
        let time = UNIX_EPOCH + Duration::from_millis(784_111_777_250) + after;
        dated.answer(Status::Ok, ConnectionDirective::Persist, start + after, || {
            *readings += 1;
            (start + after, time)
        })
    }

    #[test]
    fn each_answer_says_the_second_in_which_it_is_given() {
        let (mut dated, start, mut readings) = (Dated::default(), Instant::now(), 0);
        let first = at(&mut dated, start, Duration::ZERO, &mut readings);
        // The example of RFC 9110 section 5.6.7.
        assert_eq!(
            str::from_utf8(first.bytes()).unwrap(),
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n"
        );
        for millis in [1, 749, 750, 751, 1_749, 1_750, 90_000, 90_001, 4_000_000] {
            let after = Duration::from_millis(millis);
            let answer = at(&mut dated, start, after, &mut readings);
            let time = UNIX_EPOCH + Duration::from_millis(784_111_777_250) + after;
            assert_eq!(said(&answer), HttpDate::from(time).to_string(), "{millis}");
        }
        assert_eq!(readings, 5, "once for each second in which there was an answer");
    }

    #[test]
    fn every_form_is_dated_and_kept() {
        use ConnectionDirective::{Close, KeepAlive, Persist};
        let (answers, now) = (Answers::default(), Instant::now());
        for status in Status::ALL {
            for directive in [Close, KeepAlive, Persist] {
                let answer = answers.dated(status, directive, now);
                let text = str::from_utf8(answer.bytes()).unwrap();
                let line = format!("Date: {}\r\n", said(&answer));
                assert_eq!(text.replacen(&line, "", 1).as_bytes(), response(status, directive));
                assert!(text.starts_with(&format!("HTTP/1.1 {}\r\nDate: ", status.as_str())));
                let again = answers.dated(status, directive, now);
                assert!(matches!((&answer, &again), (Answer::Dated(one), Answer::Dated(other))
                    if Rc::ptr_eq(one, other)));
            }
        }
    }

    #[test]
    fn what_is_being_written_stays_as_it_is() {
        let (mut dated, start, mut readings) = (Dated::default(), Instant::now(), 0);
        let first = at(&mut dated, start, Duration::ZERO, &mut readings);
        let before = first.bytes().to_vec();
        let second = at(&mut dated, start, SECOND, &mut readings);
        assert_eq!(first.bytes(), before);
        assert_ne!(second.bytes(), before);
        // Otherwise two alternate in the same memory.
        drop((first, second));
        let mut memory = [std::ptr::null(); 4];
        for (after, memory) in (2..).zip(&mut memory) {
            *memory = at(&mut dated, start, after * SECOND, &mut readings).bytes().as_ptr();
        }
        let [one, other, again, the_other] = memory;
        assert_eq!((one, other), (again, the_other));
    }

    /// "MUST NOT generate a Date" without a clock that is "capable of providing a reasonable
    /// approximation".
    #[test]
    fn a_clock_without_a_date_gives_none() {
        let start = Instant::now();
        for time in [UNIX_EPOCH - SECOND, UNIX_EPOCH + Duration::from_secs(TOO_LATE)] {
            let mut dated = Dated::default();
            let (status, directive) = (Status::Ok, ConnectionDirective::Persist);
            let answer = dated.answer(status, directive, start, || (start, time));
            assert_eq!(answer.bytes(), response(status, directive));
            // And once it is set, they have one.
            let later = (start + SECOND, UNIX_EPOCH + Duration::from_secs(TOO_LATE - 1));
            let answer = dated.answer(status, directive, start + SECOND, || later);
            assert_eq!(said(&answer), "Fri, 31 Dec 9999 23:59:59 GMT");
        }
    }
}
