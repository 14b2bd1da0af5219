//! The envelope around each result.

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{ApiError, RawUpdate, cut};

/// The longest wait that is understood; the caller has a bound of its own.
const WAIT_MAX: f64 = 1e6;
/// How far into an answer the number of its first update is looked for.
const HEAD_BYTES: usize = 256;

/// What is not of the expected kind in it counts as not there: it must not hide the rest.
#[derive(Deserialize)]
struct Envelope<'a> {
    ok: bool,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    description: Option<&'a RawValue>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
}

/// The result in `body`, which came with `status`.
pub(super) fn result_of<T: DeserializeOwned>(status: u16, body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_str(raw_result(status, &String::from_utf8_lossy(body))?.get())
        .map_err(|_| ApiError::Odd(format!("status {status}, a result of another kind")))
}

/// The updates in `body`, which came with `status`. They are cut out of it and not looked at: what
/// is no JSON, or no update, is one that cannot be taken, with the number that it has.
pub(super) fn updates_of(status: u16, body: &[u8], limit: u8) -> Result<Vec<RawUpdate>, ApiError> {
    let is_ok = cut::member(body, b"ok") == Some(b"true");
    let Some(raw) = cut::member(body, b"result").filter(|_| is_ok).and_then(cut::elements) else {
        if let Some(update) = only_one(body).filter(|_| limit == 1) {
            return Ok(vec![update]);
        }
        raw_result(status, &String::from_utf8_lossy(body))?;
        return Err(ApiError::Odd(format!("status {status}, a result of another kind")));
    };
    let updates = raw.iter().filter_map(|update| {
        let id = std::str::from_utf8(cut::member(update, b"update_id")?).ok()?.parse().ok()?;
        Some(RawUpdate { id, json: update.to_vec() })
    });
    let updates: Vec<_> = updates.collect();
    if updates.is_empty() && !raw.is_empty() {
        return Err(ApiError::Odd(format!("status {status}, a result of another kind")));
    }
    if updates.len() < raw.len() {
        // To ask for them again and again would keep what is behind them from coming.
        let count = raw.len() - updates.len();
        tracing::error!(count, "getUpdates gave something without an update_id: passed over");
    }
    Ok(updates)
}

/// The one update of an answer whose brackets or quotes do not fit, so that its end is
/// unknown: all that there is. The answer itself has to have an end, or it was only cut off.
fn only_one(body: &[u8]) -> Option<RawUpdate> {
    const BEGINNING: &[u8] = br#"{"ok":true,"result":["#;
    let json = body.trim_ascii().strip_prefix(BEGINNING)?.strip_suffix(b"]}")?;
    let head = json.get(..HEAD_BYTES).unwrap_or(json);
    let number = head.strip_prefix(br#"{"update_id":"#)?;
    let length = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let id = std::str::from_utf8(number.get(..length)?).ok()?.parse().ok()?;
    Some(RawUpdate { id, json: json.to_vec() })
}

fn raw_result(status: u16, body: &str) -> Result<&RawValue, ApiError> {
    let odd = |what: &str| match status {
        // Of a proxy in front of the Bot API.
        429 => ApiError::Refused {
            code: 429,
            description: "Too Many Requests".to_owned(),
            retry_after: None,
        },
        _ => ApiError::Odd(format!("status {status}, {what}")),
    };
    let envelope: Envelope<'_> =
        serde_json::from_str(body).map_err(|_| odd("no JSON of its form"))?;
    match envelope {
        Envelope { ok: true, result: Some(result), .. } => Ok(result),
        Envelope { ok: true, .. } => Err(odd("no result")),
        Envelope { error_code, description, parameters, .. } => {
            let code = error_code.and_then(|code| serde_json::from_str(code.get()).ok());
            let description = description.and_then(|text| serde_json::from_str(text.get()).ok());
            let description: String = description.unwrap_or_default();
            let wait = parameters.and_then(|all| cut::member(all.get().as_bytes(), b"retry_after"));
            Err(ApiError::Refused {
                code: code.unwrap_or(status),
                description: description.replace(|c: char| c.is_control(), " "),
                retry_after: wait.and_then(|wait| wait_of(std::str::from_utf8(wait).ok()?)),
            })
        }
    }
}

/// How long `text` asks to wait: a number of seconds, with a fraction or in quotes too. `None`
/// where it is none.
pub(super) fn wait_of(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().trim_matches('"').trim().parse().ok()?;
    // Neither less than nothing nor what is no number.
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(WAIT_MAX)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use super::*;

    #[test]
    fn tells_results_refusals_and_everything_else_apart() {
        assert_eq!(result_of::<bool>(200, br#"{"ok":true,"result":true}"#), Ok(true));
        let refused = result_of::<bool>(
            429,
            br#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 3","parameters":{"retry_after":3}}"#,
        );
        let Err(ApiError::Refused { code: 429, retry_after, .. }) = refused else {
            unreachable!("{refused:?}")
        };
        assert_eq!(retry_after, Some(Duration::from_secs(3)));
        for odd in ["<html>", "", "[]", r#"{"ok":true}"#, r#"{"ok":true,"result":"x"}"#] {
            assert!(
                matches!(result_of::<bool>(502, odd.as_bytes()), Err(ApiError::Odd(_))),
                "{odd}"
            );
        }
    }

    #[test]
    fn passes_over_what_has_no_id() {
        let body = br#"{"ok":true,"result":[{"update_id":"7"},[],{"message":{}},{"update_id":8}]}"#;
        let ids =
            updates_of(200, body, 100).unwrap().iter().map(|update| update.id).collect::<Vec<_>>();
        assert_eq!(ids, [8]);
        assert!(updates_of(200, br#"{"ok":true,"result":[{"update_id":"7"}]}"#, 100).is_err());
        assert!(updates_of(200, br#"{"ok":true,"result":[]}"#, 100).unwrap().is_empty());
    }

    #[test]
    fn keeps_the_bytes_of_updates() {
        let body = b"{\"ok\":true,\"result\":[{\"update_id\":7,\n\"message\":{\"a\":1.50}}]}";
        let updates = updates_of(200, body, 100).unwrap();
        assert_eq!(updates.len(), 1);
        assert_eq!(updates[0].id, 7);
        assert_eq!(updates[0].json, b"{\"update_id\":7,\n\"message\":{\"a\":1.50}}");
    }

    #[test]
    fn an_update_that_cannot_be_read_does_not_hide_the_others() {
        for bad in [
            &b"{\"update_id\":11,\"text\":\"\xff\xfe\"}"[..],
            b"{\"update_id\":11,\"text\":\"\0\"}",
            b"{\"update_id\":11,\"text\":\"\\ud83d\"}",
            b"{\"update_id\":11,\"n\":01,\"m\":1e999999}",
            b"{\"n\":tru, \"update_id\" : 11 }",
            &[b"{\"update_id\":11,\"deep\":", &b"["[..].repeat(5000)[..], &b"]".repeat(5000), b"}"]
                .concat(),
        ] {
            let parts: [&[u8]; 3] =
                [b"{\"ok\":true,\"result\":[{\"update_id\":10},", bad, b",{\"update_id\":12}]}"];
            let updates = updates_of(200, &parts.concat(), 100).unwrap();
            let ids: Vec<_> = updates.iter().map(|update| update.id).collect();
            assert_eq!(ids, [10, 11, 12], "{}", String::from_utf8_lossy(bad));
            assert_eq!(updates[1].json, bad);
        }
    }

    /// The end of an update with unbalanced brackets is unknown; what was cut off on its way comes
    /// again.
    #[test]
    fn one_without_an_end_is_passed_over_where_it_is_alone() {
        let body = |updates: &str| format!("{{\"ok\":true,\"result\":[{updates}]}}").into_bytes();
        for bad in ["{\"update_id\":11,\"x\":[}", "{\"update_id\":11,\"x\":\"a\"b\"}"] {
            let (alone, beside) = (body(bad), body(&format!("{bad},{{\"update_id\":12}}")));
            assert_eq!(updates_of(200, &alone, 1).unwrap()[0].id, 11, "{bad}");
            assert!(updates_of(200, &beside, 100).is_err(), "{bad}");
            let cut_off = &alone[..alone.len() - 1];
            assert!(updates_of(200, cut_off, 1).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_wait_is_understood_in_all_its_forms() {
        let after = |parameters: &str| {
            let body = format!(
                "{{\"ok\":false,\"error_code\":429,\"description\":\"x\",\"parameters\":{parameters}}}"
            );
            match result_of::<bool>(429, body.as_bytes()) {
                Err(ApiError::Refused { code: 429, retry_after, .. }) => retry_after,
                other => unreachable!("{parameters}: {other:?}"),
            }
        };
        for (form, millis) in [
            ("{\"retry_after\":3}", Some(3000)),
            ("{\"retry_after\":2.5}", Some(2500)),
            ("{\"retry_after\":\"2\"}", Some(2000)),
            ("{\"retry_after\":\" 2.25 \"}", Some(2250)),
            ("{\"retry_after\":0}", Some(0)),
            ("{\"retry_after\":1e300}", Some(1_000_000_000)),
            ("{\"retry_after\":-1}", None),
            ("{\"retry_after\":null}", None),
            ("{\"retry_after\":\"soon\"}", None),
            ("{\"retry_after\":[1]}", None),
            ("{\"retry_after\":\"NaN\"}", None),
            ("{}", None),
            ("[]", None),
            ("null", None),
        ] {
            assert_eq!(after(form), millis.map(Duration::from_millis), "{form}");
        }
        let of_a_proxy = result_of::<bool>(429, b"<html>");
        assert!(matches!(of_a_proxy, Err(ApiError::Refused { code: 429, .. })), "{of_a_proxy:?}");
        let odd = result_of::<bool>(400, b"{\"ok\":false,\"error_code\":\"x\",\"description\":7}");
        assert!(matches!(odd, Err(ApiError::Refused { code: 400, .. })), "{odd:?}");
    }
}
