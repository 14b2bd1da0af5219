//! Values of an update as headers.

use http::{HeaderMap, HeaderName, HeaderValue};
use ringhook::update::Update;

use crate::routes::Fields;

/// The longest value of a header, in bytes: servers take no long ones. A longer one is cut.
const VALUE_MAX: usize = 4096;

/// Adds each field that `update` has to `headers`.
pub(super) fn add(fields: &Fields, update: &Update, headers: &mut HeaderMap) {
    let mut text = Vec::new();
    fields.for_each(update, |name, value| {
        text.clear();
        value.write_text(&mut text);
        text.truncate(VALUE_MAX);
        // Text of an update may have line breaks, which would end the header.
        for byte in &mut text {
            if byte.is_ascii_control() {
                *byte = b' ';
            }
        }
        let value = HeaderValue::from_bytes(text.trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), value) {
            headers.insert(name, value);
        }
    });
}
