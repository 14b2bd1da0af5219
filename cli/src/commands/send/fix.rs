//! What to do where an update was not taken.

use super::target::SendTarget;
use crate::telegram::sender::{Answer, Failure, Phase};

/// What to do about an answer other than 2xx.
pub(crate) fn of_answer(answer: &Answer, send_target: &SendTarget) -> String {
    let known = send_target.known.as_ref();
    match answer.status {
        100..=199 => "Telegram takes it for the answer: the server must not send it".to_owned(),
        300..=399 => "Telegram follows no redirect: use the URL that it leads to".to_owned(),
        400 => "the server takes it for no update: see its log".to_owned(),
        401 if known.is_none() => {
            "the webhook asks for a user: write the URL as https://user:password@host/path"
                .to_owned()
        }
        401 | 403 => match known {
            Some(known) => match not_on(send_target) {
                Some(fix) => fix,
                None => format!(
                    "the server wants other credentials than those of bot {:?} ({}): has it read \
                     this config, or is it another server?",
                    known.bot, known.credentials
                ),
            },
            None if send_target.secret_token.is_none() => {
                "the webhook asks for a secret token: give --secret-token-file".to_owned()
            }
            None => "the secret token is not that of the webhook, or this machine is not on its \
                     list of addresses"
                .to_owned(),
        },
        404 => format!(
            "no bot of the server is at {} for the host {}: has it read this config?",
            send_target.target.path, send_target.target.authority
        ),
        405 => "the server takes no POST there: is the path right?".to_owned(),
        408 => "it took the server too long to get the request: see its log".to_owned(),
        413 => "the update is longer than the server takes (limits.body_bytes)".to_owned(),
        429 | 503 => {
            let when = match answer.retry_after {
                Some(seconds) => format!(" after {seconds} s"),
                None => String::new(),
            };
            format!(
                "the server has no room now: look at updates_refused of its report and at /readyz. \
                 Telegram would come again{when}"
            )
        }
        500..=599 => "the server has failed: see its log".to_owned(),
        _ => "Telegram counts only 2xx as delivered".to_owned(),
    }
}

/// What to do where there is no answer.
pub(super) fn of_failure(failure: &Failure, send_target: &SendTarget) -> String {
    let known = send_target.known.as_ref();
    match failure {
        _ if failure.is_refused() => match known {
            Some(_) => "nothing listens there: start `ringhook serve`, or say with --listen or \
                        --config where it is"
                .to_owned(),
            None => "nothing listens there: is the port right, and the server started?".to_owned(),
        },
        Failure::Certificate(_) => {
            "Telegram would refuse it, too: have the server serve one that is \
                                    valid and for that host; --insecure sends all the same"
                .to_owned()
        }
        Failure::Untrusted => match known {
            Some(known) => {
                let files: Vec<_> =
                    known.certificates.iter().map(|path| path.display().to_string()).collect();
                format!(
                    "the server shows another one than {}: has it read this config, or is it \
                     another server? --insecure sends all the same",
                    files.join(" or ")
                )
            }
            None => {
                "where it was uploaded to Telegram, give it with --ca; else the server's chain \
                     may lack an intermediate; --insecure sends all the same"
                    .to_owned()
            }
        },
        Failure::NotHttp(_) if send_target.target.tls.is_none() => {
            "does the server speak plain HTTP there, or TLS?".to_owned()
        }
        Failure::NotHttp(_) | Failure::Odd(_) => {
            "the best answer is HTTP/1.1 200 with Content-Length: 0".to_owned()
        }
        Failure::Tls(_) => "does the server speak TLS there (tls in its [[listener]])?".to_owned(),
        Failure::TimedOut(Phase::Connect, _) => {
            "is the address right, and does a firewall let it through?".to_owned()
        }
        Failure::TimedOut(..) => {
            "the server has stalled: see its log. Telegram waits for 60 s and blocks the chat \
             meanwhile"
                .to_owned()
        }
        Failure::Closed(_) => not_on(send_target).unwrap_or_else(|| {
            match send_target.target.tls {
                Some(_) => {
                    "is this machine on the server's list of addresses, and does it speak \
                            TLS there?"
                }
                None => {
                    "is this machine on the server's list of addresses, and does it speak plain \
                         HTTP there?"
                }
            }
            .to_owned()
        }),
        _ => "see the server's log".to_owned(),
    }
}

fn not_on(send_target: &SendTarget) -> Option<String> {
    let (list, address) = send_target.known.as_ref()?.not_on?;
    Some(format!("{address} is not on the list {list}: put it there, or send by a Unix socket"))
}
