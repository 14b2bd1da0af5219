//! The envelope around each result.

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{ApiError, RawUpdate};

#[derive(Deserialize)]
struct Envelope<'a> {
    ok: bool,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error_code: Option<u16>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    retry_after: Option<u64>,
}

/// The result in `body`, which came with `status`.
pub(super) fn result_of<T: DeserializeOwned>(status: u16, body: &str) -> Result<T, ApiError> {
    serde_json::from_str(raw_result(status, body)?.get())
        .map_err(|_| ApiError::Odd(format!("status {status}, a result of another kind")))
}

/// The updates in `body`, which came with `status`.
pub(super) fn updates_of(status: u16, body: &str) -> Result<Vec<RawUpdate>, ApiError> {
    #[derive(Deserialize)]
    struct Id {
        update_id: i64,
    }
    let odd = || ApiError::Odd(format!("status {status}, a result of another kind"));
    let raw: Vec<&RawValue> =
        serde_json::from_str(raw_result(status, body)?.get()).map_err(|_| odd())?;
    let updates = raw.iter().filter_map(|update| {
        let Id { update_id } = serde_json::from_str(update.get()).ok()?;
        Some(RawUpdate { id: update_id, json: update.get().to_owned() })
    });
    let updates: Vec<_> = updates.collect();
    if updates.is_empty() && !raw.is_empty() {
        return Err(odd());
    }
    if updates.len() < raw.len() {
        // To ask for them again and again would keep what is behind them from coming.
        let count = raw.len() - updates.len();
        tracing::error!(count, "getUpdates gave something without an update_id: passed over");
    }
    Ok(updates)
}

fn raw_result(status: u16, body: &str) -> Result<&RawValue, ApiError> {
    let odd = |what: &str| ApiError::Odd(format!("status {status}, {what}"));
    let envelope: Envelope<'_> =
        serde_json::from_str(body).map_err(|_| odd("no JSON of its form"))?;
    match envelope {
        Envelope { ok: true, result: Some(result), .. } => Ok(result),
        Envelope { ok: true, .. } => Err(odd("no result")),
        Envelope { error_code, description, parameters, .. } => Err(ApiError::Refused {
            code: error_code.unwrap_or(status),
            description: description.unwrap_or_default().replace(|c: char| c.is_control(), " "),
            retry_after: parameters
                .and_then(|parameters| parameters.retry_after)
                .map(Duration::from_secs),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use super::*;

    #[test]
    fn tells_results_refusals_and_everything_else_apart() {
        assert_eq!(result_of::<bool>(200, r#"{"ok":true,"result":true}"#), Ok(true));
        let refused = result_of::<bool>(
            429,
            r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 3","parameters":{"retry_after":3}}"#,
        );
        let Err(ApiError::Refused { code: 429, retry_after, .. }) = refused else {
            unreachable!("{refused:?}")
        };
        assert_eq!(retry_after, Some(Duration::from_secs(3)));
        for odd in ["<html>", "", "[]", r#"{"ok":true}"#, r#"{"ok":true,"result":"x"}"#] {
            assert!(matches!(result_of::<bool>(502, odd), Err(ApiError::Odd(_))), "{odd}");
        }
    }

    #[test]
    fn passes_over_what_has_no_id() {
        let body = r#"{"ok":true,"result":[{"update_id":"7"},[],{"message":{}},{"update_id":8}]}"#;
        let ids = updates_of(200, body).unwrap().iter().map(|update| update.id).collect::<Vec<_>>();
        assert_eq!(ids, [8]);
        assert!(updates_of(200, r#"{"ok":true,"result":[{"update_id":"7"}]}"#).is_err());
        assert!(updates_of(200, r#"{"ok":true,"result":[]}"#).unwrap().is_empty());
    }

    #[test]
    fn keeps_the_bytes_of_updates() {
        let body = "{\"ok\":true,\"result\":[{\"update_id\":7,\n\"message\":{\"a\":1.50}}]}";
        let updates = updates_of(200, body).unwrap();
        assert_eq!(updates.len(), 1);
        assert_eq!(updates[0].id, 7);
        assert_eq!(updates[0].json, "{\"update_id\":7,\n\"message\":{\"a\":1.50}}");
    }
}
