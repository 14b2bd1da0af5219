//! Method calls in the answers of targets: webhook replies.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    answer_body::AnswerBody,
    multipart::{Found, MethodFinder},
};
use crate::client::link::BoxError;

/// The longest body of JSON or of a form that is executed, as by Telegram's sender, and the most of
/// a multipart body that is held in memory.
const WHOLE_MAX: usize = 1024 * 1024;
/// The longest multipart body: the largest file that a bot may send, 50 MB, with room for the rest.
const STREAM_MAX: u64 = 50 * 1024 * 1024;
/// The most of an answer without a call that is read, and for how long, so that its connection can
/// be used again.
const LEFT_MAX: usize = 64 * 1024;
const LEFT_WAIT: Duration = Duration::from_secs(1);
/// The longest name of a method.
const METHOD_MAX: usize = 64;

/// A call of a method of the Bot API.
pub(super) struct Call {
    /// Letters, digits and underscores.
    pub(super) method: String,
    pub(super) content_type: HeaderValue,
    pub(super) body: CallBody,
}

pub(super) enum CallBody {
    /// It may be sent several times.
    Whole(Bytes),
    /// What has been read of it, and the rest, which can be sent once.
    Streamed { read: Bytes, rest: AnswerBody, length: Option<u64> },
}

/// What an answer of 2xx holds.
pub(super) enum Reply {
    /// No call: nothing, `ok`, `{"ok":true}`.
    Nothing,
    Call(Call),
    /// A call that can not be made: it was cut off or is too long.
    Broken,
    /// It names a method as none is named.
    Unnamed,
}

#[derive(Deserialize)]
struct MethodOnly {
    method: String,
}

/// Reads what an answer replies, until `deadline`. Of a call that is streamed the rest is to be
/// read.
pub(super) async fn read(
    content_type: Option<HeaderValue>,
    body: AnswerBody,
    deadline: Instant,
) -> Reply {
    let length = body.length();
    let text = content_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match (&content_type, MethodFinder::new(text)) {
        (Some(content_type), _)
            if matches!(&*essence, "application/json" | "application/x-www-form-urlencoded") =>
        {
            let Ok(Some(whole)) = timeout_at(deadline, collect(body, WHOLE_MAX)).await else {
                return Reply::Broken;
            };
            let method = match &*essence {
                "application/json" => method_of_json(&whole),
                _ => method_of_form(&whole),
            };
            method.map_or(Reply::Nothing, |method| {
                named(method, content_type.clone(), CallBody::Whole(whole))
            })
        }
        (Some(content_type), Some(finder)) if essence == "multipart/form-data" => {
            let reading = call_of_multipart(body, finder, length, content_type.clone());
            timeout_at(deadline, reading).await.unwrap_or(Reply::Broken)
        }
        _ => {
            drain(body).await;
            Reply::Nothing
        }
    }
}

/// Reads what is left of an answer; `None` where that is too much or takes too long.
pub(super) async fn drain(body: impl Body<Data = Bytes> + Unpin) -> Option<Bytes> {
    timeout(LEFT_WAIT, collect(body, LEFT_MAX)).await.ok().flatten()
}

/// The whole body; `None` where it is longer than `max` bytes or is cut off.
async fn collect(mut body: impl Body<Data = Bytes> + Unpin, max: usize) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if whole.len() + data.len() > max {
            return None;
        }
        whole.extend_from_slice(&data);
    }
    Some(whole.freeze())
}

fn method_of_json(json: &[u8]) -> Option<String> {
    serde_json::from_slice::<MethodOnly>(json).ok().map(|MethodOnly { method }| method)
}

/// The value of the field `method`, as it is: a name has nothing that would be escaped.
fn method_of_form(form: &[u8]) -> Option<String> {
    let mut fields = form.split(|byte| *byte == b'&');
    let method = fields.find_map(|field| field.strip_prefix(b"method="))?;
    Some(String::from_utf8_lossy(method).into_owned())
}

/// Reads until the part `method` is complete, and on where the whole is short: what is whole can
/// be sent again.
async fn call_of_multipart(
    mut body: AnswerBody,
    mut finder: MethodFinder,
    length: Option<u64>,
    content_type: HeaderValue,
) -> Reply {
    if length.is_some_and(|length| length > STREAM_MAX) {
        return Reply::Broken;
    }
    let is_short = length.is_some_and(|length| length <= WHOLE_MAX as u64);
    let (mut read, mut method) = (BytesMut::new(), None);
    loop {
        if method.is_none() {
            match finder.look(&read) {
                Found::Method(found) => method = Some(found),
                Found::NotYet => {}
                Found::Nothing => return Reply::Nothing,
            }
        }
        let is_enough = match &method {
            // Without a length the rest is read as far as it may be held.
            Some(_) if length.is_none() => read.len() > WHOLE_MAX,
            Some(_) => !is_short,
            None if read.len() > WHOLE_MAX => return Reply::Broken,
            None => false,
        };
        if is_enough && let Some(method) = method {
            let body = CallBody::Streamed { read: read.freeze(), rest: body, length };
            return named(method, content_type, body);
        }
        match body.frame().await {
            None => break,
            Some(Err(_)) => return Reply::Broken,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    read.extend_from_slice(&data);
                }
            }
        }
    }
    match method {
        Some(method) => named(method, content_type, CallBody::Whole(read.freeze())),
        None => Reply::Nothing,
    }
}

/// The method becomes a part of a path, so it may be nothing but a name.
fn named(method: String, content_type: HeaderValue, body: CallBody) -> Reply {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match !method.is_empty() && method.len() <= METHOD_MAX && method.bytes().all(is_name) {
        true => Reply::Call(Call { method, content_type, body }),
        false => Reply::Unnamed,
    }
}

/// What has been read of a body, then the rest of it.
pub(super) struct Spliced {
    read: Option<Bytes>,
    rest: AnswerBody,
    length: Option<u64>,
    passed: u64,
    /// Whether it was cut off or was too long.
    is_broken: Arc<AtomicBool>,
}

impl Spliced {
    pub(super) fn new(
        read: Bytes,
        rest: AnswerBody,
        length: Option<u64>,
        is_broken: &Arc<AtomicBool>,
    ) -> Self {
        let is_broken = Arc::clone(is_broken);
        Self { read: Some(read), rest, length, passed: 0, is_broken }
    }

    fn pass(&mut self, data: Bytes) -> Result<Frame<Bytes>, BoxError> {
        self.passed += data.len() as u64;
        if self.passed > STREAM_MAX {
            self.is_broken.store(true, Relaxed);
            return Err("a webhook reply is too long".into());
        }
        Ok(Frame::data(data))
    }
}

impl Body for Spliced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(read) = self.read.take()
            && !read.is_empty()
        {
            return Poll::Ready(Some(self.pass(read)));
        }
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.rest).poll_frame(context)) {
                None => None,
                Some(Err(error)) => {
                    self.is_broken.store(true, Relaxed);
                    Some(Err(error.into()))
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(self.pass(data)),
                    // Trailers.
                    Err(_) => continue,
                },
            });
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, |length| {
            SizeHint::with_exact(length.saturating_sub(self.passed))
        })
    }
}
