//! Webhook replies: method calls in the answers of targets.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use ringhook::update::BotId;
use ringhook_outputs::forward::{BotTerms, ForwardSettings};

use crate::support::{
    bench::{Bench, quick},
    http::{Act, FakeServer, Seen, answer, free_address, hang_up, json, ok},
    wait_until,
};

const TOKEN: &str = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_";
const CALL: &str = "{\"chat_id\": 1, \"method\":\"sendMessage\", \"text\":\"caf\\u00e9 \"}";

/// A Bot API that executes everything.
fn api() -> FakeServer {
    FakeServer::start(|_| async { json("{\"ok\":true,\"result\":true}") })
}

/// A Bot API that answers its n-th request, counted from 0, by `script`.
fn nth(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> FakeServer {
    let count = AtomicUsize::new(0);
    FakeServer::start(move |_| {
        let act = script(count.fetch_add(1, SeqCst));
        async move { act }
    })
}

fn settings(target: &FakeServer, root: &str) -> ForwardSettings {
    let terms = BotTerms::new("shop", BotId::new(0)).token(TOKEN);
    quick(&target.url("/")).bots(vec![terms.api_root(root.parse().unwrap())])
}

/// A target that replies with `reply`, and what the Bot API got of it.
fn relayed(api: &FakeServer, reply: impl Fn() -> Act + Send + Sync + 'static) -> Bench {
    let target = FakeServer::start(move |_| {
        let act = reply();
        async move { act }
    });
    let bench = Bench::start(settings(&target, &api.url("")));
    bench.send(1, 1);
    bench.wait_handled(1);
    bench
}

#[test]
fn a_call_in_json_is_passed_on_as_it_is() {
    let api = api();
    let reply = || answer(200, "Content-Type: application/json; charset=utf-8\r\n", CALL);
    let bench = relayed(&api, reply);
    let seen = api.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line(), format!("POST /bot{TOKEN}/sendMessage"));
    assert_eq!(seen[0].header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(seen[0].header("host"), Some(&*api.address.unwrap().to_string()));
    assert_eq!(seen[0].body, CALL.as_bytes());
    let replies = bench.status().replies;
    assert_eq!((replies.relayed, replies.failed, replies.ambiguous), (1, 0, 0));
    assert!(!format!("{:?}", bench.forward).contains("AAbb"));
    bench.stop();
}

#[test]
fn a_call_in_a_form_is_passed_on_as_it_is() {
    const TYPE: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
    const FORM: &str = "chat_id=1&text=caf%C3%A9+%26+method%3D&method=sendMessage";
    let api = api();
    let bench = relayed(&api, || answer(200, TYPE, FORM));
    let seen = api.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line(), format!("POST /bot{TOKEN}/sendMessage"));
    assert_eq!(seen[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(seen[0].body, FORM.as_bytes());
    assert_eq!(bench.status().replies.relayed, 1);
    bench.stop();
    // Without a method, with one that is none, and longer than is taken.
    let long = || format!("method=sendMessage&text={}", "a".repeat(1024 * 1024));
    let other = |form: String| {
        let bench = relayed(&api, move || answer(200, TYPE, &form));
        let replies = bench.status().replies;
        bench.stop();
        (replies.relayed, replies.refused, replies.failed)
    };
    assert_eq!(other("ok=true&themethod=sendMessage".to_owned()), (0, 0, 0));
    assert_eq!(other("method=..%2Fclose".to_owned()), (0, 1, 0));
    assert_eq!(other("method=setWebhook".to_owned()), (0, 1, 0));
    assert_eq!(other(long()), (0, 0, 1));
    assert_eq!(api.count(), 1);
}

#[test]
fn what_is_no_call_is_ignored() {
    let api = api();
    let answers: [fn() -> Act; 8] = [
        ok,
        || answer(200, "", "ok"),
        || json(""),
        || json("{\"ok\":true}"),
        || json("[1]"),
        || json("{\"method\":1}"),
        || answer(200, "Content-Type: text/html\r\n", CALL),
        || answer(204, "", ""),
    ];
    for reply in answers {
        let bench = relayed(&api, reply);
        let replies = bench.status().replies;
        assert_eq!((replies.relayed, replies.refused, replies.failed), (0, 0, 0));
        bench.stop();
    }
    assert_eq!(api.count(), 0);
}

#[test]
fn some_methods_are_refused_and_what_is_no_name_too() {
    let api = api();
    for method in ["setWebhook", "DELETEWEBHOOK", "logout", "Close", "../getMe", "", "a?b", "a b"] {
        let bench = relayed(&api, move || json(&format!("{{\"method\":\"{method}\"}}")));
        assert_eq!(bench.status().replies.refused, 1, "{method}");
        bench.stop();
    }
    assert_eq!(api.count(), 0);
}

fn multipart(parts: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let boundary = "----boundary-7MA4YWxk";
    let mut body = Vec::new();
    for (disposition, content) in parts {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("Content-Type: multipart/form-data; boundary={boundary}\r\n"), body)
}

/// Bytes of every value, with line ends and dashes among them.
fn file(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8 ^ (at / 7 % 256) as u8).collect()
}

#[test]
fn a_multipart_call_is_passed_on_unchanged_whatever_its_size_and_the_order_of_its_parts() {
    for (length, is_chunked, is_first) in [
        (0, false, true),
        (10_000, false, true),
        (10_000, true, false),
        (900_000, false, false),
        (8_000_000, false, true),
        (8_000_000, true, true),
    ] {
        let api = api();
        let content = file(length);
        let method = ("name=\"method\"", &b"sendPhoto"[..]);
        let chat = ("name=\"chat_id\"", &b"1"[..]);
        let photo = ("name=\"photo\"; filename=\"a.jpg\"", &*content);
        let parts = if is_first { [method, chat, photo] } else { [photo, chat, method] };
        let (header, body) = multipart(&parts);
        let reply = {
            let (header, body) = (header.clone(), body.clone());
            move || match is_chunked {
                false => answer(200, &header, &body),
                true => {
                    let head =
                        format!("HTTP/1.1 200 OK\r\n{header}Transfer-Encoding: chunked\r\n\r\n");
                    let mut bytes = head.into_bytes();
                    for chunk in body.chunks(40_000) {
                        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                        bytes.extend_from_slice(chunk);
                        bytes.extend_from_slice(b"\r\n");
                    }
                    bytes.extend_from_slice(b"0\r\n\r\n");
                    Act::Answer(bytes)
                }
            }
        };
        let bench = relayed(&api, reply);
        let seen = api.seen();
        assert_eq!(seen.len(), 1, "{length} {is_chunked} {is_first}");
        assert_eq!(seen[0].line(), format!("POST /bot{TOKEN}/sendPhoto"));
        assert!(seen[0].body == body, "{length} {is_chunked} {is_first}");
        let content_type = header.split_once(": ").unwrap().1.trim_end();
        assert_eq!(seen[0].header("content-type"), Some(content_type));
        assert_eq!(bench.status().replies.relayed, 1);
        bench.stop();
    }
}

#[test]
fn a_call_that_is_cut_off_or_too_long_is_not_made() {
    let api = api();
    let long = format!("{{\"method\":\"sendMessage\",\"text\":\"{}\"}}", "x".repeat(1_100_000));
    let (header, body) =
        multipart(&[("name=\"photo\"", &file(2_000_000)), ("name=\"method\"", b"x")]);
    let huge = format!("HTTP/1.1 200 OK\r\n{header}Content-Length: {}\r\n\r\n", 60 << 20);
    let short = format!("HTTP/1.1 200 OK\r\n{header}Content-Length: {}\r\n\r\n", body.len());
    let short_json =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    let answers = [
        json(&long),
        answer(200, &header, &body),
        Act::Last(huge.into_bytes()),
        Act::Last([short.as_bytes(), &body[..500_000]].concat()),
        Act::Last(short_json.into()),
    ];
    let answers = Arc::new(Mutex::new(Vec::from(answers)));
    for _ in 0..5 {
        let answers = Arc::clone(&answers);
        let bench = relayed(&api, move || answers.lock().unwrap().pop().unwrap());
        let status = bench.status();
        assert_eq!((status.replies.failed, status.replies.relayed, status.retried), (1, 0, 0));
        bench.stop();
    }
    assert_eq!(api.count(), 0);
}

#[test]
fn a_streamed_call_that_is_cut_off_is_not_executed() {
    let api = api();
    let (header, body) =
        multipart(&[("name=\"method\"", b"sendVideo"), ("name=\"v\"", &file(3_000_000))]);
    let head = format!("HTTP/1.1 200 OK\r\n{header}Content-Length: {}\r\n\r\n", body.len());
    let bench = relayed(&api, move || Act::Last([head.as_bytes(), &body[..2_000_000]].concat()));
    assert_eq!(bench.status().replies.failed, 1);
    assert_eq!(api.count(), 0, "it never came whole");
    bench.stop();
}

#[test]
fn a_limit_is_waited_for() {
    let api = nth(|count| match count {
        0 => {
            answer(429, "", "{\"ok\":false,\"error_code\":429,\"parameters\":{\"retry_after\":1}}")
        }
        1 => answer(429, "Retry-After: 1\r\n", "busy"),
        _ => ok(),
    });
    let bench = relayed(&api, || json(CALL));
    let seen = api.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.windows(2).all(|pair| pair[1].at - pair[0].at >= Duration::from_secs(1)));
    assert!(seen.iter().all(|seen| seen.body == CALL.as_bytes()));
    let replies = bench.status().replies;
    assert_eq!((replies.relayed, replies.failed), (1, 0));
    bench.stop();
}

#[test]
fn a_limit_that_is_too_long_is_not_waited_for() {
    let api = nth(|_| answer(429, "", "{\"parameters\":{\"retry_after\":3600}}"));
    let bench = relayed(&api, || json(CALL));
    assert_eq!((api.count(), bench.status().replies.failed), (1, 1));
    bench.stop();
}

#[test]
fn a_call_is_not_made_twice_where_it_may_have_been_executed() {
    let acts: [fn() -> Act; 2] = [hang_up, || answer(502, "", "bad gateway")];
    for act in acts {
        let api = nth(move |_| act());
        let bench = relayed(&api, || json(CALL));
        let replies = bench.status().replies;
        assert_eq!((api.count(), replies.ambiguous, replies.relayed), (1, 1, 0));
        bench.stop();
    }
}

#[test]
fn a_call_that_the_bot_api_refuses_is_done_with() {
    let api = nth(|_| answer(400, "", "{\"ok\":false,\"description\":\"chat not found\"}"));
    let bench = relayed(&api, || json(CALL));
    let status = bench.status();
    assert_eq!((api.count(), status.replies.failed, status.delivered), (1, 1, 1));
    bench.stop();
}

#[test]
fn a_bot_api_that_takes_no_connection_is_tried_again() {
    let address = free_address();
    let target = FakeServer::start(|_| async { json(CALL) });
    let bench = Bench::start(settings(&target, &format!("http://{address}/api")));
    bench.send(1, 1);
    target.wait_count(1);
    let api = FakeServer::start_at(address, |_| async { ok() });
    bench.wait_handled(1);
    assert_eq!(api.seen()[0].line(), format!("POST /api/bot{TOKEN}/sendMessage"));
    assert_eq!(bench.status().replies.relayed, 1);
    bench.stop();
    // And not for ever.
    let target = FakeServer::start(|_| async { json(CALL) });
    let settings = settings(&target, &format!("http://{}", free_address()));
    let bench = Bench::start(settings.reply_wait(Duration::from_millis(800)));
    bench.send(1, 1);
    bench.wait_handled(1);
    assert_eq!(bench.status().replies.failed, 1);
    bench.stop();
}

#[test]
fn the_replies_of_a_bot_without_a_token_are_dropped() {
    let target = FakeServer::start(|_| async { json(CALL) });
    let bots = vec![BotTerms::new("shop", BotId::new(0))];
    let bench = Bench::start(quick(&target.url("/")).bots(bots));
    (0..3).for_each(|id| bench.send(id, id));
    bench.wait_handled(3);
    assert_eq!(bench.status().replies.dropped, 3);
    bench.stop();
}

#[test]
fn a_chats_next_update_goes_out_when_the_reply_was_executed() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str, order: &Arc<Mutex<Vec<_>>>| {
        let order = Arc::clone(order);
        move |_: Seen| {
            order.lock().unwrap().push(name);
            async move {
                match name {
                    "target" => json(CALL),
                    _ => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        ok()
                    }
                }
            }
        }
    };
    let target = FakeServer::start(note("target", &order));
    let api = FakeServer::start(note("api", &order));
    let bench = Bench::start(settings(&target, &api.url("")));
    (0..3).for_each(|id| bench.send(1, id));
    bench.wait_handled(3);
    assert_eq!(*order.lock().unwrap(), ["target", "api"].repeat(3));
    // The connections of both are used again.
    assert_eq!((target.connections().0, api.connections().0), (1, 1));
    bench.stop();
}

#[test]
fn replies_that_wait_hold_no_connection_of_their_target() {
    let api = FakeServer::start(|_| async {
        std::future::pending::<()>().await;
        ok()
    });
    let target =
        FakeServer::start(|seen| async move { if seen.chat() == 1 { json(CALL) } else { ok() } });
    let bench = Bench::start(settings(&target, &api.url("")).connections(1));
    bench.send(1, 1);
    api.wait_count(1);
    (2..10).for_each(|id| bench.send(id, id));
    bench.wait_handled(8);
    wait_until("only the reply is under way", || bench.status().in_flight == 1);
    assert_eq!(bench.status().targets[0].in_flight, 0);
    assert!(bench.forward.stop(Duration::ZERO));
}
