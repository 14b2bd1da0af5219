//! The echo by readiness: one wait for all, then a recv and a send for each.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
};

use rustix::event::epoll;

use super::Framing;

/// Serves until all peers have gone.
pub(super) fn serve(mut sockets: Vec<TcpStream>, answer: &'static [u8]) -> io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (at, socket) in sockets.iter().enumerate() {
        socket.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(at as u64);
        epoll::add(&poll, socket, data, epoll::EventFlags::IN)?;
    }
    let mut framings = vec![Framing::default(); sockets.len()];
    let mut left = sockets.len();
    let mut events = Vec::with_capacity(sockets.len());
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            // The data is packed, so it is copied out.
            let data = event.data;
            let at = data.u64() as usize;
            match sockets[at].read(&mut buffer) {
                Ok(0) => {
                    epoll::delete(&poll, &sockets[at])?;
                    left -= 1;
                }
                Ok(length) => {
                    if framings[at].is_end(&buffer[..length]) {
                        // It fits: the peer waits for it.
                        sockets[at].write_all(answer)?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Ok(()),
            }
        }
    }
    Ok(())
}
