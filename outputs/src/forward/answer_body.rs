//! The body of a target's answer, as it comes.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use httparse::{Status, parse_chunk_size};
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncWriteExt as _, duplex},
    join,
    task::yield_now,
};

use super::{answer::Framing, connection::Connection};
use crate::client::pool::Pool;

/// The longest line that begins a chunk, in bytes, and the most bytes of trailers.
const LINE_MAX: usize = 16 * 1024;

/// A body on its way. With its end the connection goes back to its pool, where it can be used
/// again; with an error, or where the rest is not wanted, it is closed.
pub(super) struct AnswerBody {
    /// `None` behind the end.
    connection: Option<Connection>,
    left: Left,
    is_kept: bool,
    pool: Arc<Pool<Connection>>,
}

/// What is still to come.
#[derive(Debug)]
enum Left {
    Bytes(u64),
    /// The line with a chunk's size.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    /// Fields behind the last chunk, of which so many bytes have come, and an empty line.
    Trailers(usize),
    UntilEnd,
}

/// What a step of reading has come to.
enum Step {
    Data(Bytes),
    /// More has to be read.
    Wanting,
    End,
}

impl AnswerBody {
    /// `is_kept` says whether the connection can be used again behind the body.
    pub(super) fn new(
        connection: Connection,
        framing: Framing,
        is_kept: bool,
        pool: Arc<Pool<Connection>>,
    ) -> Self {
        let left = match framing {
            Framing::Length(length) => Left::Bytes(length),
            Framing::Chunked => Left::Size,
            Framing::UntilEnd => Left::UntilEnd,
        };
        Self { connection: Some(connection), left, is_kept, pool }
    }

    /// The length, where the head tells it.
    pub(super) fn length(&self) -> Option<u64> {
        match self.left {
            Left::Bytes(length) => Some(length),
            _ => None,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Self { connection: slot, left, is_kept, pool } = self;
        let Some(connection) = slot else { return Poll::Ready(None) };
        loop {
            match left.step(connection) {
                Ok(Step::Data(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(Step::End) => {
                    let connection = slot.take();
                    // What came behind the end was not asked for.
                    if let Some(connection) =
                        connection.filter(|it| *is_kept && it.received().is_empty())
                    {
                        pool.put(connection);
                    }
                    return Poll::Ready(None);
                }
                Ok(Step::Wanting) => {}
                Err(error) => {
                    *slot = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match ready!(connection.poll_fill(context)) {
                Ok(0) if matches!(left, Left::UntilEnd) => {
                    *slot = None;
                    return Poll::Ready(None);
                }
                Ok(0) => {
                    *slot = None;
                    return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                }
                Ok(_) => {}
                Err(error) => {
                    *slot = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl Left {
    /// Takes what has come, as far as it goes.
    fn step(&mut self, connection: &mut Connection) -> io::Result<Step> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        loop {
            let received = connection.received();
            match self {
                Self::Bytes(0) => return Ok(Step::End),
                Self::Chunk(0) => *self = Self::ChunkEnd,
                _ if received.is_empty() => return Ok(Step::Wanting),
                Self::Bytes(left) | Self::Chunk(left) => {
                    let data = connection.take(*left);
                    *left -= data.len() as u64;
                    return Ok(Step::Data(data));
                }
                Self::UntilEnd => return Ok(Step::Data(connection.take(u64::MAX))),
                Self::Size => match parse_chunk_size(received) {
                    Ok(Status::Complete((line, size))) => {
                        connection.skip(line);
                        *self = if size == 0 { Self::Trailers(0) } else { Self::Chunk(size) };
                    }
                    Ok(Status::Partial) if received.len() < LINE_MAX => return Ok(Step::Wanting),
                    _ => return Err(malformed()),
                },
                Self::ChunkEnd => match received {
                    [b'\r', b'\n', ..] => {
                        connection.skip(2);
                        *self = Self::Size;
                    }
                    [b'\r'] => return Ok(Step::Wanting),
                    _ => return Err(malformed()),
                },
                Self::Trailers(come) => match received.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        let is_empty = matches!(received.get(..end), Some([] | [b'\r']));
                        *come += end + 1;
                        if *come > LINE_MAX {
                            return Err(malformed());
                        }
                        connection.skip(end + 1);
                        if is_empty {
                            *self = Self::Bytes(0);
                        }
                    }
                    None if *come + received.len() < LINE_MAX => return Ok(Step::Wanting),
                    None => return Err(malformed()),
                },
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.get_mut().poll(context).map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Status and content of the answer that comes in `parts`, and whether its connection can be used
/// again; `None` where that is no answer, or is cut off.
#[doc(hidden)]
pub async fn read_answer(parts: impl IntoIterator<Item = &[u8]>) -> Option<(u16, Bytes, bool)> {
    let (near, mut far) = duplex(1024 * 1024);
    let (mut connection, pool) = (Connection::new(Box::new(near)), Arc::default());
    let read = async {
        let head = connection.head().await.ok()?;
        let body = AnswerBody::new(connection, head.framing, head.is_kept, Arc::clone(&pool));
        Some((head.status, body.collect().await.ok()?.to_bytes()))
    };
    let write = async {
        for part in parts {
            // It may be refused already.
            let _ = far.write_all(part).await;
            yield_now().await;
        }
        let is_kept = !pool.is_empty();
        drop(far);
        is_kept
    };
    let (answer, is_kept) = join!(biased; read, write);
    answer.map(|(status, content)| (status, content, is_kept))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use std::future::Future;

    use proptest::prelude::*;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    /// The content of what comes in these parts, then the end of the connection; whether it can be
    /// used again.
    fn read(framing: Framing, parts: &[&[u8]]) -> (io::Result<Vec<u8>>, bool) {
        run(async {
            let (near, mut far) = duplex(1024 * 1024);
            let pool = Arc::<Pool<Connection>>::default();
            let connection = Connection::new(Box::new(near));
            let body = AnswerBody::new(connection, framing, true, Arc::clone(&pool));
            let reading = tokio::spawn(body.collect());
            for part in parts {
                // It may be refused already.
                let _ = far.write_all(part).await;
                yield_now().await;
            }
            let was_kept = !pool.is_empty();
            drop(far);
            let content = reading.await.unwrap().map(|content| content.to_bytes().to_vec());
            (content, was_kept)
        })
    }

    #[test]
    fn a_whole_answer_is_the_same_in_one_part_and_in_single_bytes() {
        let answer =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            2\r\nok\r\n0\r\n\r\n";
        let whole = run(read_answer([answer.as_slice()]));
        assert_eq!(whole, Some((200, Bytes::from_static(b"ok"), true)));
        assert_eq!(run(read_answer(answer.chunks(1))), whole);
        assert_eq!(run(read_answer([&answer[..answer.len() - 1]])), None);
    }

    #[test]
    fn it_is_the_same_wherever_it_is_cut() {
        let chunked: &[u8] = b"5;a=b\r\nhello\r\n1\r\n!\r\n000\r\nX: y\r\nZ: z\r\n\r\n";
        for (framing, bytes) in [(Framing::Chunked, chunked), (Framing::Length(6), b"hello!")] {
            for cut in 0..=bytes.len() {
                let (content, was_kept) = read(framing, &[&bytes[..cut], &bytes[cut..]]);
                assert_eq!(
                    (content.unwrap().as_slice(), was_kept),
                    (&b"hello!"[..], true),
                    "{cut}"
                );
            }
            for cut in 0..bytes.len() {
                let (content, was_kept) = read(framing, &[&bytes[..cut]]);
                assert_eq!(content.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{cut}");
                assert!(!was_kept);
            }
        }
    }

    #[test]
    fn without_a_length_it_ends_with_the_connection() {
        let (content, was_kept) = read(Framing::UntilEnd, &[b"hel", b"lo"]);
        assert_eq!((content.unwrap(), was_kept), (b"hello".to_vec(), false));
    }

    #[test]
    fn a_connection_on_which_more_came_is_closed() {
        let (content, was_kept) = read(Framing::Length(2), &[b"hello"]);
        assert_eq!((content.unwrap(), was_kept), (b"he".to_vec(), false));
    }

    #[test]
    fn chunks_that_are_none_are_refused() {
        let long = [b"1;".as_slice(), &vec![b'a'; LINE_MAX]].concat();
        let trailers = [b"0\r\n".as_slice(), &b"A: b\r\n".repeat(LINE_MAX / 6 + 1)].concat();
        let wrong: [&[u8]; 6] =
            [b"x\r\n", b"-1\r\n", b"11111111111111111\r\n", b"1\r\nab\r\n", &long, &trailers];
        for bytes in wrong {
            let (content, was_kept) = read(Framing::Chunked, &[bytes]);
            assert_eq!(content.unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert!(!was_kept);
        }
    }

    proptest! {
        #[test]
        fn chunks_are_put_together(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..2000), 0..8),
            part in 1..700_usize,
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend(chunk.iter().chain(b"\r\n"));
            }
            bytes.extend(b"0\r\n\r\n");
            let parts: Vec<_> = bytes.chunks(part).collect();
            let (content, was_kept) = read(Framing::Chunked, &parts);
            prop_assert_eq!(content.unwrap(), chunks.concat());
            prop_assert!(was_kept);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in proptest::collection::vec(proptest::sample::select(b"01aF;\r\n HTP/.:".to_vec()), 0..300),
            part in 1..50_usize,
        ) {
            let parts: Vec<_> = bytes.chunks(part).collect();
            drop(read(Framing::Chunked, &parts));
            drop(super::super::answer::AnswerHead::parse(&bytes));
        }
    }
}
