//! The generator's event loop. With [`socket`](crate::socket) and [`timer`](crate::timer) the only
//! files that name monoio.

use std::{future::Future, io};

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::options::Driver;

/// Runs tasks of one thread.
pub(crate) enum Runtime {
    Epoll(monoio::Runtime<LegacyDriver>),
    IoUring(monoio::Runtime<IoUringDriver>),
}

impl Runtime {
    /// An event loop for the calling thread and so many connections.
    ///
    /// monoio's own timers stay off: they tick once per millisecond, too coarse for due times.
    pub(crate) fn new(driver: Driver, connections: usize) -> io::Result<Self> {
        if driver != Driver::Epoll {
            // Whether the kernel would let us is only known by trying: a question first answers
            // yes where the limit on locked memory then forbids it.
            let made = io_uring(connections);
            if let Some(runtime) = made.map(Some).or_else(|error| match driver {
                Driver::Auto => Ok(None),
                _ => Err(error),
            })? {
                return Ok(Self::IoUring(runtime));
            }
        }
        RuntimeBuilder::<LegacyDriver>::new().build().map(Self::Epoll)
    }

    /// The driver that was got.
    pub(crate) fn driver(&self) -> Driver {
        match self {
            Self::Epoll(_) => Driver::Epoll,
            Self::IoUring(_) => Driver::IoUring,
        }
    }

    /// Runs a future and what it spawns until the future is done.
    pub(crate) fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::Epoll(runtime) => runtime.block_on(future),
            Self::IoUring(runtime) => runtime.block_on(future),
        }
    }
}

/// Starts a task on the running event loop.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) -> impl Future<Output = ()> {
    monoio::spawn(future)
}

fn io_uring(connections: usize) -> io::Result<monoio::Runtime<IoUringDriver>> {
    // A receive per connection is in flight, and the completion queue has twice the entries.
    let entries = connections.next_power_of_two().clamp(256, 8192) as u32;
    let build = |builder| {
        RuntimeBuilder::<IoUringDriver>::new().uring_builder(builder).with_entries(entries).build()
    };
    // The kernel's work for completions then runs on this thread when it asks for them, instead of
    // interrupting it: measurably faster, and its CPU time is counted where it belongs.
    let mut builder = io_uring::IoUring::builder();
    builder.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun();
    // Kernels before 6.1 do not know these.
    build(builder).or_else(|_| build(io_uring::IoUring::builder()))
}
