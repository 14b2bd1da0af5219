//! One thing that was looked at, and what came of it.

use serde::Serialize;

/// How a step ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// It works, or may work, and is worth a look.
    Warn,
    /// No update can arrive, or some will be lost, until this is put right.
    Fail,
    /// It could not be examined; the reason is given.
    Skip,
}

impl Verdict {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// What came of one step.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Step {
    /// Its name, the same in each run.
    pub(super) step: &'static str,
    /// The bot that it is about; `None` where it is about the machine.
    pub(super) bot: Option<String>,
    pub(super) verdict: Verdict,
    /// What was found, in one line.
    pub(super) what: String,
    /// What to do about it, or what else to know; a line each.
    pub(super) fix: Vec<String>,
}

/// What came of a step that does not know its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) what: String,
    pub(super) fix: Vec<String>,
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, what: what.into(), fix: Vec::new() }
    }

    pub(super) fn warn(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, what: what.into(), fix: vec![fix.into()] }
    }

    pub(super) fn fail(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, what: what.into(), fix: vec![fix.into()] }
    }

    pub(super) fn skip(why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skip, what: why.into(), fix: Vec::new() }
    }

    /// With another line of advice.
    pub(super) fn and(mut self, advice: impl Into<String>) -> Self {
        self.fix.push(advice.into());
        self
    }

    /// True where what comes later may rely on it.
    pub(super) fn is_good(&self) -> bool {
        matches!(self.verdict, Verdict::Ok | Verdict::Warn)
    }

    pub(super) fn is_failure(&self) -> bool {
        self.verdict == Verdict::Fail
    }

    pub(super) fn into_step(self, step: &'static str, bot: Option<&str>) -> Step {
        let Self { verdict, what, fix } = self;
        // What a peer or a file says may hold anything; a step is a line.
        let line = |text: String| text.replace(|c: char| c.is_control(), " ");
        let fix = fix.into_iter().map(line).collect();
        Step { step, bot: bot.map(str::to_owned), verdict, what: line(what), fix }
    }
}
