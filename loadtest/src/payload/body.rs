//! What an update of each kind holds.

use super::{
    chat::ChatType,
    content::Writer,
    kind::{UpdateKind, shares},
    script::Script,
    sizes::Sizes,
    template::{Draft, Slot, Template},
};
use crate::rng::Rng;

/// How many photos of albums there are for each type of chat.
pub(super) const ALBUM_TEMPLATES: u64 = 32;

/// About what stands before a template: the update's identifier, of nine digits or so.
const ID_BYTES: usize = r#"{"update_id":123456789"#.len();

/// The kind of an update with a photo of an album.
pub(super) fn album_kind(chat: ChatType) -> UpdateKind {
    match chat {
        ChatType::Channel => UpdateKind::ChannelPost,
        _ => UpdateKind::Message,
    }
}

/// The shortest body, in bytes without the update's identifier.
const BYTES_MIN: usize = 300 - r#"{"update_id":1"#.len();
/// The same of the one kind that holds little more than its chat.
const BYTES_MIN_STOPPED: usize = 150;
/// The longest body, in bytes without the update's identifier.
const BYTES_MAX: usize = 8 * 1024 - 64;

/// How often a template is rolled again because it is longer than it should be.
const TRIES: usize = 8;

/// Renders the templates of one type of chat, in the order of [`shares`].
pub(super) fn templates(chat: ChatType, size: Option<Sizes>, rng: &mut Rng) -> Vec<Template> {
    let mut list = Vec::new();
    for (kind, share) in shares(chat) {
        list.extend((0..share).map(|_| sized(kind, false, chat, size, rng)));
    }
    list
}

/// Renders photos of albums of one type of chat, [`ALBUM_TEMPLATES`] of them.
pub(super) fn albums(chat: ChatType, size: Option<Sizes>, rng: &mut Rng) -> Vec<Template> {
    let kind = album_kind(chat);
    (0..ALBUM_TEMPLATES).map(|_| sized(kind, true, chat, size, rng)).collect()
}

/// A template of about the size that is asked for.
fn sized(
    kind: UpdateKind,
    album: bool,
    chat: ChatType,
    size: Option<Sizes>,
    rng: &mut Rng,
) -> Template {
    let Some(size) = size else { return template(kind, album, chat, rng) };
    let bytes = size.pick(rng);
    let mut best = template(kind, album, chat, rng);
    for _ in 0..TRIES {
        if best.len() <= bytes {
            break;
        }
        let other = template(kind, album, chat, rng);
        if other.len() < best.len() {
            best = other;
        }
    }
    best.pad(bytes.saturating_sub(ID_BYTES));
    best
}

fn template(kind: UpdateKind, album: bool, chat: ChatType, rng: &mut Rng) -> Template {
    let shortest =
        if kind == UpdateKind::StoppedMessageGeneration { BYTES_MIN_STOPPED } else { BYTES_MIN };
    loop {
        let script = Script::pick(rng);
        let mut writer = Writer { draft: Draft::new(kind), rng: &mut *rng, chat, script };
        if album {
            writer.photo_of_an_album();
        } else {
            write(kind, &mut writer);
        }
        let template = writer.draft.finish(kind);
        // One word from a user without a last name, or a long text in a script of which each
        // letter takes six bytes: rare, so roll again.
        if (shortest..=BYTES_MAX).contains(&template.len()) {
            return template;
        }
    }
}

fn write(kind: UpdateKind, writer: &mut Writer<'_>) {
    use UpdateKind as K;
    match kind {
        K::Message | K::ChannelPost => writer.message("", false),
        K::EditedMessage | K::EditedChannelPost => writer.message("", true),
        K::BusinessMessage => writer.message(BUSINESS, false),
        K::EditedBusinessMessage => writer.message(BUSINESS, true),
        K::GuestMessage => writer.message(r#""guest_query_id":"4611686018427387904","#, false),
        K::CallbackQuery => callback_query(writer),
        K::InlineQuery => inline_query(writer),
        K::ChosenInlineResult => chosen_inline_result(writer),
        K::ShippingQuery | K::PreCheckoutQuery | K::PurchasedPaidMedia => payment(kind, writer),
        K::MyChatMember | K::ChatMember => chat_member(kind, writer),
        K::ChatJoinRequest => chat_join_request(writer),
        K::ChatBoost | K::RemovedChatBoost => boost(kind, writer),
        K::MessageReaction | K::MessageReactionCount => reaction(kind, writer),
        K::DeletedBusinessMessages | K::StoppedMessageGeneration => past_messages(kind, writer),
        K::BusinessConnection => business_connection(writer),
        K::ManagedBot | K::Subscription => of_a_user(kind, writer),
        K::Poll => poll(writer),
        K::PollAnswer => poll_answer(writer),
    }
}

const BUSINESS: &str = r#""business_connection_id":"kXfVqZ0aYEj2mS3tU9dB","#;

fn callback_query(w: &mut Writer<'_>) {
    let data = w.token(24);
    w.draft.raw(r#"{"id":""#).slot(Slot::LongId).raw(r#"","from":"#);
    w.sender();
    w.draft.raw(r#","message":"#);
    w.old_message();
    w.draft.raw(r#","chat_instance":"-"#).slot(Slot::LongId);
    w.draft.raw(r#"","data":"#).string(&data).raw("}");
}

fn inline_query(w: &mut Writer<'_>) {
    let length = w.rng.between(24, 120) as usize;
    let query = w.script.text(length, w.rng);
    w.draft.raw(r#"{"id":""#).slot(Slot::LongId).raw(r#"","from":"#);
    w.sender();
    w.draft.raw(r#","chat_type":"sender","query":"#).string(&query).raw(r#","offset":""}"#);
}

fn chosen_inline_result(w: &mut Writer<'_>) {
    let (result, message) = (w.token(36), w.token(32));
    let query = w.script.text(24, w.rng);
    w.draft.raw(r#"{"from":"#);
    w.sender();
    w.draft.raw(r#","inline_message_id":"#).string(&message);
    w.draft.raw(r#","query":"#).string(&query);
    w.draft.raw(r#","result_id":"#).string(&result).raw("}");
}

fn payment(kind: UpdateKind, w: &mut Writer<'_>) {
    // A payload may have 128 bytes.
    let length = w.rng.between(30, 128) as usize;
    let payload = w.token(length);
    w.draft.raw("{");
    if kind == UpdateKind::PurchasedPaidMedia {
        w.draft.raw(r#""from":"#);
        w.sender();
        w.draft.raw(r#","paid_media_payload":"#).string(&payload).raw("}");
        return;
    }
    w.draft.raw(r#""id":""#).slot(Slot::LongId).raw(r#"","from":"#);
    w.sender();
    if kind == UpdateKind::ShippingQuery {
        w.draft.raw(SHIPPING_ADDRESS);
    } else {
        w.draft.raw(r#","currency":"EUR","total_amount":1499,"shipping_option_id":"fast""#);
        w.draft.raw(r#","order_info":{"phone_number":"4930123456","email":"me@example.org""#);
        w.draft.raw(SHIPPING_ADDRESS).raw("}");
    }
    w.draft.raw(r#","invoice_payload":"#).string(&payload).raw("}");
}

const SHIPPING_ADDRESS: &str = r#","shipping_address":{"country_code":"DE","state":"","city":"Berlin","street_line1":"Hauptstr. 1","street_line2":"","post_code":"10115"}"#;

fn chat_member(kind: UpdateKind, w: &mut Writer<'_>) {
    w.draft.raw(r#"{"chat":"#);
    w.chat();
    w.draft.raw(r#","from":"#);
    w.sender();
    w.date();
    for (name, status) in [("old_chat_member", "left"), ("new_chat_member", "member")] {
        w.draft.raw(",\"").raw(name).raw(r#"":{"user":"#);
        if kind == UpdateKind::MyChatMember {
            w.bot()
        } else {
            w.sender()
        }
        w.draft.raw(r#","status":"#).string(status).raw("}");
    }
    w.draft.raw("}");
}

fn chat_join_request(w: &mut Writer<'_>) {
    w.draft.raw(r#"{"chat":"#);
    w.chat();
    w.draft.raw(r#","from":"#);
    w.sender();
    w.draft.raw(r#","user_chat_id":"#).slot(Slot::Sender);
    w.date();
    w.text("bio", 70);
    w.draft.raw("}");
}

fn boost(kind: UpdateKind, w: &mut Writer<'_>) {
    let id = w.token(32);
    let removed = kind == UpdateKind::RemovedChatBoost;
    w.draft.raw(r#"{"chat":"#);
    w.chat();
    if removed {
        w.draft.raw(r#","boost_id":"#).string(&id).raw(r#","remove_date":"#).slot(Slot::Date);
    } else {
        w.draft.raw(r#","boost":{"boost_id":"#).string(&id).raw(r#","add_date":"#).slot(Slot::Date);
        w.draft.raw(r#","expiration_date":1999999999"#);
    }
    w.draft.raw(r#","source":{"source":"premium","user":"#);
    w.sender();
    w.draft.raw(if removed { "}}" } else { "}}}" });
}

fn reaction(kind: UpdateKind, w: &mut Writer<'_>) {
    w.draft.raw(r#"{"chat":"#);
    w.chat();
    w.draft.raw(r#","message_id":"#).slot(Slot::Message);
    w.date();
    if kind == UpdateKind::MessageReaction {
        w.draft.raw(r#","user":"#);
        w.sender();
        w.draft.raw(r#","old_reaction":[],"new_reaction":[{"type":"emoji","emoji":"#);
        w.draft.string("👍").raw("}]}");
    } else {
        w.draft.raw(r#","reactions":["#);
        for (index, emoji) in ["❤", "👍", "🔥", "🎉"].into_iter().enumerate() {
            let count = w.rng.between(1, 900);
            w.draft.raw(if index == 0 { "" } else { "," });
            w.draft.raw(r#"{"type":{"type":"emoji","emoji":"#).string(emoji);
            w.draft.raw(r#"},"total_count":"#).number(count).raw("}");
        }
        w.draft.raw("]}");
    }
}

fn past_messages(kind: UpdateKind, w: &mut Writer<'_>) {
    w.draft.raw("{");
    if kind == UpdateKind::DeletedBusinessMessages {
        w.draft.raw(BUSINESS);
    }
    w.draft.raw(r#""chat":"#);
    w.chat();
    if kind == UpdateKind::DeletedBusinessMessages {
        w.draft.raw(r#","message_ids":["#);
        for _ in 0..w.rng.between(8, 20) {
            let old = w.rng.between(900_000, 999_999);
            w.draft.number(old).raw(",");
        }
        w.draft.slot(Slot::Reply).raw(",").slot(Slot::Message).raw("]}");
    } else {
        w.draft.raw(r#","draft_id":"#).slot(Slot::Message).raw("}");
    }
}

fn business_connection(w: &mut Writer<'_>) {
    let id = w.token(20);
    w.draft.raw(r#"{"id":"#).string(&id).raw(r#","user":"#);
    w.sender();
    w.draft.raw(r#","user_chat_id":"#).slot(Slot::Sender);
    w.date();
    w.draft.raw(r#","rights":{"can_reply":true,"can_read_messages":true"#);
    w.draft.raw(r#","can_delete_sent_messages":true},"is_enabled":true}"#);
}

fn of_a_user(kind: UpdateKind, w: &mut Writer<'_>) {
    let payload = w.token(120);
    w.draft.raw(r#"{"user":"#);
    w.sender();
    if kind == UpdateKind::ManagedBot {
        w.draft.raw(r#","bot":{"id":7000000002,"is_bot":true,"first_name":"Delivery news of "#);
        w.draft.raw(r#"Flat 12 & friends","username":"flat_12_and_friends_delivery_bot"}"#);
    } else {
        w.draft.raw(r#","invoice_payload":"#).string(&payload);
        w.draft.raw(r#","state":"active""#);
    }
    w.draft.raw("}");
}

fn poll(w: &mut Writer<'_>) {
    let options = w.rng.between(2, 8);
    let question = w.script.text(60, w.rng);
    w.draft.raw(r#"{"id":""#).slot(Slot::LongId).raw(r#"","question":"#).string(&question);
    w.draft.raw(r#","options":["#);
    for index in 0..options {
        let (text, votes) = (w.script.text(14, w.rng), w.rng.below(400));
        let id = w.token(24);
        w.draft.raw(if index == 0 { "" } else { "," });
        w.draft.raw(r#"{"persistent_id":"#).string(&id).raw(r#","text":"#).string(&text);
        w.draft.raw(r#","voter_count":"#).number(votes).raw("}");
    }
    w.draft.raw(r#"],"total_voter_count":1200,"is_closed":false,"is_anonymous":false,"#);
    w.draft.raw(r#""type":"regular","allows_multiple_answers":false}"#);
}

fn poll_answer(w: &mut Writer<'_>) {
    let count = w.rng.between(2, 6);
    w.draft.raw(r#"{"poll_id":""#).slot(Slot::LongId).raw(r#"","user":"#);
    w.sender();
    w.draft.raw(r#","option_ids":["#);
    for index in 0..count {
        w.draft.raw(if index == 0 { "" } else { "," }).number(index);
    }
    w.draft.raw(r#"],"option_persistent_ids":["#);
    for index in 0..count {
        let id = w.token(24);
        w.draft.raw(if index == 0 { "" } else { "," }).string(&id);
    }
    w.draft.raw("]}");
}
