//! The live view of a run on a terminal.

use std::{
    collections::VecDeque,
    io::{self, Stderr},
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use loadtest::{Options, Progress, Short};
use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen},
    },
    style::{Color, Style, Stylize},
    text::{Line, Span},
    widgets::Paragraph,
};

/// The most seconds of the heat strip that are kept: wider terminals are rare.
const STRIP_MAX: usize = 512;

/// From no answer in a second to most of them.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];

/// A screen with a thread of its own, so that drawing holds up no request.
pub(crate) struct Screen {
    news: Option<Sender<Progress>>,
    thread: Option<JoinHandle<()>>,
}

impl Screen {
    /// Takes over the terminal behind standard error; none if it cannot be had.
    pub(crate) fn open(options: &Options) -> Option<Self> {
        let mut view = View::new(options);
        execute!(io::stderr(), EnterAlternateScreen, Hide).ok()?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stderr()));
        let Ok(mut terminal) = terminal else {
            restore();
            return None;
        };
        draw(&mut terminal, &view);
        let (news, arriving) = mpsc::channel();
        let thread = thread::Builder::new().name("screen".to_owned()).spawn(move || {
            while let Ok(progress) = arriving.recv() {
                view.take(progress);
                draw(&mut terminal, &view);
            }
        });
        Some(Self { news: Some(news), thread: thread.ok() })
    }

    /// Shows the state of a run.
    pub(crate) fn show(&self, progress: &Progress) {
        if let Some(news) = &self.news {
            // If the thread is gone, so is the screen.
            let _ = news.send(progress.clone());
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.news = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        restore();
    }
}

fn restore() {
    let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
}

fn draw(terminal: &mut Terminal<CrosstermBackend<Stderr>>, view: &View) {
    // A terminal that went away is no reason to end the run.
    let _ = terminal.draw(|frame| view.draw(frame));
}

/// What there is to see.
struct View {
    title: String,
    target: String,
    now: Progress,
    /// The share of each bucket of latency in each second, the last one in front.
    strip: VecDeque<[u64; Progress::HEAT.len() + 1]>,
}

impl View {
    fn new(options: &Options) -> Self {
        let plan = options.plan.as_ref().map_or("loadtest", |plan| plan.name.as_str());
        Self {
            title: plan.to_owned(),
            target: options.target.to_string(),
            now: Progress::default(),
            strip: VecDeque::new(),
        }
    }

    fn take(&mut self, progress: Progress) {
        self.strip.push_front(progress.heat);
        self.strip.truncate(STRIP_MAX);
        self.now = progress;
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        frame.render_widget(Paragraph::new(self.lines(usize::from(area.width))), area);
    }

    fn lines(&self, width: usize) -> Vec<Line<'static>> {
        let now = &self.now;
        let second = &now.second;
        let answered = second.acknowledged + second.refused;
        let mut lines = vec![
            Line::from(vec![
                Span::from(format!("{} ", self.title)).bold(),
                Span::from(self.target.clone()),
                Span::from(format!("  {} s", now.elapsed.as_secs())),
            ]),
            Line::default(),
            labelled(
                "rate",
                format!(
                    "{}/s asked   {answered}/s answered   {} in flight",
                    second.due, second.in_flight
                ),
            ),
            labelled("sent", now.sent.to_string()),
        ];
        let statuses: Vec<String> =
            now.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        lines.push(labelled("answers", statuses.join("   ")));
        let errors: Vec<String> = now
            .failures
            .named()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name}: {count}"))
            .collect();
        let style = if errors.is_empty() { Style::new() } else { Style::new().fg(Color::Red) };
        lines.push(labelled("errors", errors.join("   ")).style(style));
        lines.push(Line::default());
        lines.push(Line::from(format!(
            "{:<12}{:>10}{:>10}{:>10}{:>10}",
            "from due", "p50", "p99", "p99.9", "max"
        )));
        let micros = |value: f64| Short(Duration::from_nanos((value * 1e3) as u64));
        let last = [second.p50, second.p99, second.p999, second.max].map(micros);
        for (name, values) in [("last second", last), ("in all", now.latency.map(Short))] {
            let values: String = values.iter().map(|value| format!("{value:>10}")).collect();
            lines.push(Line::from(format!("{name:<12}{values}")));
        }
        lines.push(Line::default());
        lines.extend(self.heat(width));
        lines
    }

    /// A row for each bucket of latency, the longest above, and a column for each second.
    fn heat(&self, width: usize) -> impl Iterator<Item = Line<'static>> {
        let columns = width.saturating_sub(LABEL).min(self.strip.len());
        (0..=Progress::HEAT.len()).rev().map(move |row| {
            let label = match Progress::HEAT.get(row) {
                Some(bound) => format!("<= {}", Short(*bound)),
                None => "longer".to_owned(),
            };
            // The last second at the right.
            let cells: String = self
                .strip
                .iter()
                .take(columns)
                .rev()
                .map(|counts| shade(counts.get(row).copied().unwrap_or(0), counts.iter().sum()))
                .collect();
            let colour = match row {
                0..4 => Color::Green,
                4..6 => Color::Yellow,
                _ => Color::Red,
            };
            let label = Span::from(format!("{label:<LABEL$}"));
            Line::from(vec![label, Span::styled(cells, Style::new().fg(colour))])
        })
    }
}

/// The width of what stands before values.
const LABEL: usize = 12;

fn labelled(name: &str, value: String) -> Line<'static> {
    Line::from(vec![Span::from(format!("{name:<LABEL$}")), Span::from(value)])
}

/// A character for `count` of `all`; whatever is there is seen.
fn shade(count: u64, all: u64) -> char {
    let step = match count * 100 / all.max(1) {
        _ if count == 0 => 0,
        0..5 => 1,
        5..25 => 2,
        25..60 => 3,
        _ => 4,
    };
    SHADES.get(step).copied().unwrap_or(' ')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use loadtest::{Failures, Second};
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn the_frame_shows_what_there_is() {
        let options = Options::new("http://u:pw@127.0.0.1:8080/hook".parse().unwrap());
        let mut view = View::new(&options);
        let ms = Duration::from_millis;
        for (seconds, heat) in
            [(1, [90, 10, 0, 0, 0, 0, 0, 0, 0]), (2, [0, 50, 40, 0, 0, 0, 0, 2, 8])]
        {
            view.take(Progress {
                elapsed: Duration::from_secs(seconds),
                sent: 200,
                acknowledged: 196,
                failed: 4,
                statuses: BTreeMap::from([(200, 196), (503, 3)]),
                failures: Failures { timeout: 1, ..Failures::default() },
                latency: [ms(1), ms(2), ms(30), ms(444)],
                second: Second {
                    due: 100,
                    acknowledged: 97,
                    refused: 2,
                    in_flight: 7,
                    p50: 250.0,
                    p99: 301_000.0,
                    p999: 444_000.0,
                    max: 444_000.0,
                    ..Second::default()
                },
                heat,
            });
        }
        let mut terminal = Terminal::new(TestBackend::new(60, 20)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let shown: Vec<String> = buffer
            .content()
            .chunks(60)
            .map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>())
            .map(|row| row.trim_end().to_owned())
            .collect();
        assert_eq!(
            shown,
            [
                "loadtest http://127.0.0.1:8080/hook  2 s",
                "",
                "rate        100/s asked   99/s answered   7 in flight",
                "sent        200",
                "answers     200: 196   503: 3",
                "errors      timeout: 1",
                "",
                "from due           p50       p99     p99.9       max",
                "last second     250 us    301 ms    444 ms    444 ms",
                "in all         1.00 ms   2.00 ms   30.0 ms    444 ms",
                "",
                "longer       ▒",
                "<= 300 ms    ░",
                "<= 100 ms",
                "<= 30.0 ms",
                "<= 10.0 ms",
                "<= 3.00 ms",
                "<= 1.00 ms   ▓",
                "<= 300 us   ▒▓",
                "<= 100 us   █",
            ]
        );
    }
}
