//! The bots that poll.

use maud::{Markup, html};
use pagecharts::scale::grouped;
use ringhook_outputs::getupdates::GetUpdatesStatus;

use super::{
    sections::{more, section},
    tables::{OUTPUTS, table},
    words::ago,
};

/// The consumers of each output for bots that poll.
pub(super) fn consumers(outputs: &[(String, GetUpdatesStatus)]) -> Markup {
    let all: Vec<_> = outputs
        .iter()
        .flat_map(|(name, it)| it.consumers.iter().map(move |consumer| (name, consumer)))
        .collect();
    if outputs.is_empty() {
        return html! {};
    }
    let columns = ["output and bot", "last asked", "waiting", "not confirmed", "oldest"];
    section(
        "Bots that poll",
        "",
        &html! {
            (table("Bots that poll", "Consumers of each bot", &columns, &html! {
                @for (name, it) in all.iter().take(OUTPUTS) {
                    tr {
                        th scope="row" {
                            (name) " " span.text { (it.bot) }
                            @if it.consumer > 1 { " " (it.consumer) }
                        }
                        td {
                            @match it.silent {
                                Some(silent) => { (ago(silent)) " ago" }
                                None if it.has_asked => span.ok { "asks now" },
                                None => "never",
                            }
                        }
                        td { (grouped(it.waiting)) }
                        td { (grouped(it.unconfirmed)) }
                        td { (it.oldest.map_or("–".to_owned(), ago)) }
                    }
                }
            }))
            (more(all.len(), OUTPUTS))
        },
    )
}
