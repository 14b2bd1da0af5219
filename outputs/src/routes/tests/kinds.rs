//! Which kinds of updates there is use for.

use ringhook::update::{BotId, UpdateKind as Kind};

use super::{NEWS, OUTPUTS, SHOP, routes};
use crate::routes::{KindSet, Routes};

/// The kinds of a configuration that drops what its routes do not take.
fn kinds_of_only(conditions: &[&str]) -> KindSet {
    let mut text = String::new();
    for conditions in conditions {
        text += &format!("[[route]]\n{conditions}\nto = 'bot'\n");
    }
    routes(&(text + "[[route]]\nto = 'drop'")).kinds()
}

const TEXT: KindSet = KindSet::new(&[
    Kind::Message,
    Kind::EditedMessage,
    Kind::ChannelPost,
    Kind::EditedChannelPost,
    Kind::BusinessMessage,
    Kind::EditedBusinessMessage,
    Kind::GuestMessage,
]);

#[test]
fn what_no_route_takes_goes_to_the_output_of_the_bot() {
    assert_eq!(routes("").kinds(), KindSet::KNOWN);
    assert_eq!(routes("[[route]]\nkind = 'poll'\nto = 'bot'").kinds(), KindSet::KNOWN);
    assert_eq!(Routes::compile(&[], &OUTPUTS, &[]).unwrap().kinds(), KindSet::KNOWN);
}

#[test]
fn what_is_dropped_is_of_no_use() {
    let without = routes("[[route]]\nkind = ['poll', 'poll_answer']\nto = 'drop'").kinds();
    assert_eq!(without, KindSet::KNOWN.without(KindSet::new(&[Kind::Poll, Kind::PollAnswer])));
    // Some of them are not dropped.
    let some = routes("[[route]]\nkind = 'message'\nchat = 5\nto = 'drop'").kinds();
    assert_eq!(some, KindSet::KNOWN);
    let before = routes(
        "[[route]]\nkind = 'message'\nchat = 5\nto = 'bot'\n\
         [[route]]\nkind = 'message'\nto = 'drop'\n\
         [[route]]\nkind = 'message'\nto = 'bot'\n\
         [[route]]\nkind = 'poll'\nto = 'drop'\n\
         [[route]]\nkind = 'poll'\nto = 'bot'",
    );
    assert_eq!(before.kinds(), KindSet::KNOWN.without(KindSet::new(&[Kind::Poll])));
    assert!(routes("[[route]]\nto = 'drop'").kinds().is_empty());
}

#[test]
fn conditions_tell_their_kinds() {
    for (conditions, expected) in [
        ("kind = ['poll', 'message']", KindSet::new(&[Kind::Message, Kind::Poll])),
        ("has = 'message.photo'", KindSet::new(&[Kind::Message])),
        ("has = ['message.photo', 'poll']", KindSet::new(&[Kind::Message, Kind::Poll])),
        ("where = { 'message.chat.type' = 'private' }", KindSet::new(&[Kind::Message])),
        ("where = { 'message.a' = { exists = true } }", KindSet::new(&[Kind::Message])),
        ("where = { 'message.a' = { exists = false } }", KindSet::new(&[Kind::Message])),
        ("where = { update_id = { min = 5 } }", KindSet::KNOWN),
        ("where = { 'poll.id' = '1' }\nhas = 'message'", KindSet::EMPTY),
        ("command = 'start'", TEXT),
        ("text_prefix = 'a'\nkind = ['poll', 'message']", KindSet::new(&[Kind::Message])),
        ("chat_type = 'sender'", KindSet::new(&[Kind::InlineQuery])),
        ("kind = 'unknown'", KindSet::EMPTY),
    ] {
        assert_eq!(kinds_of_only(&[conditions]), expected, "{conditions}");
    }
    let chat = kinds_of_only(&["chat = 5"]);
    assert_eq!(chat.len(), 17);
    let typed = kinds_of_only(&["chat_type = ['private', 'sender']"]);
    assert_eq!(typed.without(chat), KindSet::new(&[Kind::InlineQuery]));
    let from = kinds_of_only(&["from = 5"]);
    assert_eq!(from.len(), 21);
    let none = [
        Kind::DeletedBusinessMessages,
        Kind::MessageReactionCount,
        Kind::Poll,
        Kind::ChatBoost,
        Kind::RemovedChatBoost,
        Kind::StoppedMessageGeneration,
    ];
    assert_eq!(KindSet::KNOWN.without(from), KindSet::new(&none));
    let two = kinds_of_only(&["has = 'message.photo'", "kind = 'poll'"]);
    assert_eq!(two, KindSet::new(&[Kind::Message, Kind::Poll]));
}

#[test]
fn each_bot_has_use_for_its_own() {
    let routes = routes(
        "[[route]]\nbot = 'shop'\nkind = 'message'\nto = 'bot'\n\
         [[route]]\nbot = ['shop', 'news']\nkind = 'poll'\nto = 'bot'\n\
         [[route]]\nto = 'drop'",
    );
    assert_eq!(routes.kinds_of(SHOP), KindSet::new(&[Kind::Message, Kind::Poll]));
    assert_eq!(routes.kinds_of(NEWS), KindSet::new(&[Kind::Poll]));
    assert_eq!(routes.kinds_of(BotId::new(9)), KindSet::EMPTY);
    assert_eq!(routes.kinds(), KindSet::new(&[Kind::Message, Kind::Poll]));
}

#[test]
fn kinds_are_named_by_the_condition_kind_alone() {
    let routes = routes(
        "[[route]]\nkind = 'chat_boost'\nto = 'drop'\n\
         [[route]]\nbot = 'shop'\nkind = ['message', 'unknown', 'chat_boost']\nto = 'bot'\n\
         [[route]]\nhas = 'channel_post.text'\nto = 'bot'\n\
         [[route]]\nkind = 'poll'\nchat = [5]\nto = 'bot'\n\
         [[route]]\nkind = 'poll_answer'\nto = 'bot'\n\
         [[route]]\nto = 'bot'",
    );
    // A poll has no chat.
    assert_eq!(routes.kinds_named(SHOP), KindSet::new(&[Kind::Message, Kind::PollAnswer]));
    assert_eq!(routes.kinds_named(NEWS), KindSet::new(&[Kind::PollAnswer]));
}
