//! The page around charts and tables.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    bars,
    chart::{Picture, escaped},
    charts,
    input::Run,
    scale::{bytes, digits, duration, grouped},
    tables,
};

/// Colours and shapes of the charts, for the page and for pictures by themselves.
pub(super) const CHART_STYLE: &str = include_str!("chart.css");
const PAGE_STYLE: &str = include_str!("page.css");

/// Nothing is fetched and nothing is run: the page is what it is in the file.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// All pictures of the runs.
pub(super) fn pictures(runs: &[Run]) -> Vec<Picture> {
    let mut pictures: Vec<Picture> = charts::percentiles(runs).into_iter().collect();
    pictures.extend(charts::over_time(runs));
    pictures.extend(charts::throughput(runs));
    pictures.extend(bars::statuses(runs));
    pictures.extend(bars::stages(runs));
    pictures.extend(charts::stages_over_time(runs));
    pictures
}

pub(super) fn page(runs: &[Run]) -> String {
    let title = title(runs);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n\
         <style>\n{CHART_STYLE}{PAGE_STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header><h1>{}</h1>\n{}</header>\n",
        escaped(&title),
        escaped(&title),
        subtitle(runs)
    );
    match runs {
        [run] => html.push_str(&tiles(run)),
        runs => {
            section(&mut html, "How they compare", "The first run is 1.00.", &tables::ratios(runs))
        }
    }
    html.push_str(&warnings(runs));
    html.push_str(&expectations(runs));

    let picture = |picture: &Picture| format!("{}{}", picture.wide, picture.narrow);
    if let Some(chart) = charts::percentiles(runs) {
        let text = "Counted from when each request was due, so that a server that stalls cannot \
                    hide it by holding up the sender. Both axes are logarithmic: each step to the \
                    right is a rarer kind of slow.";
        section(&mut html, &chart.title, text, &(picture(&chart) + &tables::percentiles(runs)));
    }
    let charts = charts::over_time(runs);
    let details: String =
        runs.iter().filter(|run| !run.series.is_empty()).map(over_time_details).collect();
    let text = "Of the answers of each second, from due time.";
    match charts.as_slice() {
        [] => {}
        [chart] => section(&mut html, &chart.title, text, &(picture(chart) + &details)),
        charts => {
            let cell = |chart: &Picture| {
                format!("<div><h3>{}</h3>{}</div>", escaped(&chart.title), chart.narrow)
            };
            let cells: String = charts.iter().map(cell).collect();
            let grid = format!("<div class=\"pair\">{cells}</div>{details}");
            section(&mut html, "Latency over time", text, &grid);
        }
    }
    if let Some(chart) = charts::throughput(runs) {
        section(&mut html, &chart.title, "Answers of 2xx in each second.", &picture(&chart));
    }
    if let Some(chart) = bars::statuses(runs) {
        section(&mut html, &chart.title, "", &(picture(&chart) + &tables::statuses(runs)));
    }
    let asides: String = runs.iter().map(|run| asides(run, runs.len() > 1)).collect();
    if !asides.is_empty() {
        section(&mut html, "What else came of it", "", &asides);
    }
    if let Some(chart) = bars::stages(runs) {
        let slow: String = runs.iter().filter_map(tables::slow).collect();
        let text = "What the server says itself of an update's way; the time axis is logarithmic.";
        section(&mut html, &chart.title, text, &(picture(&chart) + &tables::stages(runs) + &slow));
    }
    for chart in charts::stages_over_time(runs) {
        section(&mut html, &chart.title, "From the server's interval log.", &picture(&chart));
    }
    let how: String = runs.iter().map(|run| how(run, runs.len() > 1)).collect();
    section(&mut html, "How it was run", "", &how);
    html.push_str(
        "<footer>Made by <code>loadtest report</code>. This file needs no network and runs no \
         script.</footer>\n</main>\n</body>\n</html>\n",
    );
    html
}

fn section(html: &mut String, title: &str, text: &str, content: &str) {
    let text = if text.is_empty() {
        String::new()
    } else {
        format!("<p class=\"sub\">{}</p>\n", escaped(text))
    };
    let _ = writeln!(html, "<section><h2>{}</h2>\n{text}{content}</section>", escaped(title));
}

fn title(runs: &[Run]) -> String {
    match runs {
        [run] => match &run.plan {
            Some(plan) => format!("Load test: {}", plan.name),
            None => format!("Load test: {}", run.label),
        },
        runs => runs.iter().map(|run| run.label.as_str()).collect::<Vec<_>>().join(" · "),
    }
}

fn subtitle(runs: &[Run]) -> String {
    let Some(run) = runs.first() else { return String::new() };
    let mut parts = Vec::new();
    if let Some(target) = run.options.get("target").and_then(Value::as_str) {
        parts.push(target.to_owned());
    }
    if let Some(connections) = run.options.get("connections").and_then(Value::as_u64) {
        parts.push(format!("{} connections", grouped(connections)));
    }
    parts.push(match run.rate_asked_per_s.or_else(|| run.options.get("rate_per_s")?.as_f64()) {
        Some(rate) => format!("{} updates a second asked", grouped(rate.round() as u64)),
        None => "as fast as it goes".to_owned(),
    });
    parts.push(format!("{} s", digits(run.duration_s)));
    if !run.started_at.is_empty() {
        parts.push(run.started_at.chars().take(16).collect::<String>().replace('T', " ") + " UTC");
    }
    let about = run.plan.as_ref().filter(|_| runs.len() == 1).map(|plan| plan.about.as_str());
    let about = about.filter(|about| !about.is_empty());
    let about = about.map(|about| format!("<p>{}</p>\n", escaped(about))).unwrap_or_default();
    format!("{about}<p class=\"sub\">{}</p>\n", escaped(&parts.join(" · ")))
}

/// The figures that people look for first.
fn tiles(run: &Run) -> String {
    let latency = &run.latency_us;
    let lost = run.planned.saturating_sub(run.acknowledged);
    let mut tiles = vec![
        ("p50".to_owned(), duration(latency.p50)),
        ("p99".to_owned(), duration(latency.p99)),
        ("p99.9".to_owned(), duration(latency.p999)),
        ("slowest".to_owned(), duration(latency.max)),
        ("answers per second".to_owned(), grouped(run.rate_per_s.round() as u64)),
        (format!("lost of {}", grouped(run.planned)), grouped(lost)),
    ];
    if let Some(us) = run.server_cpu_us() {
        tiles.push(("server's CPU per update".to_owned(), duration(us)));
    }
    if let Some(peak) = run.server_memory_peak() {
        tiles.push(("server's memory at its peak".to_owned(), bytes(peak)));
    }
    let tiles = tiles.iter().map(|(name, value)| {
        format!(
            "<div class=\"tile\"><b>{}</b><span>{}</span></div>\n",
            escaped(value),
            escaped(name)
        )
    });
    format!("<div class=\"tiles\">\n{}</div>\n", tiles.collect::<String>())
}

/// The settings without which runs do not compare.
const LOAD: [&str; 9] = [
    "churn",
    "connections",
    "duplicates",
    "phases",
    "rate_per_s",
    "resume",
    "retry_scale",
    "slow_peers",
    "tls",
];

/// Which of the settings are not the same in all runs.
fn differences(runs: &[Run]) -> Vec<String> {
    let of = |run: &Run, key: &str| run.options.get(key).cloned().unwrap_or_default();
    let differs = |key: &&str| {
        runs.windows(2).any(|pair| match pair {
            [a, b] => of(a, key) != of(b, key),
            _ => false,
        })
    };
    LOAD.into_iter().filter(differs).map(|key| key.replace('_', " ")).collect()
}

fn warnings(runs: &[Run]) -> String {
    let differences = differences(runs);
    let mut html = String::new();
    if !differences.is_empty() {
        let text = format!("The runs were not asked for the same: {}.", differences.join(", "));
        let _ = writeln!(html, "<p class=\"warn\"><b>Be careful.</b> {}</p>", escaped(&text));
    }
    for (run, text) in runs.iter().flat_map(|run| run.warnings.iter().map(move |text| (run, text)))
    {
        let whose = if runs.len() > 1 { format!("{}: ", run.label) } else { String::new() };
        let text = escaped(&format!("{whose}{text}"));
        let _ = writeln!(html, "<p class=\"warn\"><b>Be careful.</b> {text}</p>");
    }
    html
}

fn expectations(runs: &[Run]) -> String {
    let mut rows = Vec::new();
    for run in runs {
        for it in &run.expectations {
            let verdict = match it.ok {
                true => "<span class=\"ok\">✓ holds</span>",
                false => "<span class=\"broken\">✗ does not hold</span>",
            };
            let mut row = vec![escaped(&it.name)];
            if runs.len() > 1 {
                row = vec![escaped(&run.label), escaped(&it.name)];
            }
            row.extend([escaped(&it.bound), escaped(&it.value), verdict.to_owned()]);
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let columns: &[&str] = match runs.len() {
        1 => &["", "expected", "found", ""],
        _ => &["run", "", "expected", "found", ""],
    };
    let mut html = String::new();
    section(&mut html, "What was expected", "", &tables::table("", columns, &rows));
    html
}

fn over_time_details(run: &Run) -> String {
    format!(
        "<details><summary>{} in numbers</summary>{}</details>\n",
        escaped(&run.label),
        tables::over_time(run)
    )
}

fn asides(run: &Run, is_named: bool) -> String {
    let lists = tables::asides(run).into_iter();
    lists
        .map(|(name, facts)| {
            let whose = if is_named { format!("{}: ", run.label) } else { String::new() };
            format!("<h3>{}</h3>\n{}", escaped(&format!("{whose}{name}")), definitions(&facts))
        })
        .collect()
}

/// Names and what they stand for.
fn definitions(facts: &[(String, String)]) -> String {
    let mut html = String::from("<dl>");
    for (name, value) in facts {
        let _ = writeln!(html, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value));
    }
    html.push_str("</dl>\n");
    html
}

/// Machine, command and everything that was asked for.
fn how(run: &Run, is_named: bool) -> String {
    let mut html = String::new();
    if is_named {
        let _ = writeln!(html, "<h3>{}</h3>", escaped(&run.label));
    }
    if !run.command.is_empty() {
        let words: Vec<String> = run.command.iter().map(|word| quoted(word)).collect();
        let _ = writeln!(html, "<pre>{}</pre>", escaped(&words.join(" ")));
    }
    let machine = &run.machine;
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            facts.push((name.to_owned(), value));
        }
    };
    if machine.cpus > 0 {
        fact(
            "machine",
            format!("{} × {}, {}", machine.cpus, machine.cpu, bytes(machine.memory_bytes)),
        );
    }
    fact("kernel", machine.kernel.clone());
    fact("generator's driver", run.driver.clone());
    if let Some(server) = &run.server {
        let threads = match (server.shards, server.workers) {
            (Some(shards), Some(workers)) => format!(", {shards} shards, {workers} workers"),
            _ => String::new(),
        };
        if !server.driver.is_empty() {
            fact("server", format!("{}{threads}", server.driver));
        }
        if let Some(cpu) = server.cpu_s {
            fact("server's CPU time", format!("{} s", digits(cpu)));
        }
    }
    if let Some(plan) = &run.plan {
        fact("plan", format!("{}: {}", plan.name, plan.about));
    }
    fact("started", run.started_at.clone());
    let cpu = (run.cpu_user_s + run.cpu_system_s, run.duration_s.max(1e-9));
    fact(
        "generator's CPU",
        format!(
            "{} of one CPU, {} for a request",
            percent(cpu.0 / cpu.1),
            duration(run.generator_cpu_us())
        ),
    );
    for (name, value) in &run.options {
        let value = match value {
            Value::Null | Value::Bool(false) => continue,
            Value::Array(list) if list.is_empty() => continue,
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        fact(&name.replace('_', " "), value);
    }
    html.push_str(&definitions(&facts));
    html
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
