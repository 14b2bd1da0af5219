//! An answer as it goes over the wire: always the last one of its connection.

use std::{borrow::Cow, time::SystemTime};

use crate::proto::{
    answers,
    http::{Method, Status},
};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What a page says.
#[derive(Clone, Debug)]
pub(super) struct AdminResponse {
    body: Vec<u8>,
    content_type: Cow<'static, str>,
    /// Further fields, each with its line break.
    fields: String,
    /// Status code and phrase.
    status: &'static str,
}

impl AdminResponse {
    /// Lines for people and probes.
    pub(super) fn text(status: Status, text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        text.push('\n');
        Self::with(status, TEXT.into(), text.into_bytes())
    }

    /// A document that is JSON already.
    pub(super) fn json(mut body: Vec<u8>) -> Self {
        body.push(b'\n');
        Self::with(Status::Ok, JSON.into(), body)
    }

    /// A page of the program.
    pub(super) fn page(content_type: &str, body: Vec<u8>) -> Self {
        Self::with(Status::Ok, content_type.to_owned().into(), body)
    }

    /// A page of the program that has panicked. No peer of the public port gets this status.
    pub(super) fn failed() -> Self {
        let status = "500 Internal Server Error";
        let body = format!("{status}\n").into_bytes();
        Self { body, content_type: TEXT.into(), fields: String::new(), status }
    }

    fn with(status: Status, content_type: Cow<'static, str>, body: Vec<u8>) -> Self {
        Self { body, content_type, fields: String::new(), status: status.as_str() }
    }

    /// Adds a header field.
    pub(super) fn add_field(&mut self, name: &str, value: &str) {
        self.fields.extend([name, ": ", value, "\r\n"]);
    }

    /// What a status says by itself.
    pub(super) fn new(status: Status) -> Self {
        Self::text(status, status.as_str())
    }

    /// All bytes; for HEAD without the body that is announced.
    pub(super) fn to_bytes(&self, method: Option<Method>) -> Vec<u8> {
        // RFC 9110 section 15.5.6.
        let is_other_method = self.status == Status::MethodNotAllowed.as_str();
        let allow = if is_other_method { "Allow: GET, HEAD\r\n" } else { "" };
        // RFC 9110 section 6.6.1.
        let date = answers::date(SystemTime::now());
        let date = date.as_ref().and_then(|date| str::from_utf8(date).ok());
        let date = date.map(|date| format!("Date: {date}\r\n")).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {}\r\n{date}{allow}Content-Type: {}\r\n{}Content-Length: {}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.fields,
            self.body.len(),
        );
        let body = if method == Some(Method::Head) { &[][..] } else { &self.body };
        [head.as_bytes(), body].concat()
    }
}
