//! Line charts as SVG. Colours and fonts come from the style sheet beside, by class.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use crate::scale::Scale;

/// Colours of the style sheet; with more lines they come again, with other dashes.
pub const COLOURS: usize = 6;
/// Pixels of a digit in the widest of the usual fonts, in the size of the charts.
pub const LETTER: f64 = 7.6;
/// Height of a line of text.
const ROW: f64 = 18.0;

/// A chart is drawn twice, since text that shrinks with its picture could not be read on a phone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Size {
    /// Up to 640 pixels.
    Narrow,
    /// Above them.
    Wide,
}

impl Size {
    /// The picture's width in units of its own, which are pixels where it is not scaled.
    #[must_use]
    pub fn width(self) -> f64 {
        if self == Self::Wide { 880.0 } else { 350.0 }
    }

    /// The class of the style sheet.
    #[must_use]
    pub fn class(self) -> &'static str {
        if self == Self::Wide { "wide" } else { "narrow" }
    }

    fn plot_height(self) -> f64 {
        if self == Self::Wide { 270.0 } else { 210.0 }
    }

    /// Marks on the horizontal axis.
    #[must_use]
    pub fn ticks(self) -> usize {
        if self == Self::Wide { 12 } else { 5 }
    }

    /// Points that can be told apart.
    fn points(self) -> usize {
        if self == Self::Wide { 400 } else { 150 }
    }
}

/// One direction of a chart.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Where its values lie.
    pub scale: Scale,
    /// Values and what stands beside them: a line of text or two.
    pub ticks: Vec<(f64, String)>,
    /// What stands at its end.
    pub name: String,
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Number of its colour, and of its dashes: colours alone distinguish no lines.
    pub look: Look,
    /// Values along the horizontal and the vertical axis, in the order of the former.
    pub points: Vec<(f64, f64)>,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Below [`COLOURS`].
    pub colour: usize,
    /// Below 4; 0 is a solid line.
    pub dash: usize,
    /// Whether the room below is tinted.
    pub is_filled: bool,
    /// Whether it is drawn as a thing to compare with.
    pub is_faint: bool,
}

impl Look {
    /// The usual look of the line of number `index`.
    #[must_use]
    pub fn new(index: usize) -> Self {
        Self { colour: index % COLOURS, dash: index % 4, is_filled: false, is_faint: false }
    }

    /// Its classes of the style sheet.
    #[must_use]
    pub fn classes(self) -> String {
        if self.is_faint {
            return "line faint".to_owned();
        }
        format!("line c{} d{}", self.colour, self.dash)
    }
}

/// A picture, in both sizes.
#[derive(Clone, Debug)]
pub struct Picture {
    /// As a part of a file's name and of ids.
    pub name: String,
    /// Its heading.
    pub title: String,
    description: String,
    wide: Drawing,
    narrow: Drawing,
}

/// The height of a picture, and what is in it.
pub type Drawing = (f64, Vec<Markup>);

impl Picture {
    /// Has `draw` draw both sizes.
    pub fn new(name: &str, title: &str, description: &str, draw: impl Fn(Size) -> Drawing) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            description: description.to_owned(),
            wide: draw(Size::Wide),
            narrow: draw(Size::Narrow),
        }
    }

    /// As an element of a page.
    #[must_use]
    pub fn svg(&self, size: Size) -> Markup {
        self.framed(size, &html! {})
    }

    /// By itself, with a style sheet of its own.
    #[must_use]
    pub fn file(&self, style: &str) -> Markup {
        self.framed(Size::Wide, &html! { style { (PreEscaped(style)) } })
    }

    fn framed(&self, size: Size, style: &Markup) -> Markup {
        let (height, content) = if size == Size::Wide { &self.wide } else { &self.narrow };
        let id = format!("{}-{}", self.name, size.class());
        html! {
            svg xmlns="http://www.w3.org/2000/svg" class={ "chart " (size.class()) } role="img"
                aria-labelledby={ (id) "-t " (id) "-d" }
                viewBox=(format!("0 0 {} {height:.0}", size.width())) {
                title id={ (id) "-t" } { (self.title) }
                desc id={ (id) "-d" } { (self.description) }
                (style)
                @for part in content { (part) }
            }
        }
    }
}

/// A chart of lines over a common axis.
#[derive(Clone, Debug)]
pub struct Chart {
    /// As a part of a file's name and of ids: ASCII without spaces.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// What it says, for those who do not see it.
    pub description: String,
    /// What is drawn, one behind the other.
    pub lines: Vec<Line>,
    /// The horizontal axis in a size, up to `x_max`.
    pub x: fn(Size, f64) -> Axis,
    /// Where the horizontal axis ends.
    pub x_max: f64,
    /// The vertical axis.
    pub y: Axis,
    /// Whether points that are too many are joined to the largest of them, else to their mean.
    pub keeps_peaks: bool,
}

impl Chart {
    /// It in both sizes.
    #[must_use]
    pub fn picture(&self) -> Picture {
        Picture::new(&self.name, &self.title, &self.description, |size| self.draw(size))
    }

    fn draw(&self, size: Size) -> Drawing {
        let mut svg = Vec::new();
        let names: Vec<_> = self.lines.iter().map(|line| (line.look, line.name.as_str())).collect();
        let legend = if names.len() > 1 { legend(&mut svg, size, &names) } else { 0.0 };
        let label = self.y.ticks.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
        let left = label as f64 * LETTER + 12.0;
        let (right, top) = (size.width() - 16.0, legend + ROW + 8.0);
        let bottom = top + size.plot_height();
        let x = (self.x)(size, self.x_max);
        let to_x = |value: f64| left + x.scale.place(value) * (right - left);
        let to_y = |value: f64| bottom - self.y.scale.place(value) * (bottom - top);

        svg.push(html! { text.name x="0" y=(px(legend + 12.0)) { (self.y.name) } });
        for (value, text) in &self.y.ticks {
            let y = to_y(*value);
            svg.push(html! {
                path.grid d=(format!("M{left:.1} {y:.1}H{right:.1}")) {}
                text.tick.end x=(px(left - 8.0)) y=(px(y + 4.0)) { (text) }
            });
        }
        // Up to where the texts below the axis reach already.
        let (mut rows, mut free_from) = (1, f64::NEG_INFINITY);
        for (value, text) in &x.ticks {
            let at = to_x(*value);
            svg.push(html! { path.grid d=(format!("M{at:.1} {top:.1}V{bottom:.1}")) {} });
            // The ones at the ends stay within the picture.
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0) as f64;
            let half = widest * LETTER / 2.0;
            let centre = at.clamp(half, size.width() - half);
            if centre - half < free_from {
                continue;
            }
            free_from = centre + half + 4.0;
            for (row, line) in text.lines().enumerate() {
                rows = rows.max(row + 1);
                let y = bottom + 17.0 + row as f64 * 15.0;
                svg.push(html! { text.tick.mid x=(px(centre)) y=(px(y)) { (line) } });
            }
        }
        svg.push(html! { path.axis d=(format!("M{left:.1} {bottom:.1}H{right:.1}")) {} });
        for line in &self.lines {
            let points = thinned(&line.points, size.points(), self.keeps_peaks);
            let path = path_of(points.iter().map(|(x, y)| (to_x(*x), to_y(*y))));
            let filled = format!("f{}", line.look.colour);
            if line.look.is_filled
                && let (Some(first), Some(last)) = (points.first(), points.last())
            {
                let start = to_x(first.0).max(left.min(to_x(last.0)));
                let area = format!("{path}V{bottom:.1}H{start:.1}Z");
                svg.push(html! { path class={ "area " (filled) } d=(area) {} });
            }
            svg.push(html! { path class=(line.look.classes()) d=(path) {} });
            // A line of one point would not be seen.
            if let [(x, y)] = points.as_slice() {
                let (x, y) = (px(to_x(*x)), px(to_y(*y)));
                svg.push(html! { circle class=(filled) cx=(x) cy=(y) r="4" {} });
            }
        }
        let axis_name = bottom + 17.0 + rows as f64 * 15.0 + 4.0;
        svg.push(html! { text.name.end x=(px(right)) y=(px(axis_name)) { (x.name) } });
        (axis_name + 8.0, svg)
    }
}

/// Draws what the lines mean, in rows; gives the height.
fn legend(svg: &mut Vec<Markup>, size: Size, names: &[(Look, &str)]) -> f64 {
    let (mut x, mut y) = (0.0, 0.0);
    for (look, name) in names {
        let name = fitted(name, size.width() - 34.0);
        let width = 34.0 + name.chars().count() as f64 * LETTER + 18.0;
        if x > 0.0 && x + width > size.width() {
            (x, y) = (0.0, y + ROW);
        }
        svg.push(html! {
            path class=(look.classes()) d=(format!("M{x:.1} {:.1}h26", y + 8.0)) {}
            text.key x=(px(x + 33.0)) y=(px(y + 12.0)) { (name) }
        });
        x += width;
    }
    y + ROW + 8.0
}

/// A length or a place, as SVG has it.
#[must_use]
pub fn px(value: f64) -> String {
    format!("{value:.1}")
}

/// As much of `text` as there is room for.
#[must_use]
pub fn fitted(text: &str, room: f64) -> String {
    let most = (room / LETTER) as usize;
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

fn path_of(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{x:.1} {y:.1}");
    }
    path
}

/// At most `most` points, each of them for as many neighbours.
fn thinned(points: &[(f64, f64)], most: usize, keeps_peaks: bool) -> Vec<(f64, f64)> {
    let lot = points.len().div_ceil(most.max(1)).max(1);
    if lot == 1 {
        return points.to_vec();
    }
    points
        .chunks(lot)
        .map(|lot| {
            let x = lot.last().map_or(0.0, |(x, _)| *x);
            let values = lot.iter().map(|(_, y)| *y);
            let y = match keeps_peaks {
                true => values.fold(0.0, f64::max),
                false => values.sum::<f64>() / lot.len() as f64,
            };
            (x, y)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_peaks() {
        let points: Vec<_> =
            (0..1000).map(|n| (f64::from(n), if n == 777 { 9.0 } else { 1.0 })).collect();
        let thin = thinned(&points, 100, true);
        assert_eq!(thin.len(), 100);
        assert_eq!(thin.iter().filter(|(_, y)| *y == 9.0).count(), 1);
        assert_eq!(thinned(&points, 100, false).last().copied(), Some((999.0, 1.0)));
        assert_eq!(thinned(&points, 1000, true), points);
    }
}
