//! One realistic update of every kind, in the shape that Telegram sends: what each kind's field
//! holds is in a file named after it, text outside ASCII as escapes.
//!
//! In the files `@id` stands for a number that is new with each update, `"@now"` for the present as
//! Unix time and `"@month"` for a month later.

use std::time::Duration;

use ringhook::update::UpdateKind;

/// Seconds from `"@now"` to `"@month"`.
const MONTH: u64 = 30 * 24 * 3600;

/// Makes an arm for each kind; a kind that is forgotten does not compile.
macro_rules! payloads {
    ($($variant:ident = $file:literal,)+) => {
        /// What the kind's field holds, with what is to be filled in; `None` for
        /// [`UpdateKind::Unknown`], which has no known form.
        fn payload(kind: UpdateKind) -> Option<&'static str> {
            match kind {
                $(UpdateKind::$variant => Some(include_str!($file)),)+
                _ => None,
            }
        }
    };
}

payloads! {
    Message = "message.json",
    EditedMessage = "edited_message.json",
    ChannelPost = "channel_post.json",
    EditedChannelPost = "edited_channel_post.json",
    BusinessConnection = "business_connection.json",
    BusinessMessage = "business_message.json",
    EditedBusinessMessage = "edited_business_message.json",
    DeletedBusinessMessages = "deleted_business_messages.json",
    GuestMessage = "guest_message.json",
    MessageReaction = "message_reaction.json",
    MessageReactionCount = "message_reaction_count.json",
    InlineQuery = "inline_query.json",
    ChosenInlineResult = "chosen_inline_result.json",
    CallbackQuery = "callback_query.json",
    ShippingQuery = "shipping_query.json",
    PreCheckoutQuery = "pre_checkout_query.json",
    PurchasedPaidMedia = "purchased_paid_media.json",
    Poll = "poll.json",
    PollAnswer = "poll_answer.json",
    MyChatMember = "my_chat_member.json",
    ChatMember = "chat_member.json",
    ChatJoinRequest = "chat_join_request.json",
    ChatBoost = "chat_boost.json",
    RemovedChatBoost = "removed_chat_boost.json",
    ManagedBot = "managed_bot.json",
    Subscription = "subscription.json",
    StoppedMessageGeneration = "stopped_message_generation.json",
}

/// The body of an update of `kind` as Telegram writes it; `now` is since 1970. `None` for
/// [`UpdateKind::Unknown`].
pub(crate) fn update(kind: UpdateKind, id: i64, now: Duration) -> Option<String> {
    let (now, number) = (now.as_secs(), id.to_string());
    let payload = payload(kind)?
        .trim_end()
        .replace("\"@now\"", &now.to_string())
        .replace("\"@month\"", &(now + MONTH).to_string())
        .replace("\"@id\"", &number)
        .replace("@id", &number);
    Some(format!("{{\"update_id\":{id},\n\"{kind}\":{payload}}}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::unwrap_used)]

    use std::time::Instant;

    use super::*;
    use ringhook::internals::{
        bots::BotId,
        update::{ChatKey, UpdateBody, UpdateParser},
    };

    const NOW: Duration = Duration::from_secs(1_795_219_200);

    #[test]
    fn every_kind_has_a_sample_that_is_of_it() {
        for &kind in UpdateKind::ALL {
            let body = update(kind, 1_523_000_000, NOW).expect("a sample");
            let begin = format!("{{\"update_id\":1523000000,\n\"{kind}\":{{\"");
            assert!(body.starts_with(&begin), "{kind}");
            assert!(body.is_ascii(), "{kind}");
            let body = UpdateBody::from(body.into_bytes());
            let parsed = UpdateParser::default().parse(body, BotId::default(), Instant::now());
            let parsed = parsed.unwrap();
            assert_eq!((parsed.kind(), parsed.id().get()), (kind, 1_523_000_000));
            // The key of its order is where the kind has it.
            assert!(!matches!(parsed.chat_key(), ChatKey::Update(_)), "{kind}");
        }
        assert_eq!(update(UpdateKind::Unknown, 1, NOW), None);
    }

    #[test]
    fn nothing_is_left_to_be_filled_in_and_dates_are_now() {
        for &kind in UpdateKind::ALL {
            let body = update(kind, 7, NOW).unwrap();
            for left in ["@id", "@now", "@month"] {
                assert!(!body.contains(left), "{kind}: {left}");
            }
            let update: serde_json::Value = serde_json::from_str(&body).unwrap();
            let object = update.get(kind.as_str()).unwrap();
            for key in ["date", "edit_date", "remove_date"] {
                if let Some(date) = object.get(key) {
                    assert_eq!(date.as_u64(), Some(NOW.as_secs()), "{kind}.{key}");
                }
            }
        }
    }

    #[test]
    fn text_outside_ascii_is_escaped() {
        let message = update(UpdateKind::Message, 1, NOW).unwrap();
        assert!(message.contains(r"\u041f\u0440\u0438\u0432\u0435\u0442 \ud83d\udc4b"));
    }
}
