//! One target with its connections, and the requests that go there.

use std::{io::Write as _, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use rustls::ClientConfig;

use super::{answer::AnswerHead, answer_body::AnswerBody, connection::Connection};
use crate::client::{
    dial::{Dial, Lost},
    pool::Pool,
    target::Target,
};

/// The name of the header with a webhook's secret.
pub(super) const SECRET_HEADER: HeaderName =
    HeaderName::from_static("x-telegram-bot-api-secret-token");
/// The fields of a request whose values differ, in bytes: most have fewer.
const FIELDS_SIZE: usize = 256;

/// A target, and its connections that are idle.
pub(super) struct Upstream {
    dial: Dial,
    idle: Arc<Pool<Connection>>,
    /// What all requests begin with: the request line and `Host`.
    beginning: Vec<u8>,
}

/// An answer's head, with the connection on which the rest of it comes.
pub(super) struct Answer {
    pub(super) head: AnswerHead,
    connection: Connection,
}

impl Upstream {
    pub(super) fn new(target: Target, tls: Arc<ClientConfig>, connect_timeout: Duration) -> Self {
        let mut beginning = format!("POST {} HTTP/1.1\r\n", target.uri()).into_bytes();
        write_field(&mut beginning, &header::HOST, target.authority());
        Self { dial: Dial::new(target, tls, connect_timeout), idle: Arc::default(), beginning }
    }

    pub(super) fn target(&self) -> &Target {
        self.dial.target()
    }

    pub(super) fn idle(&self) -> &Pool<Connection> {
        &self.idle
    }

    /// The request for one update, as Telegram would make it but for `Connection` and
    /// `Accept-Encoding`: the first is the default, and a compressed reply could not be read.
    pub(super) fn request(
        &self,
        secret: Option<&HeaderValue>,
        further: &HeaderMap,
        body: &[u8],
    ) -> Vec<u8> {
        let mut request = Vec::with_capacity(self.beginning.len() + FIELDS_SIZE + body.len());
        request.extend_from_slice(&self.beginning);
        if let Some(secret) = secret {
            write_field(&mut request, &SECRET_HEADER, secret);
        }
        request.extend_from_slice(b"Content-Type: application/json\r\n");
        for (name, value) in further {
            write_field(&mut request, name, value);
        }
        // A write to a vector does not fail.
        let _ = write!(request, "Content-Length: {}\r\n\r\n", body.len());
        request.extend_from_slice(body);
        request
    }

    /// Sends a request on a kept connection, or on a new one where that has been closed by the
    /// target.
    ///
    /// Where a connection ends with a request that was sent, one more is made, even if only to
    /// learn whether the target's process is still there.
    pub(super) async fn ask(&self, request: &[u8]) -> Result<Answer, Lost> {
        let kept = self.idle.take();
        let was_kept = kept.is_some();
        if let Some(mut connection) = kept
            && let Ok(head) = connection.ask(request).await
        {
            return Ok(Answer { head, connection });
        }
        let ended = |lost| if was_kept && lost == Lost::Refused { Lost::Ended } else { lost };
        let mut connection = Connection::new(self.dial.connect().await.map_err(ended)?);
        match connection.ask(request).await {
            Ok(head) => Ok(Answer { head, connection }),
            Err(_) => match self.dial.connect().await {
                Err(Lost::Refused) => Err(Lost::Ended),
                // It is not kept: the next request would be sent twice to a target that hangs up.
                Ok(_) | Err(_) => Err(Lost::Reset),
            },
        }
    }

    /// The body that follows. Where there is none the connection is kept at once.
    pub(super) fn body(&self, answer: Answer) -> Option<AnswerBody> {
        let Answer { head, connection } = answer;
        if !head.is_whole() {
            let idle = Arc::clone(&self.idle);
            return Some(AnswerBody::new(connection, head.framing, head.is_kept, idle));
        }
        if head.is_kept && connection.received().is_empty() {
            self.idle.put(connection);
        }
        None
    }
}

/// Writes a field with its name as Telegram writes names: each word begins with a capital.
fn write_field(request: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let mut begins = true;
    request.extend(name.as_str().bytes().map(|byte| {
        let written = if begins { byte.to_ascii_uppercase() } else { byte };
        begins = byte == b'-';
        written
    }));
    request.extend_from_slice(b": ");
    request.extend_from_slice(value.as_bytes());
    request.extend_from_slice(b"\r\n");
}
