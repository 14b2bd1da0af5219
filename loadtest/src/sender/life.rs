//! How long an update is worth sending.

use super::SECOND;
use crate::{UpdateKind, clock::Nanos};

/// The life of an update of this kind, from its date.
pub(super) fn life(kind: UpdateKind) -> Nanos {
    use UpdateKind as K;
    let seconds = match kind {
        K::CallbackQuery | K::PreCheckoutQuery | K::ShippingQuery => 150,
        K::InlineQuery => 30,
        K::ChosenInlineResult => 600,
        _ => 24 * 3600,
    };
    seconds * SECOND
}
