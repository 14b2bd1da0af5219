//! What is logged.

use std::time::Duration;

use ringhook::update::BotId;
use ringhook_outputs::forward::BotTerms;

use crate::support::{
    bench::{Bench, quick},
    http::{FakeServer, answer, free_address, json, ok},
    log, wait_until,
};

/// In the path of a target, and of a bot.
const TOKENS: [&str; 2] =
    ["234567:BBbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_", "345678:CCbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_"];
const SECRET: &str = "a-secret-that-is-logged-nowhere";

#[test]
fn neither_secrets_nor_tokens_nor_texts_are_logged() {
    log::keep();
    let api = FakeServer::start(|seen| async move {
        if seen.line().ends_with("sendMessage") { answer(400, "", "api-answer-text") } else { ok() }
    });
    let target = FakeServer::start(|seen| async move {
        match seen.update_id() {
            1 => json("{\"method\":\"sendMessage\",\"text\":\"reply-text\"}"),
            2 => json("{\"method\":\"setWebhook\",\"text\":\"reply-text\"}"),
            3 => json("{\"method\":\"no such method\"}"),
            4 => answer(500, "", "reply-text"),
            5 => answer(401, "", "reply-text"),
            _ => ok(),
        }
    });
    let terms = BotTerms::new("shop", BotId::new(0)).secret(SECRET).token(TOKENS[1]);
    let bots = || vec![terms.clone().api_root(api.url("").parse().unwrap())];
    let bench =
        Bench::attempts(quick(&target.url(&format!("/{}?{SECRET}", TOKENS[0]))).bots(bots()), 2);
    (1..=5).for_each(|id| bench.send(1, id));
    bench.wait("the last one waits", |status| status.held == 1);
    let shown = format!("{:?} {}", bench.forward, serde_json::to_string(&bench.status()).unwrap());
    bench.stop();
    let url = format!("http://{}/{}?{SECRET}", free_address(), TOKENS[0]);
    let bench = Bench::with(quick(&url).bots(bots()), |server| {
        server.drain_timeout(Duration::from_secs(600))
    });
    bench.send(1, 6);
    wait_until("it is said that it is down", || {
        log::lines().iter().any(|line| line.contains("the target is down"))
    });
    bench.stop();
    let lines = log::lines();
    for said in ["wrongly set up", "may not call", "no method", "refused a webhook reply"] {
        assert!(lines.iter().any(|line| line.contains(said)), "{said}: {lines:?}");
    }
    for line in lines.iter().chain([&shown]) {
        for secret in ["BBbb", "CCbb", SECRET, "reply-text", "api-answer-text", "hello", "no such"]
        {
            assert!(!line.contains(secret), "{secret} in {line}");
        }
    }
}
