//! The status page: everything that the server knows of itself, on one page without scripts.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | the page and the order of its sections |
//! | `charts` | the pictures of the last hour |
//! | `sections` | state, traffic, latency, journal, threads, config |
//! | `getupdates` | bots that poll |
//! | `tables` | requests, incidents, outputs, certificates, webhooks |
//! | `words` | times and numbers as people read them |

mod charts;
mod getupdates;
mod sections;
mod tables;
mod words;

use std::time::{Duration, SystemTime};

use maud::{DOCTYPE, PreEscaped, html};
use pagecharts::{CHART_STYLE, PAGE_STYLE};
use ringhook::{Report, ServerView};
use ringhook_outputs::forward::ForwardStatus;

use self::words::{ago, clock};
use crate::{Program, history::History, threads::Threads};

/// Nothing is fetched, run, sent or framed.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                                 form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = include_str!("status.css");
/// Seconds between two loads of the page, where no others are asked for.
const REFRESH: u32 = 5;
const REFRESH_MAX: u32 = 3600;

/// What the page is made of.
pub(crate) struct Shown<'a> {
    pub(crate) forwards: &'a [(String, ForwardStatus)],
    pub(crate) history: &'a History,
    /// For how long the oldest update has waited, as far as it is known.
    pub(crate) lag: Duration,
    pub(crate) program: &'a dyn Program,
    pub(crate) report: &'a Report,
    pub(crate) server: &'a ServerView,
    pub(crate) threads: &'a Threads,
    pub(crate) now: SystemTime,
}

/// How often the page is loaded anew: `?refresh=SECONDS`, or `?refresh=off`.
///
/// # Errors
/// What is wrong with the query.
pub(crate) fn refresh(query: &str) -> Result<Option<u32>, &'static str> {
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("refresh="));
    match asked {
        None => Ok(Some(REFRESH)),
        Some("off") => Ok(None),
        Some(seconds) => match seconds.parse() {
            Ok(seconds @ 1..=REFRESH_MAX) => Ok(Some(seconds)),
            _ => Err("refresh: expected seconds from 1 to 3600, or off"),
        },
    }
}

/// The page as HTML. Each row of each list is bounded, and so the page is.
pub(crate) fn html(shown: &Shown<'_>, refresh: Option<u32>) -> String {
    let Shown { forwards, history, lag, program, report, server, threads, now } = *shown;
    let uptime = Duration::from_secs_f64(report.uptime_s.max(0.0));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(seconds) = refresh {
                    meta http-equiv="refresh" content=(seconds);
                }
                title { (sections::title(server)) }
                style { (PreEscaped(CHART_STYLE)) (PreEscaped(PAGE_STYLE)) (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header {
                        h1 { "ringhook" }
                        p.sub {
                            (env!("CARGO_PKG_VERSION")) " · up for " (ago(uptime)) " · "
                            (report.shards) " shard(s), " (report.workers) " worker(s), "
                            (report.driver) " · " (clock(now))
                        }
                        p.sub {
                            @match refresh {
                                Some(seconds) => {
                                    "Loads itself every " (seconds) " s. "
                                    a href="?refresh=off" { "Stop that" }
                                }
                                None => { "Does not load itself. " a href="?" { "Do it every 5 s" } }
                            }
                        }
                    }
                    (sections::state(server))
                    (sections::tiles(history, report, lag))
                    (sections::traffic(history, report))
                    (sections::latency(history, report))
                    (tables::requests(server, now))
                    (tables::incidents(server, now))
                    (tables::outputs(server, report, forwards, now))
                    (getupdates::consumers(&program.getupdates()))
                    (sections::journal(report, server.config().journal.max_bytes))
                    (tables::certificates(server, now))
                    (tables::webhooks(&report.webhook, program))
                    (sections::threads(report, threads))
                    (sections::config(program))
                    footer {
                        nav aria-label="Other pages" {
                            @for page in ["/metrics", "/requests", "/incidents", "/readyz", "/healthz"] {
                                a href=(page) { (page) } " "
                            }
                        }
                        p { "This page fetches nothing and runs no script." }
                    }
                }
            }
        }
    };
    // HTML has no control characters but these two, not even escaped.
    let is_hidden = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    page.into_string().replace(is_hidden, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_how_often_it_is_loaded() {
        assert_eq!(refresh(""), Ok(Some(5)));
        assert_eq!(refresh("a=b&refresh=1"), Ok(Some(1)));
        assert_eq!(refresh("refresh=off"), Ok(None));
        for wrong in ["refresh=", "refresh=0", "refresh=3601", "refresh=5;url=x"] {
            assert!(refresh(wrong).is_err(), "{wrong}");
        }
    }
}
