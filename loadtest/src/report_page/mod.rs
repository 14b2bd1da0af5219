//! `loadtest report`: runs as a page to look at.
//!
//! | file | question |
//! |---|---|
//! | `input` | what is known of the runs and their servers |
//! | `charts`, `bars` | which pictures there are |
//! | `tables`, `html` | what stands beside them |
//!
//! A page is one file without scripts, and fetches nothing: it can be kept, mailed and opened in
//! ten years. The crate `pagecharts` draws.

mod bars;
mod charts;
mod html;
mod input;
mod tables;

use maud::Markup;
use pagecharts::{chart, scale};

pub use self::input::Inputs;
use crate::Error;

/// Runs laid over each other.
#[derive(Clone, Debug)]
pub struct ReportPage {
    runs: Vec<input::Run>,
}

impl ReportPage {
    /// Reads reports, and what servers have written beside them.
    ///
    /// # Errors
    /// [`Error::Option`] with the file that cannot be read, and why.
    pub fn read(inputs: &Inputs) -> Result<Self, Error> {
        Ok(Self { runs: input::read(inputs)? })
    }

    /// The page, as HTML.
    #[must_use]
    pub fn html(&self) -> String {
        visible(&html::page(&self.runs))
    }

    /// The pictures by themselves: names of files, and SVG for wide screens.
    #[must_use]
    pub fn pictures(&self) -> Vec<(String, String)> {
        // A picture by itself has no page below it.
        let style = format!("{}svg{{background:var(--card)}}", pagecharts::CHART_STYLE);
        html::pictures(&self.runs)
            .into_iter()
            .map(|picture| (format!("{}.svg", picture.name), visible(&picture.file(&style))))
            .collect()
    }
}

/// The text of `markup`. XML has no control characters but these two, not even escaped.
fn visible(markup: &Markup) -> String {
    let is_hidden = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    markup.0.replace(is_hidden, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use maud::html;

    use super::visible;

    #[test]
    fn nothing_gets_out_of_a_text() {
        let text = visible(&html! { p title=("\"&\r") { ("<b a='\"'>&\u{1}\n\t") } });
        assert_eq!(
            text,
            "<p title=\"&quot;&amp;\u{fffd}\">&lt;b a='&quot;'&gt;&amp;\u{fffd}\n\t</p>"
        );
    }
}
