//! Who asks the operator's listener.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use super::PATIENCE;

pub(crate) const LOCAL: &str = "127.0.0.1:0";

/// Status line, header fields and body of the answer to `request`, to its end.
pub(crate) fn ask_with(addr: SocketAddr, request: &[u8]) -> io::Result<(String, String, String)> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(request)?;
    let mut bytes = String::new();
    socket.read_to_string(&mut bytes)?;
    let (head, body) = bytes.split_once("\r\n\r\n").expect("a whole head");
    let (line, fields) = head.split_once("\r\n").expect("fields");
    Ok((line.to_owned(), fields.to_owned(), body.to_owned()))
}

/// Status and body of the answer to GET.
pub(crate) fn ask(addr: SocketAddr, target: &str) -> (u16, String) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (line, _, body) = ask_with(addr, request.as_bytes()).unwrap();
    (line.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

pub(crate) fn ok() -> (u16, String) {
    (200, "ok\n".to_owned())
}
