//! `loadtest report`: runs as a page to look at.
//!
//! | file | question |
//! |---|---|
//! | `input` | what is known of the runs and their servers |
//! | `charts`, `bars` | which pictures there are |
//! | `chart`, `scale` | how lines and axes are drawn |
//! | `tables`, `html` | what stands beside them |
//!
//! A page is one file without scripts, and fetches nothing: it can be kept, mailed and opened in
//! ten years. Each picture is in it twice, for wide and for narrow screens.

mod bars;
mod chart;
mod charts;
mod html;
mod input;
mod scale;
mod tables;

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
        html::page(&self.runs)
    }

    /// The pictures by themselves: names of files, and SVG for wide screens.
    #[must_use]
    pub fn pictures(&self) -> Vec<(String, String)> {
        let style = html::CHART_STYLE;
        html::pictures(&self.runs)
            .into_iter()
            .map(|picture| {
                // A picture by itself has no page below it.
                let own = format!("<style>{style}svg{{background:var(--card)}}</style>");
                let (head, rest) = picture.wide.split_once('\n').unwrap_or((&picture.wide, ""));
                (format!("{}.svg", picture.name), format!("{head}\n{own}\n{rest}"))
            })
            .collect()
    }
}
