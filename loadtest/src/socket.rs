//! A TCP connection on the event loop.

use std::{
    io,
    mem::MaybeUninit,
    net::{Shutdown, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd, RawFd},
};

use monoio::{
    io::{AsyncReadRent, AsyncWriteRentExt},
    net::TcpStream,
};
use socket2::{Domain, Protocol, SockRef, Type};

/// A connected socket without Nagle's delay.
pub(crate) struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Begins to connect. [`Socket::connected`] must follow.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        // Made here and not by monoio, because the thread that watches the deadline needs the
        // descriptor while it still connects.
        let kind = Type::STREAM.cloexec().nonblocking();
        let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        Ok(Self { stream: TcpStream::from_std(socket.into())? })
    }

    /// Waits until it is connected.
    pub(crate) async fn connected(&mut self) -> io::Result<()> {
        self.stream.writable(false).await?;
        let descriptor = borrow(&self.stream);
        let socket = SockRef::from(&descriptor);
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        // io_uring gives EAGAIN for a non-blocking socket where it would wait for a blocking one.
        socket.set_nonblocking(monoio::utils::is_legacy())
    }

    /// For [`interrupt`].
    pub(crate) fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Sends all of `bytes`, and gives the buffer back.
    pub(crate) async fn send(&mut self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        // One system call of our own instead of a submission: the request leaves now, when its time
        // is taken, and not after every other task had its turn. It hardly ever is refused, since
        // the buffer was emptied by the answer to the request before.
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        match SockRef::from(&borrow(&self.stream)).send_with_flags(&bytes, flags) {
            Ok(sent) if sent == bytes.len() => (Ok(()), bytes),
            Ok(sent) => self.send_rest(bytes, sent).await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.send_rest(bytes, 0).await
            }
            Err(error) => (Err(error), bytes),
        }
    }

    #[cold]
    async fn send_rest(&mut self, mut bytes: Vec<u8>, sent: usize) -> (io::Result<()>, Vec<u8>) {
        let rest = bytes.split_off(sent);
        let (result, _) = self.stream.write_all(rest).await;
        (result.map(|_| ()), bytes)
    }

    /// Replaces what is in `buffer` by what comes next; 0 bytes at the end.
    pub(crate) async fn receive(&mut self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        buffer.clear();
        self.stream.read(buffer).await
    }

    /// Replaces what is in `buffer` by what is there already.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is nothing yet.
    pub(crate) fn receive_now(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        buffer.clear();
        let space: &mut [MaybeUninit<u8>] = buffer.spare_capacity_mut();
        let received =
            SockRef::from(&borrow(&self.stream)).recv_with_flags(space, libc::MSG_DONTWAIT)?;
        // SAFETY: the kernel has written this many bytes to the front of the space.
        unsafe { buffer.set_len(received) };
        Ok(received)
    }
}

/// Ends a connection in both directions, so that whatever waits on it goes on with an error or the
/// end of data. Dropping the operation instead could lose bytes and leave the socket in the ring.
pub(crate) fn interrupt(descriptor: RawFd) {
    // SAFETY: callers hold the number of a socket that a live task owns.
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    // It may have been closed by the peer a moment ago, which is as good.
    let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
}

fn borrow(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream is borrowed as long, and keeps the descriptor open.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}
