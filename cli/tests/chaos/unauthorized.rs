//! Clients without a valid secret, or that speak no HTTP or TLS.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::ClientConfig;

use super::{ledger::id_of, place::BOTS};

use crate::support::{raw, request_to, update_of};

/// A bot that nothing is made for.
const UNKNOWN: usize = 9;
const MOST: Duration = Duration::from_secs(5);

/// Sends one request and returns the status of its answer.
type Request = fn(&mut Client<'_>) -> io::Result<u16>;

/// Sends such requests for so long; the kinds that the server has answered with 200.
pub(crate) fn send(
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
    time: Duration,
) -> Vec<&'static str> {
    let until = Instant::now() + time;
    let requests: [(&str, Request); 5] = [
        ("a wrong secret", wrong_secret),
        ("a wrong path", wrong_path),
        ("bytes that are no TLS", no_tls),
        ("bytes that are no HTTP", no_http),
        ("half a request", half_a_request),
    ];
    thread::scope(|scope| {
        let threads = requests.map(|(name, request)| {
            scope.spawn(move || {
                let mut client = Client { addr, config, number: 0 };
                let mut is_taken = false;
                while Instant::now() < until {
                    client.number += 1;
                    is_taken |= request(&mut client).is_ok_and(|status| status == 200);
                    thread::sleep(Duration::from_millis(20));
                }
                is_taken.then_some(name)
            })
        });
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    })
}

struct Client<'a> {
    addr: SocketAddr,
    config: &'a Arc<ClientConfig>,
    number: u64,
}

impl Client<'_> {
    fn socket(&self) -> io::Result<TcpStream> {
        let socket = TcpStream::connect_timeout(&self.addr, MOST)?;
        socket.set_read_timeout(Some(MOST))?;
        socket.set_write_timeout(Some(MOST))?;
        Ok(socket)
    }

    /// Sends it over TLS, for a status.
    fn ask(&self, request: &[u8]) -> io::Result<u16> {
        let mut tls = raw::tls(self.socket()?, Arc::clone(self.config)).stream;
        tls.write_all(request)?;
        tls.flush()?;
        let mut answer = [0; 64];
        let n = tls.read(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn update(&self) -> String {
        update_of(1, id_of(UNKNOWN, self.number).cast_signed())
    }
}

fn wrong_secret(it: &mut Client<'_>) -> io::Result<u16> {
    it.ask(&request_to(BOTS[0].1, "a-wrong-one", &it.update()))
}

fn wrong_path(it: &mut Client<'_>) -> io::Result<u16> {
    it.ask(&request_to("/nowhere", BOTS[0].2, &it.update()))
}

fn no_tls(it: &mut Client<'_>) -> io::Result<u16> {
    let mut socket = it.socket()?;
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    let _ = socket.read(&mut [0; 64])?;
    Err(io::ErrorKind::InvalidData.into())
}

fn no_http(it: &mut Client<'_>) -> io::Result<u16> {
    it.ask(b"\0\x01\x02 nonsense\r\n\r\n")
}

/// The client closes before it has sent the rest.
fn half_a_request(it: &mut Client<'_>) -> io::Result<u16> {
    let mut tls = raw::tls(it.socket()?, Arc::clone(it.config)).stream;
    let request = request_to(BOTS[0].1, BOTS[0].2, &it.update());
    tls.write_all(&request[..request.len() / 2])?;
    tls.flush()?;
    Err(io::ErrorKind::UnexpectedEof.into())
}
