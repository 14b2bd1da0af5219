//! What is said of the order, the completeness and the dates of a chain.

use super::{
    Level, Line, Question,
    described::called,
    trust::{Unsigned, Uploaded},
};
use ringhook::{
    FindingKind,
    internals::tls::{check, facts::Facts},
};

impl Question<'_> {
    pub(super) fn chain_lines(
        &self,
        kinds: &[FindingKind],
        path: &[Facts],
        signed: &Result<(), Unsigned>,
        uploaded: &Uploaded,
    ) -> Vec<Line> {
        let mut lines = Vec::new();
        for kind in kinds {
            let line = match kind {
                // Where it is uploaded as it is, the root is what Telegram is to trust.
                FindingKind::RootIncluded { .. } if signed.is_err() && self.uploaded.is_none() => {
                    continue;
                }
                FindingKind::OutOfOrder { .. } if self.is_sent => Line {
                    what: "the server sends the chain out of order".to_owned(),
                    ..Line::new(Level::Warn, "chain", kind)
                },
                FindingKind::OutOfOrder { .. }
                | FindingKind::RootIncluded { .. }
                | FindingKind::Unrelated { .. } => Line::new(Level::Warn, "chain", kind),
                // Whether one is missing depends on who is trusted.
                _ => continue,
            };
            lines.push(line);
        }
        if let (Err(Unsigned::Missing(issuer)), false) = (signed, uploaded.root.is_some()) {
            let kind = FindingKind::MissingIntermediate { issuer: issuer.clone() };
            lines.push(Line::new(Level::Fail, "chain", &kind));
        }
        if lines.is_empty() {
            let subjects: Vec<_> =
                path.iter().map(|facts| format!("\"{}\"", called(facts))).collect();
            let what = match path {
                [only] if only.is_self_signed() => format!("{}, self-signed", subjects.join("")),
                _ => format!("{} certificate(s), leaf first: {}", path.len(), subjects.join(", ")),
            };
            lines.push(Line::ok("chain", what));
        }
        lines
    }

    pub(super) fn date_lines(
        &self,
        kinds: &[FindingKind],
        path: &[Facts],
        uploaded: &Uploaded,
    ) -> Vec<Line> {
        let line = |kind: &FindingKind| match kind {
            FindingKind::Expired { .. } | FindingKind::NotYetValid { .. } => {
                Some(Line::new(Level::Fail, "dates", kind))
            }
            FindingKind::ExpiresSoon { .. } => Some(Line::new(Level::Warn, "dates", kind)),
            _ => None,
        };
        let mut lines: Vec<_> = kinds.iter().filter_map(line).collect();
        let first = path.iter().chain(&uploaded.root).map(|facts| facts.not_after).min();
        let is_said = !lines.is_empty() || uploaded.lines.iter().any(|line| line.check == "dates");
        if let (false, Some(first)) = (is_said, first) {
            let days = first.duration_since(self.now).unwrap_or_default().as_secs() / check::DAY;
            let what = format!("valid until {} ({days} days)", check::moment(first));
            lines.push(Line::ok("dates", what));
        }
        lines
    }
}
