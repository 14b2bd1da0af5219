//! A timer far finer than a millisecond.

use std::{
    cell::Cell,
    io, net,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use monoio::net::TcpStream;

use crate::clock::{Clock, Nanos};

/// Wakes one task at one time, within some ten microseconds.
///
/// It is a timerfd that the event loop polls, so it works with either driver. Its time may be moved
/// while the task already waits.
pub(crate) struct Timer {
    clock: Clock,
    /// monoio polls streams only, so the timer goes as one. Nothing but polling is done with it.
    stream: TcpStream,
    /// When it fires; [`Nanos::MAX`] if it is not set.
    armed: Cell<Nanos>,
}

impl Timer {
    pub(crate) fn new(clock: Clock) -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: takes two numbers and returns a new descriptor or -1.
        let descriptor = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, so nothing else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let stream = TcpStream::from_std(net::TcpStream::from(descriptor))?;
        Ok(Self { clock, stream, armed: Cell::new(Nanos::MAX) })
    }

    /// Makes it fire at `time`, or at once if that is past. Takes the place of any earlier setting.
    pub(crate) fn set(&self, time: Nanos) {
        // Zero would switch it off.
        let ahead = time.saturating_sub(self.clock.now()).max(1);
        let setting = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec {
                tv_sec: (ahead / 1_000_000_000) as libc::time_t,
                tv_nsec: (ahead % 1_000_000_000) as libc::c_long,
            },
        };
        // SAFETY: the descriptor is open and the setting outlives the call.
        unsafe {
            libc::timerfd_settime(self.stream.as_raw_fd(), 0, &setting, std::ptr::null_mut());
        }
        self.armed.set(time);
    }

    /// Makes it fire at `time` if it would fire later.
    pub(crate) fn set_earlier(&self, time: Nanos) {
        if time < self.armed.get() {
            self.set(time);
        }
    }

    /// Waits until it fires.
    pub(crate) async fn fired(&self) {
        // An error would mean that the event loop is gone. The expiry is not read: setting the
        // timer again clears it.
        let _ = self.stream.readable(false).await;
        self.armed.set(Nanos::MAX);
    }
}
