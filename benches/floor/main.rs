//! The floor: what every receiver of the same updates has to pay. Each piece is measured in the
//! same run on the same bytes, those of the load generator's requests and of ringhook's answers:
//!
//! - echo: TCP alone. As many bytes as the encrypted request come in, as many as the encrypted
//!   answer go out, over 200 connections with one request in flight each; server and client have a
//!   CPU each. The best of several methods of talking to the kernel counts.
//! - aes-gcm: the request's record opened and the answer's sealed, in place, with the library and
//!   the cipher that ringhook uses.
//! - httparse: the request's head split into its fields.
//! - simd-json: the body copied once into padded memory and parsed there to a tape.
//!
//! `cargo bench --bench floor -- [--rounds N] [--seconds S] [--json FILE]`
#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod echo;
mod pieces;
mod report;
mod requests;
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

use std::{fs, path::PathBuf, time::Duration};

use self::{echo::ECHOES, report::FloorReport, requests::Requests};

fn main() {
    let asked = Asked::new(std::env::args().skip(1));
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    let [server, client, ..] = cpus[..] else {
        println!("the floor needs two CPUs, one for the server and one for the client");
        std::process::exit(1);
    };
    let requests = Requests::new();
    let mut report = FloorReport::new(&requests, &asked);
    for round in 1..=asked.rounds {
        eprintln!("round {round} of {}", asked.rounds);
        for echo in &ECHOES {
            match echo::measure(echo, &requests, [server, client], asked.span) {
                Ok(sample) => report.echo(echo.name, sample),
                Err(error) => eprintln!("{}: {error}", echo.name),
            }
        }
        pieces::measure(&requests, server, |piece, us| report.piece(piece, us));
    }
    print!("{report}");
    if let Some(file) = &asked.json {
        fs::write(file, report.to_json()).unwrap();
    }
}

/// The arguments of the command line.
struct Asked {
    json: Option<PathBuf>,
    rounds: usize,
    /// Of each echo in each round, after a quarter of it as warm-up.
    span: Duration,
}

impl Asked {
    fn new(mut args: impl Iterator<Item = String>) -> Self {
        let mut asked = Self { json: None, rounds: 5, span: Duration::from_secs(2) };
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
            match arg.as_str() {
                // Cargo passes it to every bench.
                "--bench" => {}
                "--json" => asked.json = Some(value().into()),
                "--rounds" => asked.rounds = value().parse().unwrap(),
                "--seconds" => asked.span = Duration::from_secs_f64(value().parse().unwrap()),
                _ => panic!("unknown: {arg}"),
            }
        }
        asked
    }
}
