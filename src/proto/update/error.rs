//! Why bytes are no update.

use std::{error::Error, fmt};

use super::UpdateBody;

/// Why a body is no update. Nothing of the body's content is in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ParseError {
    /// `update_id` is missing, or it is no integer that fits an `i64`. Of several, the first
    /// counts.
    NoUpdateId,
    /// The body is JSON, but no object.
    NotAnObject,
    /// The body is no JSON text that this parser takes: RFC 8259 in UTF-8 without a BOM, each
    /// integer within `i64::MIN..=u64::MAX`, each number finite as an `f64`, no lone surrogates.
    NotJson {
        /// Where in the body it was noticed, in bytes; `None` where only the whole is known to be
        /// wrong, such as bad UTF-8, an open string or an empty body.
        offset: Option<usize>,
    },
    /// Arrays and objects are nested deeper than the parser's limit.
    TooDeep {
        /// The limit that was passed, the outermost object counted.
        depth_max: usize,
    },
}

impl ParseError {
    /// What simd-json's `error` means for a parser that nests up to `depth_max`.
    ///
    /// The character that simd-json quotes is left out: it is content.
    #[cold]
    pub(super) fn from_simd_json(error: &simd_json::Error, depth_max: usize) -> Self {
        match error.error() {
            simd_json::ErrorType::DepthLimitExceeded => Self::TooDeep { depth_max },
            // Without a character the index is a placeholder.
            _ => Self::NotJson { offset: error.character().map(|_| error.index()) },
        }
    }
}

impl ParseError {
    /// The name of what is wrong.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NoUpdateId => "no_update_id",
            Self::NotAnObject => "not_an_object",
            Self::NotJson { .. } => "not_json",
            Self::TooDeep { .. } => "too_deep",
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUpdateId => f.write_str("update_id is missing or no 64-bit integer"),
            Self::NotAnObject => f.write_str("the body is JSON but no object"),
            Self::NotJson { offset: Some(offset) } => {
                write!(f, "the body is not JSON (at byte {offset})")
            }
            Self::NotJson { offset: None } => f.write_str("the body is not JSON"),
            Self::TooDeep { depth_max } => {
                write!(f, "the body nests deeper than {depth_max} levels")
            }
        }
    }
}

impl Error for ParseError {}

/// A body that is no update, taken apart so that its memory can be used again.
#[derive(Debug)]
pub struct Rejected {
    /// What is wrong with it.
    pub error: ParseError,
    /// The body, empty: the parse has already rewritten parts of the content.
    pub body: UpdateBody,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Rejected {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
