//! The memory that connections take, measured from outside, as the kernel sees it.

use std::{io::Write as _, time::Duration};

use ringhook::Limits;

use crate::{
    binary::{
        process::{Process, resident},
        service::Service,
    },
    support::{
        PATH, SECRET,
        client::{self, Client},
        update, wait_until,
    },
};

const CONNECTIONS: usize = 16;
/// Of these, how many send requests without end: as many as the sockets' buffers take.
const FLOODS: usize = 4;
/// What the allocator and a debug build may take beside what is counted.
const SLACK: usize = 6 << 20;

fn head(length: usize) -> Vec<u8> {
    format!(
        "POST {PATH} HTTP/1.1\r\nHost: a\r\nX-Telegram-Bot-Api-Secret-Token: {SECRET}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// A server and `CONNECTIONS` on which a first request was answered.
fn service() -> (Process, Vec<Client>) {
    let service = Service::new("", &["--ack", "memory", "--output", "null"]);
    let process = service.start();
    let config = client::trusting(&service.pki.cert, rustls::ALL_VERSIONS);
    let clients = (0..CONNECTIONS).map(|id| {
        let mut client = Client::connect_with(process.addr, config.clone());
        assert_eq!(client.post(&update(id as i64)).status, 200);
        client
    });
    let clients = clients.collect();
    (process, clients)
}

#[test]
fn what_is_pipelined_without_end_stays_with_the_kernel() {
    let (process, mut clients) = service();
    let before = resident(process.child.id());
    let requests = b"GET /absent HTTP/1.1\r\nHost: a\r\n\r\n".repeat(400);
    for client in &mut clients[..FLOODS] {
        rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream.sock, 4096).unwrap();
        client.stream.sock.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        // The client does not read the answers, so in the end the server does not read the
        // requests.
        while client.stream.write_all(&requests).is_ok() {}
    }
    let limits = Limits::default();
    let bound = limits.connection_bytes() - 2 * limits.body_bytes;
    let grown = resident(process.child.id()).saturating_sub(before);
    eprintln!("{} bytes for each connection, bound {bound}", grown / FLOODS);
    assert!(grown <= FLOODS * bound + SLACK, "{grown} bytes");
    assert_eq!(process.terminate().status.code(), Some(0));
}

#[test]
fn a_body_under_way_takes_what_it_may() {
    let (process, mut clients) = service();
    let before = resident(process.child.id());
    let limits = Limits::default();
    for client in &mut clients {
        client.send(&head(limits.body_bytes));
        client.send(&vec![b' '; limits.body_bytes - 1]);
    }
    let all = CONNECTIONS * limits.body_bytes;
    let grown = || resident(process.child.id()).saturating_sub(before);
    wait_until("the bodies are there", || grown() >= all / 10 * 9);
    let grown = grown();
    eprintln!("{} bytes for each connection", grown / CONNECTIONS);
    assert!(grown <= CONNECTIONS * limits.connection_bytes() + SLACK, "{grown} bytes");
    for client in &mut clients {
        client.send(b" ");
        assert_eq!(client.response().status, 400, "white space is no update");
    }
    assert_eq!(process.terminate().status.code(), Some(0));
}
