//! The echo as ringhook talks to the kernel: a task for each connection, on a ring with the flags
//! of `src/io/runtime.rs`.

use std::{cell::Cell, io, net, rc::Rc, time::Duration};

use monoio::{
    IoUringDriver, RuntimeBuilder,
    io::{AsyncReadRent as _, AsyncWriteRentExt as _},
    net::TcpStream,
};

use super::Framing;

/// As in `src/io/runtime.rs`.
const RING_ENTRIES: u32 = 1024;
const COMPLETION_ENTRIES: u32 = 8192;
const READ_BYTES: usize = 4096;

/// Serves until all peers have gone.
pub(super) fn serve(sockets: Vec<net::TcpStream>, answer: &'static [u8]) -> io::Result<()> {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_cqsize(COMPLETION_ENTRIES).setup_single_issuer().setup_coop_taskrun();
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(RING_ENTRIES)
        .uring_builder(builder)
        .enable_timer()
        .build()?;
    runtime.block_on(async {
        let left = Rc::new(Cell::new(sockets.len()));
        for socket in sockets {
            let stream = TcpStream::from_std(socket)?;
            let left = Rc::clone(&left);
            drop(monoio::spawn(async move {
                // A peer that has gone is the end, however it went.
                let _ = connection(stream, answer).await;
                left.set(left.get() - 1);
            }));
        }
        while left.get() > 0 {
            monoio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    })
}

async fn connection(mut stream: TcpStream, answer: &'static [u8]) -> io::Result<()> {
    let mut framing = Framing::default();
    let mut buffer: Vec<u8> = Vec::with_capacity(READ_BYTES);
    loop {
        buffer.clear();
        let (outcome, read) = stream.read(buffer).await;
        buffer = read;
        if outcome? == 0 {
            return Ok(());
        }
        if framing.is_end(&buffer) {
            stream.write_all(answer).await.0?;
        }
    }
}
