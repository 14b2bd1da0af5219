//! The status page of `ringhook serve`, as a client gets it and as a browser shows it.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpListener},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{
    alerts::{take_all, watched_bot},
    metrics::series,
};
use crate::{
    binary::{
        process::{self, Process},
        service::Service,
    },
    browser::Browser,
    support::{
        PATH, PATIENCE, SECRET,
        bot_api::{self, FakeBotApi},
        client::Client,
        port::Port,
        probe::{ask, ask_with},
        request_to, update, wait_until,
    },
};

const PROBE: &str = include_str!("../../../../loadtest/tests/support/probe.js");
/// In the text of each update, in a path that is not there, in a secret that is wrong.
const MARK: &str = "markedmarked";
/// As a bot's token in a path.
const TOKEN: &str = "123456789:AAmarkedmarkedmarkedmarkedmarkedmark";

/// A server with a journal, an output that takes everything and one whose target is not there.
struct Scene {
    admin: SocketAddr,
    server: Process,
    service: Service,
}

impl Scene {
    fn new() -> Self {
        let admin = Port::reserve();
        let nowhere = Port::reserve();
        let config = format!(
            "[[output]]\nname = 'all'\nto = 'null'\n\
             [[output]]\nname = 'shop'\nto = 'http://{}/{TOKEN}?{MARK}'\n\
             [[route]]\nto = ['all', 'shop']\n",
            nowhere.addr
        );
        let service = Service::new(&config, &["--admin", &admin.addr.to_string()]);
        Self { admin: admin.addr, server: service.start(), service }
    }

    fn page(&self) -> String {
        let (status, body) = ask(self.admin, "/");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Sends updates, and requests that are refused.
    fn trouble(&self) -> Client {
        let mut client = self.service.connect();
        for id in 1..=50 {
            let body = update(id).replace("hello", MARK);
            assert_eq!(client.post(&body).status, 200);
        }
        for (path, secret, status) in [
            (PATH, MARK, 403),
            (&*format!("/{MARK}"), SECRET, 404),
            (&*format!("/bot{TOKEN}"), SECRET, 404),
        ] {
            client.send(&request_to(path, secret, &update(1)));
            assert_eq!(client.response().status, status);
        }
        client.send(&request_to(PATH, SECRET, &format!("{{\"{MARK}\":1}}")));
        assert_eq!(client.response().status, 400);
        client
    }

    /// Waits until the page shows what has come of [`trouble`](Self::trouble) and the history has
    /// points enough for lines.
    fn settled(&self) -> String {
        let words = ["no_update_id", "auth_failed", "unknown_path", "down for"];
        wait_until("the page shows it", || {
            let page = self.page();
            words.iter().all(|word| page.contains(word)) && page.matches("class=\"line").count() > 6
        });
        self.page()
    }
}

/// All elements are closed in the order in which they were opened.
fn assert_well_formed(page: &str) {
    let void = ["meta", "br", "hr", "img", "input", "link"];
    let body = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    let mut open = Vec::new();
    for tag in body.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        let name: String = tag.chars().take_while(|letter| !" \n".contains(*letter)).collect();
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name), "</{name}>"),
            None if void.contains(&&*name) => {}
            None => open.push(name),
        }
    }
    assert_eq!(open, Vec::<String>::new());
    let mut ids: Vec<_> =
        body.split(" id=\"").skip(1).filter_map(|it| it.split('"').next()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "ids are unique");
}

#[test]
fn the_page_shows_what_there_is_and_nothing_of_what_was_sent() {
    let scene = Scene::new();
    let client = scene.trouble();
    let page = scene.settled();
    assert_well_formed(&page);
    for part in [
        "Updates are taken",
        "degraded",
        "Recent webhook requests",
        "Incidents",
        "Outputs",
        "Journal",
        "Certificates",
        "Webhooks",
        "Threads and CPUs",
        "ringhook-s0",
        "Config",
        "[[output]]",
        "127.0.0.1",
        ">test<",
        ">wrong<",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let (_, requests) = ask(scene.admin, "/requests");
    let (_, incidents) = ask(scene.admin, "/incidents");
    for (what, text) in [("/", &page), ("/requests", &requests), ("/incidents", &incidents)] {
        for secret in [MARK, SECRET, TOKEN, "AAmarked"] {
            let at = text.find(secret).map(|at| &text[at.saturating_sub(300)..at + 100]);
            assert_eq!(at, None, "{secret} in {what}");
        }
    }
    let refused: Value = serde_json::from_str(&ask(scene.admin, "/requests?status=403").1).unwrap();
    assert_eq!(refused["requests"][0]["detail"], "wrong");
    drop(client);
}

/// The row of the page whose first cell is `name`, cell by cell, without markup and thin spaces.
fn row(page: &str, name: &str) -> Vec<String> {
    row_where(page, |cells| cells[0] == name)
}

/// The same of the first row that `is_it` takes.
#[track_caller]
fn row_where(page: &str, is_it: impl Fn(&[String]) -> bool) -> Vec<String> {
    let rows = page.split("<tr>").skip(1).filter_map(|row| row.split("</tr>").next());
    let text = |cell: &str| {
        let parts = cell.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
        parts.collect::<String>().replace('\u{202f}', "").trim().to_owned()
    };
    let cells = |row: &str| {
        let cells = row.replace("</th>", "</td>");
        cells.split("</td>").map(text).collect::<Vec<_>>()
    };
    rows.map(cells).find(|cells| is_it(cells)).unwrap_or_else(|| panic!("no such row in {page}"))
}

/// The fact of the page that is called `name`.
fn fact(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("<dt>{name}</dt><dd>")).expect(name);
    rest.split('<').next().unwrap().replace('\u{202f}', "")
}

/// The figure of the page that is called `name`.
fn tile(page: &str, name: &str) -> String {
    let (before, _) = page.split_once(&format!("</b><span>{name}</span>")).expect(name);
    before.rsplit('>').next().unwrap().replace('\u{202f}', "")
}

/// What the page of a server at rest says that `metrics` do not: name, and both values.
fn differences(page: &str, metrics: &BTreeMap<String, f64>) -> Vec<(String, String, f64)> {
    let sum = |family: &str, has: &str| {
        let family = format!("ringhook_{family}");
        let is_it = |name: &str| name.split('{').next() == Some(&family) && name.contains(has);
        metrics.iter().filter(|(name, _)| is_it(name)).map(|(_, value)| value).sum::<f64>()
    };
    let status_200 = sum("requests_total", "status=\"200\"");
    let mut pairs = vec![
        ("requests", fact(page, "requests"), sum("requests_total", "")),
        (
            "refused",
            fact(page, "of these, not answered with 200"),
            sum("requests_total", "") - status_200,
        ),
        (
            "forbidden",
            fact(page, "of these, without the right secret"),
            sum("requests_forbidden_total", ""),
        ),
        ("updates", fact(page, "updates"), sum("updates_received_total", "")),
        ("503", fact(page, "of these, answered 503"), sum("updates_refused_total", "")),
        ("duplicates", fact(page, "of these, duplicates"), sum("updates_duplicate_total", "")),
        (
            "handled",
            fact(page, "updates handled, by all outputs"),
            sum("updates_handled_total", ""),
        ),
        ("failed", fact(page, "updates that failed"), sum("updates_failed_total", "")),
        ("connections", fact(page, "connections"), sum("connections_accepted_total", "")),
        ("segments", fact(page, "segments"), sum("journal_segments", "")),
        ("written", fact(page, "written"), sum("journal_records_total", "")),
        ("lag", fact(page, "not settled"), sum("journal_lag_records", "")),
        ("waiting", tile(page, "updates that wait"), sum("unsettled_updates", "")),
        ("webhook", row(page, "shop")[2].clone(), sum("webhook_pending_updates", "\"shop\"")),
    ];
    for name in ["all", "taken", "gone"] {
        let row = row(page, name);
        for (place, family) in [
            (2, "output_handled_total"),
            (3, "output_failed_total"),
            (4, "output_retried_total"),
            (5, "queue_updates"),
        ] {
            pairs.push((family, row[place].clone(), sum(family, &format!("output=\"{name}\""))));
        }
    }
    for name in ["taken", "gone"] {
        let row = row_where(page, |cells| cells[0].starts_with(&format!("{name} http")));
        let output = format!("output=\"{name}\"");
        pairs.push(("in flight", row[3].clone(), sum("forward_in_flight_updates", &output)));
        pairs.push(("waiting", row[4].clone(), sum("forward_waiting_updates", &output)));
    }
    for stage in ["read", "parse", "commit", "answer", "whole"] {
        let count = sum("stage_duration_seconds_count", &format!("stage=\"{stage}\""));
        pairs.push((stage, row(page, stage)[1].clone(), count));
    }
    for kind in ["auth_failed", "unknown_path", "malformed_update"] {
        let count = sum("incidents_total", &format!("kind=\"{kind}\""));
        let row = row_where(page, |cells| cells.get(1).is_some_and(|cell| cell == kind));
        pairs.push((kind, row[5].clone(), count));
    }
    let until = sum("certificate_not_after_timestamp_seconds", "name=\"default\"");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let days = ((until - now) / 86_400.0).floor();
    pairs.push(("days", row(page, "localhost")[1].clone(), days));
    let differ = |(_, shown, value): &(&str, String, f64)| {
        shown.trim_end_matches(" update(s)").parse() != Ok(*value)
    };
    let pairs = pairs.into_iter().filter(differ);
    pairs.map(|(name, shown, value)| (name.to_owned(), shown, value)).collect()
}

#[test]
fn values_on_it_equal_those_of_metrics() {
    let api = FakeBotApi::builder().time_scale(20).start();
    let [admin, taken, gone, nowhere] = [(); 4].map(|()| Port::reserve());
    let config = format!(
        "[[output]]\nname = 'all'\nto = 'null'\n\
         [[output]]\nname = 'taken'\nto = 'http://{}/'\n\
         [[output]]\nname = 'gone'\nto = 'http://{}/'\n\
         [[route]]\nto = ['all', 'taken', 'gone']\n{}",
        taken.addr,
        gone.addr,
        watched_bot(&api, nowhere.addr.port())
    );
    let service = Service::new(&config, &["--admin", &admin.addr.to_string()]);
    let dir = service.pki.dir();
    fs::write(dir.join("token"), bot_api::TOKEN).unwrap();
    let args = ["webhook", "set", "--bot", "shop", "--config", "ringhook.toml"];
    let (code, _, stderr) = process::run(dir, &args);
    assert_eq!(code, 0, "{stderr}");
    take_all(TcpListener::bind(taken.addr).unwrap());
    let scene = Scene { admin: admin.addr, server: service.start(), service };
    let mut client = scene.trouble();
    // Copies, each in a chat whose lane goes on where it can.
    for id in 1..=7 {
        assert_eq!(client.post(&update(id)).status, 200);
    }
    drop(client);
    api.push_many(3);
    let metrics = || {
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        series(&ask_with(scene.admin, request).unwrap().2)
    };
    wait_until("it is at rest", || {
        let metrics = metrics();
        let value = |name: &str| metrics[&format!("ringhook_{name}")];
        value("connections_open") == 0.0
            && value("webhook_pending_updates{bot=\"shop\"}") == 3.0
            && value("updates_handled_total") == 100.0
            && value("updates_duplicate_total") > 0.0
            && value("forward_waiting_updates{output=\"gone\"}") > 0.0
            && value("lag_seconds") >= value("forward_oldest_seconds{output=\"gone\"}").floor()
            && value("unsettled_updates") == value("journal_lag_records")
    });
    // The target that is gone is tried now and then, which may be between the two.
    let start = Instant::now();
    loop {
        let differing = differences(&scene.page(), &metrics());
        if differing.is_empty() {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "page and metrics: {differing:?}");
    }
}

/// What the page says of a server at rest is what its report says in the end.
#[test]
fn the_page_says_what_the_report_says() {
    let scene = Scene::new();
    let client = scene.trouble();
    scene.settled();
    wait_until("all is handled", || row(&scene.page(), "all")[2] == "50");
    let page = scene.page();
    drop(client);
    let Scene { server, service, .. } = scene;
    server.terminate();
    let report = service.report();
    let stages = report["latency_us"].as_object().unwrap();
    for stage in ["read", "parse", "commit", "answer"] {
        assert_eq!(row(&page, stage)[1], stages[stage]["count"].to_string(), "{stage}");
    }
    let all = &report["outputs"][0];
    assert_eq!(all["name"], "all");
    for (place, name) in [(2, "handled"), (3, "failed"), (4, "retried")] {
        assert_eq!(row(&page, "all")[place], all[name].to_string(), "{name}");
    }
    let journal = &report["journal"];
    let written = format!("<dt>written</dt><dd>{} update(s)</dd>", journal["appended_records"]);
    assert!(page.contains(&written), "{written} in {page}");
}

#[test]
fn the_page_is_sent_so_that_no_browser_lets_it_do_anything() {
    let scene = Scene::new();
    let get = |target: &str, host: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        ask_with(scene.admin, request.as_bytes()).unwrap()
    };
    let (line, fields, body) = get("/", "localhost:9464");
    assert_eq!(line, "HTTP/1.1 200 OK");
    for field in [
        "Content-Type: text/html; charset=utf-8",
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Referrer-Policy: no-referrer",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
    ] {
        assert!(fields.split("\r\n").any(|it| it == field), "{field} in {fields}");
    }
    assert!(body.contains("http-equiv=\"refresh\" content=\"5\""));
    assert!(get("/?refresh=1", "127.0.0.1").2.contains("http-equiv=\"refresh\" content=\"1\""));
    assert!(!get("/?refresh=off", "[::1]:80").2.contains("http-equiv=\"refresh\""));
    assert_eq!(get("/?refresh=0", "localhost").0, "HTTP/1.1 400 Bad Request");
    // A name of someone else's that leads to this machine.
    for target in ["/", "/requests", "/incidents", "/metrics"] {
        for host in ["evil.example", "localhost.evil.example:9464", "a"] {
            assert_eq!(get(target, host).0, "HTTP/1.1 403 Forbidden", "{target} at {host}");
        }
    }
    assert_eq!(get("/healthz", "evil.example").0, "HTTP/1.1 200 OK");
    assert_eq!(get("/readyz", "evil.example").0, "HTTP/1.1 200 OK");
}

/// What holds in every window: nothing is fetched, run or complained of; everything can be read;
/// nothing has to be pushed sideways.
#[test]
fn a_browser_shows_it_in_light_and_dark_on_desk_and_phone() {
    let Some(mut browser) = Browser::start() else { return };
    let scene = Scene::new();
    let client = scene.trouble();
    scene.settled();
    let url = format!("http://{}/?refresh=off", scene.admin);
    for (width, scheme) in [(1000, "light"), (1000, "dark"), (400, "light"), (400, "dark")] {
        let opened = browser.visit(&url, width, scheme, PROBE);
        let context = format!("{scheme}, {width} px");
        assert_eq!(opened.complaints, Vec::<String>::new(), "{context}");
        assert_eq!(opened.requests, [&*url], "{context}");
        let found = opened.found;
        assert_eq!(found["scripts"], 0, "{context}");
        assert_eq!(found["window"], width, "{context}");
        assert!(found["width"].as_u64() <= Some(width.into()), "{context}: {}", found["width"]);
        let background = found["background"].as_f64().unwrap();
        assert_eq!(background < 0.2, scheme == "dark", "{context}: {background}");
        // What WCAG 2 asks of text (AA), and of lines.
        let faintest = &found["faintest"];
        assert!(faintest[0].as_f64().unwrap() >= 4.5, "{context}: {faintest}");
        let charts = found["charts"].as_array().unwrap();
        assert!(charts.len() >= 5, "{context}: {charts:?}");
        for chart in charts {
            let context = format!("{context}: {}", chart["title"]);
            assert_eq!(chart["described"], true, "{context}");
            assert_eq!(chart["overlaps"], json!([]), "{context}");
            assert_eq!(chart["outside"], json!([]), "{context}");
            assert!(chart["letters"].as_f64().unwrap() >= 10.5, "{context}: {}", chart["letters"]);
            for line in chart["lines"].as_array().unwrap() {
                assert!(line["contrast"].as_f64().unwrap() >= 3.0, "{context}: {line}");
            }
        }
    }
    drop(client);
}

#[test]
fn with_two_thousand_bots_it_stays_small() {
    let admin = Port::reserve();
    let bots = (0..2000).map(|n| {
        format!("[[bot]]\nname = 'bot{n}'\npath = '/bot{n}'\nsecret_token = '{SECRET}{n}'\n")
    });
    let args = ["--output", "null", "--admin", &admin.addr.to_string()];
    let service = Service::new(&bots.collect::<String>(), &args);
    let server = service.start();
    let mut client = service.connect();
    for n in 0..500 {
        client.send(&request_to(&format!("/bot{n}"), "wrong", &update(n)));
        assert_eq!(client.response().status, 403);
        client.send(&request_to(&format!("/bot{n}"), &format!("{SECRET}{n}"), &update(n)));
        assert_eq!(client.response().status, 200);
    }
    wait_until("all lists are full", || {
        let (_, page) = ask(admin.addr, "/");
        page.contains("bot499") && page.matches("<tr>").count() > 80
    });
    let (_, page) = ask(admin.addr, "/");
    assert!(page.len() < 200_000, "{} bytes", page.len());
    assert_well_formed(&page);
    assert!(page.contains(" more: "), "the config is cut");
    assert_eq!(server.terminate().status.code(), Some(0));
}
