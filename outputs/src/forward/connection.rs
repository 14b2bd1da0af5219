//! One connection to a target: requests are written to it, heads of answers are read from it.
//!
//! Not hyper's: a request to a target is one write and one read, most answers have no body, and
//! hyper's tasks and channels took a third of a forwarded update's CPU time (`docs/decisions.md`).

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

use super::answer::{AnswerHead, Malformed};
use crate::client::{dial::Io, pool::Kept};

/// The longest head of an answer, in bytes.
const HEAD_MAX: usize = 64 * 1024;
/// The least room for what a read gives, in bytes: more than most answers have.
const READ_SIZE: usize = 1024;

pub(super) struct Connection {
    stream: Box<dyn Io>,
    /// What has come and was not taken yet.
    received: BytesMut,
}

impl Kept for Connection {
    /// True where the server has neither closed it nor sent what was not asked for.
    fn is_usable(&mut self) -> bool {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        let mut context = Context::from_waker(Waker::noop());
        self.received.is_empty()
            && Pin::new(&mut self.stream).poll_read(&mut context, &mut byte).is_pending()
    }
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Io>) -> Self {
        Self { stream, received: BytesMut::new() }
    }

    /// Sends a whole request, and waits for the head of its answer. Interim answers are left out.
    ///
    /// # Errors
    /// The connection has ended, or what came is no answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> io::Result<AnswerHead> {
        let written = self.write(request).await;
        // A server may answer and close before it has read all.
        match self.head().await {
            Ok(head) => Ok(head),
            Err(error) => Err(written.err().unwrap_or(error)),
        }
    }

    async fn write(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await
    }

    /// The head of the next answer that is not interim.
    pub(super) async fn head(&mut self) -> io::Result<AnswerHead> {
        loop {
            match AnswerHead::parse(&self.received) {
                Ok(Some((length, head))) => {
                    self.received.advance(length);
                    if !head.is_interim() {
                        return Ok(head);
                    }
                }
                Ok(None) if self.received.len() < HEAD_MAX => {
                    if poll_fn(|context| self.poll_fill(context)).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Ok(None) | Err(Malformed) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// What has come and was not taken yet.
    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Takes the first `count` bytes of what has come, or all where there are fewer.
    pub(super) fn take(&mut self, count: u64) -> Bytes {
        let count = usize::try_from(count)
            .map_or(self.received.len(), |count| count.min(self.received.len()));
        self.received.split_to(count).freeze()
    }

    /// Leaves out the first `count` bytes of what has come.
    pub(super) fn skip(&mut self, count: usize) {
        debug_assert!(count <= self.received.len(), "{count} bytes have not come");
        self.received.advance(count.min(self.received.len()));
    }

    /// Reads more; gives how many bytes came, none at the end of the connection.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.received.reserve(READ_SIZE);
        // It holds no state between two polls.
        pin!(self.stream.read_buf(&mut self.received)).poll(context)
    }
}
