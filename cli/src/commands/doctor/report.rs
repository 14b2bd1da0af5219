//! The report: a line for each step and what to do, or all of it as JSON.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use super::step::{Finding, Step, Verdict};
use ringhook::{Error, ErrorKind, internals::redact::hide_tokens};

/// Columns of a step's name.
const NAME_WIDTH: usize = 11;
/// Columns before what is to be done.
const INDENT: usize = 2 + 4 + 2 + NAME_WIDTH + 2;

/// How many steps ended how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(super) struct Counts {
    ok: usize,
    warn: usize,
    fail: usize,
    skip: usize,
}

/// Takes the steps and tells them as they come.
pub(super) struct Report {
    is_json: bool,
    is_coloured: bool,
    /// Whether stderr is a terminal, on which progress is shown.
    has_progress: bool,
    /// Whether the bot is named in each line.
    names_bots: bool,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Shown<'a> {
    /// True where no step failed.
    ok: bool,
    counts: Counts,
    steps: &'a [Step],
}

impl Report {
    pub(super) fn new(is_json: bool) -> Self {
        let is_coloured = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let has_progress = io::stderr().is_terminal();
        Self { is_json, is_coloured, has_progress, names_bots: false, steps: Vec::new() }
    }

    /// From here on each line about a bot has its name.
    pub(super) fn name_bots(&mut self, are_several: bool) {
        self.names_bots = are_several;
    }

    /// Runs a step and tells what came of it; whether later ones may rely on it.
    pub(super) fn step(
        &mut self,
        step: &'static str,
        bot: Option<&str>,
        run: impl FnOnce() -> Finding,
    ) -> Result<bool, Error> {
        self.begin(step, bot);
        let finding = run();
        self.end_progress();
        let is_good = finding.is_good();
        self.add(finding.into_step(step, bot))?;
        Ok(is_good)
    }

    fn begin(&self, step: &str, bot: Option<&str>) {
        if self.has_progress {
            let of = bot
                .filter(|_| self.names_bots)
                .map_or_else(String::new, |bot| format!(" of {bot}"));
            // Rewritten by the next one. A closed stderr is no failure.
            let _ = write!(io::stderr(), "\r\x1b[K  ...   {step}{of}");
            let _ = io::stderr().flush();
        }
    }

    fn end_progress(&self) {
        if self.has_progress {
            let _ = write!(io::stderr(), "\r\x1b[K");
            let _ = io::stderr().flush();
        }
    }

    fn add(&mut self, step: Step) -> Result<(), Error> {
        if !self.is_json {
            let heading = self.heading(&step);
            self.print(&(heading + &self.lines_of(&step)))?;
        }
        self.steps.push(step);
        Ok(())
    }

    /// What the steps from `step` on are about, where there are several bots and it is new.
    fn heading(&self, step: &Step) -> String {
        let is_new = self.steps.last().is_some_and(|last| last.bot != step.bot);
        match &step.bot {
            _ if !self.names_bots || !is_new => String::new(),
            Some(bot) => format!("bot {bot}\n"),
            None => "machine\n".to_owned(),
        }
    }

    fn lines_of(&self, step: &Step) -> String {
        let Step { step: name, verdict, what, fix, .. } = step;
        let mut lines = format!("  {}  {name:<NAME_WIDTH$}  {what}\n", self.mark(*verdict));
        for advice in fix {
            lines += &format!("{:INDENT$}{advice}\n", "");
        }
        lines
    }

    /// Four columns.
    fn mark(&self, verdict: Verdict) -> String {
        let text = match verdict {
            Verdict::Fail => "FAIL",
            other => other.as_str(),
        };
        let text = format!("{text:<4}");
        let colour = match verdict {
            Verdict::Ok => 32,
            Verdict::Warn => 33,
            Verdict::Fail => 31,
            Verdict::Skip => 2,
        };
        if self.is_coloured { format!("\x1b[{colour}m{text}\x1b[0m") } else { text }
    }

    /// Tells the sum.
    ///
    /// # Errors
    /// Where a step failed.
    pub(super) fn finish(self) -> Result<(), Error> {
        let counts = self.counts();
        if self.is_json {
            let shown = Shown { ok: counts.fail == 0, counts, steps: &self.steps };
            let text = serde_json::to_string_pretty(&shown).map_err(io::Error::from);
            self.print(&(text.map_err(unwritten)? + "\n"))?;
        } else {
            let Counts { ok, warn, fail, skip } = counts;
            self.print(&format!("{ok} ok, {warn} to look at, {fail} failed, {skip} skipped\n"))?;
        }
        let failed = || self.steps.iter().filter(|step| step.verdict == Verdict::Fail);
        let Some(first) = failed().next() else { return Ok(()) };
        let count = failed().count();
        let more = if count > 1 { ", which may explain the others" } else { "" };
        let message = format!("{count} step(s) failed: begin with \"{}\"{more}", first.step);
        Err(Error::new(ErrorKind::Doctor, message))
    }

    fn counts(&self) -> Counts {
        let count = |verdict| self.steps.iter().filter(|step| step.verdict == verdict).count();
        Counts {
            ok: count(Verdict::Ok),
            warn: count(Verdict::Warn),
            fail: count(Verdict::Fail),
            skip: count(Verdict::Skip),
        }
    }

    /// A reader who leaves early (`| head`) is no failure.
    fn print(&self, text: &str) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(hide_tokens(text).as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritten(error)),
            _ => Ok(()),
        }
    }
}

fn unwritten(source: io::Error) -> Error {
    Error::with_source(ErrorKind::Sink, "standard output", source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(is_coloured: bool) -> Report {
        Report {
            is_json: false,
            is_coloured,
            has_progress: false,
            names_bots: true,
            steps: Vec::new(),
        }
    }

    #[test]
    fn a_step_is_a_line_and_advice_is_indented() {
        let step =
            Finding::warn("two\nlines", "do this").and("or that").into_step("clock", Some("shop"));
        assert_eq!(
            report(false).lines_of(&step),
            "  warn  clock        two lines\n                     do this\n                     or that\n"
        );
        assert_eq!(report(false).heading(&step), "");
        let mut after = report(false);
        after.steps.push(Finding::ok("fine").into_step("config", None));
        assert_eq!(after.heading(&step), "bot shop\n");
        let step = Finding::ok("fine").into_step("clock", None);
        assert_eq!(report(true).lines_of(&step), "  \x1b[32mok  \x1b[0m  clock        fine\n");
    }

    #[test]
    fn a_failure_is_the_end_s_error() {
        let mut with = report(false);
        with.is_json = true;
        with.steps.push(Finding::skip("no token").into_step("api", None));
        with.steps.push(Finding::fail("no", "yes").into_step("listening", None));
        with.steps.push(Finding::fail("no", "yes").into_step("post", None));
        assert_eq!(with.counts(), Counts { ok: 0, warn: 0, fail: 2, skip: 1 });
        let error = with.finish().map_err(|error| error.to_string());
        let expected = "2 step(s) failed: begin with \"listening\", which may explain the others";
        assert_eq!(error, Err(expected.to_owned()));
    }
}
