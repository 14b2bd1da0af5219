//! An answer as it goes over the wire: always the last one of its connection.

use std::time::SystemTime;

use crate::proto::{
    answers,
    http::{Method, Status},
};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What a page says.
#[derive(Debug)]
pub(super) struct AdminResponse {
    body: Vec<u8>,
    content_type: &'static str,
    status: Status,
}

impl AdminResponse {
    /// Lines for people and probes.
    pub(super) fn text(status: Status, text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        text.push('\n');
        Self { body: text.into_bytes(), content_type: TEXT, status }
    }

    /// A document that is JSON already.
    pub(super) fn json(mut body: Vec<u8>) -> Self {
        body.push(b'\n');
        Self { body, content_type: JSON, status: Status::Ok }
    }

    /// What a status says by itself.
    pub(super) fn new(status: Status) -> Self {
        Self::text(status, status.as_str())
    }

    /// All bytes; for HEAD without the body that is announced.
    pub(super) fn to_bytes(&self, method: Option<Method>) -> Vec<u8> {
        let allow = match self.status {
            // RFC 9110 section 15.5.6.
            Status::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            _ => "",
        };
        // RFC 9110 section 6.6.1.
        let date = answers::date(SystemTime::now());
        let date = date.as_ref().and_then(|date| str::from_utf8(date).ok());
        let date = date.map(|date| format!("Date: {date}\r\n")).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {}\r\n{date}{allow}Content-Type: {}\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            self.status.as_str(),
            self.content_type,
            self.body.len(),
        );
        let body = if method == Some(Method::Head) { &[][..] } else { &self.body };
        [head.as_bytes(), body].concat()
    }
}
