//! Line charts as SVG, and the style of the pages around them: of the server's status page and of
//! the load generator's reports.
//!
//! A page needs no script and fetches nothing. Each picture is in it twice, for wide and for narrow
//! screens; colours follow the reader's choice of light or dark.

pub mod chart;
pub mod ranges;
pub mod scale;

/// Colours and shapes of the charts, for the page and for pictures by themselves.
pub const CHART_STYLE: &str = include_str!("chart.css");
/// The style of the page around them; it uses the colours of [`CHART_STYLE`].
pub const PAGE_STYLE: &str = include_str!("page.css");
/// What a browser may do with such a page, as the value of `Content-Security-Policy`: nothing is
/// fetched and nothing is run.
pub const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
