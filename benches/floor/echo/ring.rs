//! io_uring itself, as sparing as it can be: one multishot receive for each connection, into
//! buffers that the kernel chooses from a shared ring; sends submitted all together, silent where
//! they work; one system call for a batch.

use std::{
    alloc::{self, Layout},
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use io_uring::{
    IoUring, cqueue, opcode, squeue,
    types::{BufRingEntry, Fd, Fixed, SubmitArgs, Timespec},
};

const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 8192;
/// Buffers for receiving; a power of two, more than there are connections.
const BUFFERS: u16 = 256;
/// Most requests fit.
const BUFFER_BYTES: usize = 4096;
const GROUP: u16 = 0;
const PAGE: usize = 4096;
/// Marks completions of sends, which come only where one failed.
const SEND: u64 = 1 << 32;

/// Which features of the kernel are used.
#[derive(Clone, Copy)]
pub(super) struct Flavour {
    /// DEFER_TASKRUN; else COOP_TASKRUN.
    pub(super) defer: bool,
    /// Registered sockets.
    pub(super) fixed: bool,
}

/// A ring and its connections.
pub(super) struct Ring {
    // Before the buffers: the kernel must not know them any more when they are freed.
    ring: IoUring,
    buffers: Buffers,
    flavour: Flavour,
    sockets: Vec<TcpStream>,
}

/// How long a wait for more than one completion may be, so that the caller sees single ones in
/// time.
const PATIENCE: Duration = Duration::from_millis(1);

impl Ring {
    pub(super) fn new(sockets: Vec<TcpStream>, flavour: Flavour) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_single_issuer();
        if flavour.defer {
            builder.setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        let ring = builder.build(SUBMISSIONS)?;
        if flavour.fixed {
            let descriptors: Vec<_> = sockets.iter().map(|socket| socket.as_raw_fd()).collect();
            ring.submitter().register_files(&descriptors)?;
        }
        let buffers = Buffers::new();
        // SAFETY: the memory is as large as BUFFERS entries, and is freed after the ring.
        unsafe {
            ring.submitter().register_buf_ring(buffers.entries as u64, BUFFERS, GROUP)?;
        }
        Ok(Self { ring, buffers, flavour, sockets })
    }

    /// Sends `first` on each connection. Then sends what `answer` returns for each piece of bytes
    /// that a connection has received, until all peers have gone or `is_over`, which is asked at
    /// least every 50 ms, is true.
    ///
    /// It waits for `batch` pieces at once, for a millisecond at the most.
    pub(super) fn run<'a>(
        &mut self,
        batch: usize,
        first: &[&'a [u8]],
        mut answer: impl FnMut(usize, &[u8]) -> Option<&'a [u8]>,
        is_over: impl Fn() -> bool,
    ) -> io::Result<()> {
        let mut left = self.sockets.len();
        for connection in 0..left {
            self.push(&self.receive(connection))?;
        }
        for (connection, bytes) in first.iter().enumerate() {
            self.push(&self.send(connection, bytes))?;
        }
        let pause = if batch > 1 { PATIENCE } else { Duration::from_millis(50) };
        let pause = Timespec::from(pause);
        let wait = SubmitArgs::new().timespec(&pause);
        let mut completions: Vec<cqueue::Entry> = Vec::with_capacity(COMPLETIONS as usize);
        let mut is_ending = false;
        while left > 0 {
            if !is_ending && is_over() {
                is_ending = true;
                // Operations under way end by themselves then, so the kernel has no memory of ours
                // any more.
                for socket in &self.sockets {
                    socket.shutdown(Shutdown::Both)?;
                }
            }
            match self.ring.submitter().submit_with_args(batch, &wait) {
                Err(error) if error.raw_os_error() != Some(libc::ETIME) => return Err(error),
                _ => {}
            }
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                if completion.user_data() & SEND != 0 {
                    continue; // its peer has gone
                }
                let connection = completion.user_data() as usize;
                let result = completion.result();
                let is_full = result == -libc::ENOBUFS;
                if result <= 0 && !is_full {
                    left -= 1;
                    continue;
                }
                if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                    let bytes = self.buffers.bytes(buffer, result as usize);
                    let next = answer(connection, bytes);
                    self.buffers.give(buffer);
                    if let Some(bytes) = next {
                        self.push(&self.send(connection, bytes))?;
                    }
                }
                if !cqueue::more(completion.flags()) {
                    self.push(&self.receive(connection))?;
                }
            }
            self.buffers.publish();
        }
        Ok(())
    }

    fn receive(&self, connection: usize) -> squeue::Entry {
        let entry = if self.flavour.fixed {
            opcode::RecvMulti::new(Fixed(connection as u32), GROUP).build()
        } else {
            opcode::RecvMulti::new(Fd(self.sockets[connection].as_raw_fd()), GROUP).build()
        };
        entry.user_data(connection as u64)
    }

    fn send(&self, connection: usize, bytes: &[u8]) -> squeue::Entry {
        let (start, length) = (bytes.as_ptr(), bytes.len() as u32);
        // All of it, and no signal where the peer has gone.
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = if self.flavour.fixed {
            opcode::Send::new(Fixed(connection as u32), start, length).flags(flags).build()
        } else {
            let socket = Fd(self.sockets[connection].as_raw_fd());
            opcode::Send::new(socket, start, length).flags(flags).build()
        };
        entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(SEND | connection as u64)
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what is sent outlives `run`, as its lifetime says, and a connection's next
            // send comes only after the peer has got the last one; receives have no memory.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }
}

/// Memory for receiving, and the ring that describes it to the kernel.
struct Buffers {
    entries: *mut BufRingEntry,
    memory: Vec<u8>,
    tail: u16,
}

impl Buffers {
    fn new() -> Self {
        // SAFETY: the layout's size is not zero.
        let entries = unsafe { alloc::alloc_zeroed(Self::layout()) };
        assert!(!entries.is_null());
        let memory = vec![0; usize::from(BUFFERS) * BUFFER_BYTES];
        let mut buffers = Self { entries: entries.cast(), memory, tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.give(buffer));
        buffers.publish();
        buffers
    }

    fn layout() -> Layout {
        let bytes = usize::from(BUFFERS) * size_of::<BufRingEntry>();
        Layout::from_size_align(bytes, PAGE).unwrap()
    }

    fn bytes(&self, buffer: u16, length: usize) -> &[u8] {
        &self.memory[usize::from(buffer) * BUFFER_BYTES..][..length]
    }

    /// Puts a buffer back, behind the others; the kernel sees it with the next [`Self::publish`].
    fn give(&mut self, buffer: u16) {
        let start = self.memory[usize::from(buffer) * BUFFER_BYTES..].as_mut_ptr();
        let index = usize::from(self.tail % BUFFERS);
        // SAFETY: the index is below BUFFERS, so the entry is one of ours; the kernel reads no
        // entry that is behind the published tail.
        let entry = unsafe { &mut *self.entries.add(index) };
        entry.set_addr(start as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the first entry's spare field is the tail, which the kernel reads at any time, so
        // it is written as an atomic one.
        unsafe {
            let tail = BufRingEntry::tail(self.entries).cast_mut().cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout.
        unsafe { alloc::dealloc(self.entries.cast(), Self::layout()) };
    }
}
