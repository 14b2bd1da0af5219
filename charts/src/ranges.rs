//! Rows of bars that say where the values of something lie, on a logarithmic axis.

use maud::html;

use crate::{
    chart::{LETTER, Picture, Size, fitted, px},
    scale::{Scale, duration, tick},
};

/// Height of a bar with the room around it.
const BAR: f64 = 22.0;
/// Height of a row's name where it stands above its bars.
const NAME: f64 = 17.0;
/// The axis' beginning, in microseconds: nothing at all lies there.
const LEAST: f64 = 0.1;

/// Where durations lie, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The smallest.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// 99 of 100 are not above it.
    pub p99: f64,
    /// 999 of 1,000 are not above it.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

/// A row of the picture.
#[derive(Clone, Debug)]
pub struct Row {
    /// What stands before it.
    pub name: String,
    /// Its bars with their colours, each below [`COLOURS`](crate::chart::COLOURS).
    pub ranges: Vec<(usize, Range)>,
}

/// A picture of `rows`; `legend` tells what the colours mean, where there are several. `None` where
/// there are no rows.
#[must_use]
pub fn ranges(name: &str, title: &str, rows: &[Row], legend: &[(usize, &str)]) -> Option<Picture> {
    if rows.is_empty() {
        return None;
    }
    let all = || rows.iter().flat_map(|row| &row.ranges);
    let scale =
        Scale::log(all().flat_map(|(_, range)| [range.p50.max(LEAST), range.max.max(LEAST)]));
    let told: Vec<_> = rows
        .iter()
        .flat_map(|row| row.ranges.iter().map(move |(colour, range)| (&row.name, colour, range)))
        .map(|(row, colour, range)| {
            let whose = legend.iter().find(|(of, _)| of == colour);
            let whose = whose.map(|(_, whose)| format!("{whose}, ")).unwrap_or_default();
            let (p50, p99) = (duration(range.p50), duration(range.p99));
            format!("{whose}{row}: p50 {p50}, p99 {p99}")
        })
        .collect();
    Some(Picture::new(name, title, &told.join(". "), |size| {
        let mut svg = Vec::new();
        let is_wide = size == Size::Wide;
        let (left, right) = (if is_wide { 142.0 } else { 4.0 }, size.width() - 20.0);
        let place = |us: f64| left + scale.place(us.max(LEAST)) * (right - left);
        let top = 30.0;
        let mut y = top;
        let mut content = Vec::new();
        for Row { name, ranges } in rows {
            if is_wide {
                let middle = y + ranges.len() as f64 * BAR / 2.0 + 4.0;
                content.push(html! {
                    text.key.end x=(px(left - 12.0)) y=(px(middle)) { (name) }
                });
            } else {
                content.push(html! { text.key x="4" y=(px(y + 13.0)) { (name) } });
                y += NAME;
            }
            for (colour, range) in ranges {
                let middle = y + BAR / 2.0;
                let bar = middle - 5.0;
                let [min, p50, p99, p999, max] =
                    [range.min, range.p50, range.p99, range.p999, range.max].map(place);
                let whisker = format!("M{min:.1} {middle:.1}H{max:.1}");
                content.push(html! {
                    path class={ "whisker c" (colour) } d=(whisker) {}
                    rect class={ "f" (colour) } x=(px(p50)) y=(px(bar))
                        width=(px((p99 - p50).max(2.0))) height="10" rx="2" {}
                    path class={ "mark c" (colour) } d=(format!("M{p999:.1} {bar:.1}v10")) {}
                    circle class={ "f" (colour) } cx=(px(max)) cy=(px(middle)) r="3" {}
                });
                y += BAR;
            }
            y += 6.0;
        }
        let bottom = y;
        for us in scale.ticks(if is_wide { 8 } else { 4 }) {
            let x = place(us);
            let text = tick(us);
            let half = text.chars().count() as f64 * LETTER / 2.0;
            let middle = x.clamp(half, size.width() - half);
            svg.push(html! {
                path.grid d=(format!("M{x:.1} {top:.1}V{bottom:.1}")) {}
                text.tick.mid x=(px(middle)) y=(px(bottom + 16.0)) { (text) }
            });
        }
        // What the shapes mean, and whose they are.
        svg.push(html! {
            rect.plain x="0" y="5" width="20" height="10" rx="2" {}
            text.key x="26" y="14" { "p50 to p99" }
            path.mark.plainline d="M112 5v10" {}
            text.key x="119" y="14" { "p99.9" }
            circle.plain cx="176" cy="10" r="3" {}
            text.key x="184" y="14" { "max" }
        });
        let mut x = 0.0;
        let mut foot = bottom + 26.0;
        for (colour, whose) in legend {
            let width = 24.0 + whose.chars().count() as f64 * LETTER + 18.0;
            if x > 0.0 && x + width > size.width() {
                (x, foot) = (0.0, foot + 18.0);
            }
            let label = fitted(whose, size.width() - 20.0);
            svg.push(html! {
                rect class={ "f" (colour) } x=(px(x)) y=(px(foot + 3.0))
                    width="14" height="10" rx="2" {}
                text.key x=(px(x + 20.0)) y=(px(foot + 12.0)) { (label) }
            });
            x += width;
        }
        if !legend.is_empty() {
            foot += 18.0;
        }
        svg.extend(content);
        (foot + 2.0, svg)
    }))
}
