//! Which text form of metrics a client gets.

use std::fmt;

use prometheus_client::{
    encoding::{prometheus_text, text},
    registry::Registry,
};

/// A text form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TextForm {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' own, 0.0.4.
    Prometheus,
}

impl TextForm {
    /// The form for a request with this `Accept`: OpenMetrics where it is named, and not less
    /// welcome than the other one.
    pub(super) fn asked_for(accept: &str) -> Self {
        let (mut open_metrics, mut text) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut is_known) = (1.0, true);
            for parameter in parts {
                let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                let value = value.trim().trim_matches('"');
                match key.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.parse().unwrap_or(0.0),
                    "version" => is_known = matches!(value, "1.0.0" | "0.0.1" | "0.0.4"),
                    _ => {}
                }
            }
            match name.as_str() {
                "application/openmetrics-text" if is_known => {
                    open_metrics = open_metrics.max(quality);
                }
                "text/plain" if is_known => text = text.max(quality),
                _ => {}
            }
        }
        let is_asked_for = open_metrics > 0.0 && open_metrics >= text;
        if is_asked_for { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }

    /// Writes everything in `registry`.
    pub(super) fn write(self, out: &mut String, registry: &Registry) -> fmt::Result {
        match self {
            Self::OpenMetrics => text::encode(out, registry),
            Self::Prometheus => prometheus_text::encode(out, registry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        for (accept, form) in [
            ("", TextForm::Prometheus),
            ("*/*", TextForm::Prometheus),
            ("text/plain", TextForm::Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", TextForm::Prometheus),
            ("application/openmetrics-text", TextForm::OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"", TextForm::OpenMetrics),
            ("application/openmetrics-text;version=2.0.0,text/plain", TextForm::Prometheus),
            ("application/openmetrics-text;q=0", TextForm::Prometheus),
            ("application/openmetrics-text;q=x", TextForm::Prometheus),
            ("application/openmetrics-text;q=0.2,text/plain;q=0.5", TextForm::Prometheus),
            // Prometheus 2.42 and 3.5.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                 version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                TextForm::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
                 escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                TextForm::OpenMetrics,
            ),
        ] {
            assert_eq!(TextForm::asked_for(accept), form, "{accept:?}");
        }
    }
}
