//! Answers in the form of the Bot API.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use serde_json::{json, value::RawValue};

use super::pass::PassedBody;
use crate::client::link::BoxError;

/// What stands around the updates of an answer.
const OPENING: &[u8] = b"{\"ok\":true,\"result\":[";
const CLOSING: &[u8] = b"]}";
/// What almost each update begins with.
const ID_KEY: &[u8] = b"{\"update_id\":";

/// The body of an answer.
pub(super) enum AnswerBody {
    Whole(Full<Bytes>),
    Passed(Box<PassedBody>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Passed(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Passed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Passed(body) => body.size_hint(),
        }
    }
}

/// An answer of this process.
pub(super) type Answer = Response<AnswerBody>;

fn whole(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(AnswerBody::Whole(Full::new(body.into())));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// A result, as JSON.
pub(super) fn result(value: &serde_json::Value, description: Option<&str>) -> Answer {
    let mut object = json!({ "ok": true, "result": value });
    if let (Some(text), Some(object)) = (description, object.as_object_mut()) {
        object.insert("description".to_owned(), text.into());
    }
    whole(StatusCode::OK, object.to_string())
}

/// A failure; `description` begins as the Bot API's do, such as `Bad Request: ..`.
pub(super) fn error(status: StatusCode, description: &str) -> Answer {
    let code = status.as_u16();
    let object = json!({ "ok": false, "error_code": code, "description": description });
    whole(status, object.to_string())
}

/// Updates, each with the number that it is to have, where that is not its own.
pub(super) fn updates<'a>(updates: impl Iterator<Item = (Option<i64>, &'a [u8])>) -> Answer {
    let mut body = OPENING.to_vec();
    for (index, (number, update)) in updates.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        match number {
            Some(number) => write_numbered(update, number, &mut body),
            None => body.extend_from_slice(update),
        }
    }
    body.extend_from_slice(CLOSING);
    whole(StatusCode::OK, body)
}

/// Writes `update` with `number` in the place of its id.
fn write_numbered(update: &[u8], number: i64, body: &mut Vec<u8>) {
    body.extend_from_slice(ID_KEY);
    body.extend_from_slice(number.to_string().as_bytes());
    if let Some(rest) = update.strip_prefix(ID_KEY) {
        let rest = rest.trim_ascii_start();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
        return body.extend_from_slice(rest.get(digits..).unwrap_or_default());
    }
    let fields: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(update).unwrap_or_default();
    for (name, value) in fields.iter().filter(|(name, _)| *name != "update_id") {
        body.push(b',');
        body.extend_from_slice(serde_json::Value::from(&**name).to_string().as_bytes());
        body.push(b':');
        body.extend_from_slice(value.get().as_bytes());
    }
    body.push(b'}');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_update_gets_another_number_and_stays_the_same() {
        for update in [
            "{\"update_id\":123,\"message\":{\"update_id\":123,\"text\":\"\\u0416\"}}",
            "{\"update_id\": -5\n,\"message\":{\"update_id\":123,\"text\":\"\\u0416\"}}",
            " { \"message\":{\"update_id\":123,\"text\":\"\u{416}\"},\"update_id\":9 } ",
        ] {
            let mut body = Vec::new();
            write_numbered(update.as_bytes(), 7, &mut body);
            let expected =
                json!({"update_id": 7, "message": {"update_id": 123, "text": "\u{416}"}});
            let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(value, expected, "{update}");
        }
        let mut body = Vec::new();
        write_numbered(b"{\"update_id\":1}", 7, &mut body);
        assert_eq!(body, b"{\"update_id\":7}");
    }
}
