//! Busy polling (SO_BUSY_POLL): a read that finds nothing looks into the network card's queue
//! itself.
//!
//! It is set on listening sockets alone, while the process still has its privileges: accepted ones
//! inherit it in the kernel, so it costs no call for a connection.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    ptr,
    time::Duration,
};

/// Lets reads of `socket`, and of those accepted from it, poll for `time`, rounded down to
/// microseconds.
///
/// # Errors
/// What setsockopt(2) answers: `EPERM` where the kernel wants CAP_NET_ADMIN for it, `ENOPROTOOPT`
/// where it is built without.
pub(super) fn set(socket: &OwnedFd, time: Duration) -> io::Result<()> {
    let micros = libc::c_int::try_from(time.as_micros()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel reads the four bytes of `micros`, which live until the call returns, and
    // the descriptor is open for as long as `socket` is borrowed.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BUSY_POLL,
            ptr::from_ref(&micros).cast(),
            size_of_val(&micros) as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What an operator should know where the kernel refuses.
pub(super) fn refusal(error: &io::Error) -> String {
    let advice = match error.raw_os_error() {
        Some(libc::EPERM) => "give the process CAP_NET_ADMIN, or raise net.core.busy_read to it",
        Some(libc::ENOPROTOOPT) => "the kernel is built without CONFIG_NET_RX_BUSY_POLL",
        _ => "leave server.busy_poll out",
    };
    format!("no busy polling, the kernel refuses SO_BUSY_POLL ({error}): {advice}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// SO_BUSY_POLL of `socket` in microseconds.
    fn get(socket: &OwnedFd) -> libc::c_int {
        let (mut micros, mut length) = (-1, size_of::<libc::c_int>() as libc::socklen_t);
        // SAFETY: the kernel writes at most `length` bytes to `micros`, which has as many.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_BUSY_POLL,
                ptr::from_mut(&mut micros).cast(),
                &raw mut length,
            )
        };
        assert_eq!(outcome, 0);
        micros
    }

    #[test]
    fn accepted_sockets_have_what_was_set_on_the_listening_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = OwnedFd::from(listener.try_clone().unwrap());
        assert_eq!(get(&socket), 0, "net.core.busy_read is 0 unless it has been set");
        if let Err(error) = set(&socket, Duration::from_micros(50)) {
            assert!(refusal(&error).contains("no busy polling"), "{error}");
            eprintln!("skipped: {error}");
            return;
        }
        assert_eq!(get(&socket), 50);
        let _peer = TcpStream::connect(address).unwrap();
        assert_eq!(get(&listener.accept().unwrap().0.into()), 50);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let said = |errno| refusal(&io::Error::from_raw_os_error(errno));
        assert!(said(libc::EPERM).contains("CAP_NET_ADMIN"));
        assert!(said(libc::ENOPROTOOPT).contains("CONFIG_NET_RX_BUSY_POLL"));
        assert!(said(libc::EINVAL).contains("server.busy_poll"));
    }
}
