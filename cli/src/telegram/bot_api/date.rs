//! What time it is at the Bot API.

use std::time::{Duration, SystemTime};

use super::{ApiError, client::agent, proxy::Way};
use crate::config::ApiRoot;
use ringhook::internals::redact::{HIDDEN, hide_tokens};

/// The `Date` of an answer of `root`, to the second; `None` where it has none. It needs no token,
/// and whatever is answered will do.
pub(crate) fn date(root: &ApiRoot, timeout: Duration) -> Result<Option<SystemTime>, ApiError> {
    let way = Way::from_env(root).map_err(|error| ApiError::Unreachable(error.to_string()))?;
    let request = agent(&way).get(format!("{root}/"));
    let request = request.config().timeout_global(Some(timeout)).build();
    let failed = |error| {
        let text = hide_tokens(&format!("{root}{}: {error}", way.described()));
        ApiError::Unreachable(way.redact(&text, HIDDEN))
    };
    let answer = request.call().map_err(failed)?;
    let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
    Ok(date.and_then(parse))
}

/// A date as HTTP has it (RFC 9110 section 5.6.7).
fn parse(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_date_of_http() {
        // RFC 9110 section 5.6.7.
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(date));
        for odd in ["", "Sun, 06 Nov 1994", "Sun, 06 Xyz 1994 08:49:37 GMT", "x, 1 Nov 1 1 GMT"] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }
}
