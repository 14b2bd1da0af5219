//! Pages that a program adds to the operator's listener: none of them keeps a probe waiting.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use ringhook::{AdminPage, AdminPages, AdminRequest, ServerView, report::Step};

use crate::support::{
    TestServer,
    probe::{LOCAL, ask, ask_with, ok},
    wait_until,
};

/// Pages that do what a test wants.
struct Pages {
    /// What `/slow` waits for.
    gate: mpsc::Receiver<()>,
    asked: Arc<AtomicUsize>,
    ticks: Arc<AtomicUsize>,
}

impl AdminPages for Pages {
    fn answer(&mut self, request: &AdminRequest<'_>, server: &ServerView) -> Option<AdminPage> {
        self.asked.fetch_add(1, Relaxed);
        let AdminRequest { path, query, accept, .. } = *request;
        match path {
            "/echo" => {
                let text = format!("{query} {accept} {}", server.report().updates_handled);
                let page = AdminPage::new("text/x-echo\r\nInjected: 1", text);
                Some(page.field("X-Policy", "none\r\nInjected: 2"))
            }
            "/wrong" => Some(AdminPage::bad_request("minutes: expected a number")),
            "/panic" => panic!("a page that panics"),
            "/slow" => {
                let _ = self.gate.recv();
                Some(AdminPage::new("text/plain", "at last"))
            }
            _ => None,
        }
    }

    fn tick(&mut self, server: &ServerView) -> Option<Duration> {
        assert!(server.obstacles().is_empty());
        self.ticks.fetch_add(1, Relaxed);
        Some(Duration::from_millis(5))
    }
}

fn start() -> (TestServer, mpsc::Sender<()>, [Arc<AtomicUsize>; 2]) {
    let (open, gate) = mpsc::channel();
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    let [asked, ticks] = counts.clone();
    let server = TestServer::with(|server| {
        server.admin(LOCAL.parse().unwrap()).admin_pages(Pages { gate, asked, ticks })
    });
    (server, open, counts)
}

#[test]
fn a_program_answers_what_is_not_the_servers_own() {
    let (server, _open, [asked, ticks]) = start();
    let addr = server.handle.admin_addr().unwrap();
    let request =
        b"GET /echo?a=b HTTP/1.1\r\nHost: localhost\r\nAccept: text/x\r\nACCEPT: text/y;q=0.1\r\n\r\n";
    let (line, fields, body) = ask_with(addr, request).unwrap();
    assert_eq!((&*line, &*body), ("HTTP/1.1 200 OK", "a=b text/x, text/y;q=0.1 0"));
    let fields: Vec<_> = fields.split("\r\n").collect();
    for field in ["Content-Type: text/x-echo", "X-Policy: none", "Content-Length: 26"] {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
    assert!(!fields.iter().any(|field| field.starts_with("Injected")), "{fields:?}");
    let (line, _, body) =
        ask_with(addr, b"HEAD /echo HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!((&*line, &*body), ("HTTP/1.1 200 OK", ""));
    assert_eq!(ask(addr, "/wrong"), (400, "minutes: expected a number\n".to_owned()));
    assert_eq!(ask(addr, "/none").0, 404);
    assert_eq!(asked.load(Relaxed), 4);

    let post = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask_with(addr, post).unwrap().0, "HTTP/1.1 405 Method Not Allowed");
    for path in ["/healthz", "/readyz", "/incidents"] {
        assert_eq!(ask(addr, path).0, 200);
    }
    assert_eq!(asked.load(Relaxed), 4, "they are not its pages");
    wait_until("it was called between requests", || ticks.load(Relaxed) > 3);
    server.stop();
}

#[test]
fn a_page_that_panics_is_a_500_and_the_next_is_answered() {
    let (server, _open, _) = start();
    let addr = server.handle.admin_addr().unwrap();
    for _ in 0..2 {
        assert_eq!(ask(addr, "/panic"), (500, "500 Internal Server Error\n".to_owned()));
        assert_eq!(ask(addr, "/echo").0, 200);
    }
    assert_eq!(ask(addr, "/readyz"), ok());
    server.stop();
}

#[test]
fn a_page_that_never_comes_keeps_no_probe_waiting_and_is_named() {
    let (server, open, [asked, _]) = start();
    let addr = server.handle.admin_addr().unwrap();
    let slow = || thread::spawn(move || ask(addr, "/slow"));
    let first = slow();
    wait_until("it is being made", || asked.load(Relaxed) == 1);
    // They find room in the queue, one after the other.
    let waiting: Vec<_> = (0..4).map(|_| slow()).collect();
    let mut refused = Vec::new();
    wait_until("the queue is full", || {
        let (status, text) = ask(addr, "/none?");
        refused.push(text.clone());
        status == 503 && text.starts_with("busy")
    });
    assert_eq!(ask(addr, "/healthz"), ok());
    wait_until("it is named", || ask(addr, "/readyz").1.contains("admin: a page"));
    assert_eq!(ask(addr, "/readyz").0, 200, "updates are taken all the same");
    let late = (503, "the page is not there in time: come again\n".to_owned());
    assert_eq!(first.join().unwrap(), late);
    for it in waiting {
        assert_eq!(it.join().unwrap().0, 503);
    }
    wait_until("it is counted", || server.handle.report().hangs.contains_key(&Step::Page));
    drop(open);
    wait_until("the next is answered", || ask(addr, "/echo").0 == 200);
    server.stop();
}
