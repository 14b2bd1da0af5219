//! A table of raw requests, each with what has to become of it: the answers, the connection, and
//! what reaches the handler. Where an RFC has a say, the entry names the section.
//!
//! Every entry is tried on the sans-I/O path (`sans_io`) and on real TLS sockets (`wire`): whole,
//! cut at each byte, and with a good request behind it in the same record, which has to be answered
//! if and only if the connection stays open.
//!
//! | file | what its requests are about |
//! |---|---|
//! | `request_line` | method, target and version as a line; empty lines before it |
//! | `fields` | the form of header fields, their limits, credentials, codings of the content |
//! | `framing` | Content-Length and Transfer-Encoding, alone and against each other |
//! | `chunked` | sizes, extensions, trailers |
//! | `target` | which path is meant, and which host |
//! | `methods` | everything but POST |
//! | `connections` | who stays, who goes; pipelining; `Expect` |
//! | `garbage` | bytes that are no request |

mod chunked;
mod connections;
mod entry;
mod fields;
mod framing;
mod garbage;
mod methods;
mod request_line;
mod sans_io;
mod target;
mod wire;

use entry::Entry;
use ringhook::{BasicAuth, Bot};

/// Bytes that a head may have here: the least there is, so that entries over it are short.
const HEAD_BYTES: usize = 512;
/// Bytes that a target may have then.
const TARGET_BYTES: usize = 256;
/// Bytes that a body may have here, likewise.
const BODY_BYTES: usize = 1024;
/// The defaults of extensions and trailers.
const EXTENSION_BYTES: usize = 1024;
const TRAILER_BYTES: usize = 1024;

/// The bots that entries are sent to: one without a secret, whose path is short, one with a token,
/// one with user and password, one that has a host of its own.
fn bots() -> Vec<Bot> {
    let mut basic = Bot::without_secret("basic", "/b");
    basic.basic_auth = Some(BasicAuth::new("u:p", "bot.basic_auth").unwrap());
    let mut named = Bot::without_secret("named", "/n");
    named.host = Some("n.example".to_owned());
    vec![Bot::without_secret("open", "/o"), Bot::new("shop", "/s", "t").unwrap(), basic, named]
}

/// All entries.
fn table() -> Vec<Entry> {
    [
        request_line::entries(),
        fields::entries(),
        framing::entries(),
        chunked::entries(),
        target::entries(),
        methods::entries(),
        connections::entries(),
        garbage::entries(),
    ]
    .concat()
}

#[test]
fn the_table_is_as_large_as_promised_and_its_names_are_unique() {
    let table = table();
    assert!(table.len() >= 120, "{}", table.len());
    let mut names: Vec<_> = table.iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    assert_eq!(names.windows(2).find(|pair| pair[0] == pair[1]), None);
    let bytes: usize = table.iter().map(|entry| entry.bytes.len()).sum();
    println!("{} entries, {bytes} bytes", table.len());
}
