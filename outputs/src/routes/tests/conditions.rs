//! Each condition, on realistic updates.

use ringhook::update::UpdateKind as Kind;

use super::{NEWS, parse, parse_for, routes, sample, takes, update};
use crate::routes::KindSet;

/// The kinds whose samples are taken by a route with these conditions.
fn kinds_taken(conditions: &str) -> KindSet {
    Kind::ALL.iter().copied().filter(|kind| takes(conditions, &sample(*kind))).collect()
}

/// A message with this text and nothing beside it.
fn text(text: &str) -> ringhook::Update {
    update("message", &serde_json::json!({ "text": text }).to_string())
}

#[test]
fn a_route_without_conditions_takes_all() {
    assert_eq!(kinds_taken(""), KindSet::KNOWN);
    assert!(takes("", &parse(r#"{"update_id":1}"#)));
    assert!(takes("", &parse(r#"{"future_kind":{},"update_id":1}"#)));
}

#[test]
fn bots_are_known_by_name() {
    let (shop, news) = (parse(r#"{"update_id":1}"#), parse_for(NEWS, r#"{"update_id":1}"#));
    assert!(takes("bot = 'shop'", &shop));
    let routes = routes(
        "[[route]]\nbot = 'news'\nkind = 'poll'\nto = 'drop'\n\
         [[route]]\nbot = ['news', 'shop']\nhas = 'message'\nto = 'audit'",
    );
    assert_eq!(routes.route(&shop).route, None);
    // Each has an output of its own for what no route takes.
    assert_eq!(routes.route(&shop).outputs.iter().collect::<Vec<_>>(), [0]);
    assert_eq!(routes.route(&news).outputs.iter().collect::<Vec<_>>(), [2]);
    let later = parse_for(ringhook::update::BotId::new(9), r#"{"update_id":1}"#);
    assert_eq!(routes.route(&later).outputs.iter().collect::<Vec<_>>(), [0]);
    for (bot, taken) in [(super::SHOP, Some(1)), (NEWS, Some(1))] {
        let message = parse_for(bot, r#"{"update_id":1,"message":{}}"#);
        assert_eq!(routes.route(&message).route, taken);
    }
    let poll = parse_for(NEWS, r#"{"update_id":1,"poll":{}}"#);
    let decision = routes.route(&poll);
    assert_eq!((decision.route, decision.outputs.is_empty()), (Some(0), true));
}

#[test]
fn kinds_are_known_by_name() {
    for &kind in Kind::ALL {
        assert_eq!(kinds_taken(&format!("kind = '{kind}'")), KindSet::new(&[kind]));
    }
    let two = KindSet::new(&[Kind::Message, Kind::Poll]);
    assert_eq!(kinds_taken("kind = ['poll', 'message']"), two);
    assert!(takes("kind = 'unknown'", &parse(r#"{"future_kind":{},"update_id":1}"#)));
    assert!(kinds_taken("kind = 'unknown'").is_empty());
}

#[test]
fn chats_are_those_that_updates_are_about() {
    let group = KindSet::new(&[
        Kind::EditedMessage,
        Kind::GuestMessage,
        Kind::MessageReaction,
        Kind::ChatMember,
        Kind::ChatJoinRequest,
    ]);
    let channel = KindSet::new(&[
        Kind::ChannelPost,
        Kind::EditedChannelPost,
        Kind::MessageReactionCount,
        Kind::ChatBoost,
        Kind::RemovedChatBoost,
    ]);
    // The inline queries of this user are about no chat.
    let private = KindSet::new(&[
        Kind::Message,
        Kind::BusinessMessage,
        Kind::EditedBusinessMessage,
        Kind::DeletedBusinessMessages,
        Kind::CallbackQuery,
        Kind::MyChatMember,
        Kind::StoppedMessageGeneration,
    ]);
    assert_eq!(kinds_taken("chat = -1001876543210"), group);
    assert_eq!(kinds_taken("chat = [-1001765432109]"), channel);
    assert_eq!(kinds_taken("chat = [5, 1234567890, -7]"), private);
    assert_eq!(kinds_taken("chat_type = 'supergroup'"), group);
    assert_eq!(kinds_taken("chat_type = 'channel'"), channel);
    assert_eq!(kinds_taken("chat_type = 'private'"), private);
    assert_eq!(kinds_taken("chat_type = 'sender'"), KindSet::new(&[Kind::InlineQuery]));
    let whole = group.union(channel).union(private);
    assert_eq!(kinds_taken("chat_type = ['supergroup', 'channel', 'private', 'group']"), whole);
}

#[test]
fn a_chat_that_is_no_chat_does_not_fit() {
    for payload in [
        "{}",
        "null",
        "[]",
        "7",
        r#"{"chat":7}"#,
        r#"{"chat":{"id":"7"}}"#,
        r#"{"chat":{"id":7.0,"type":3}}"#,
        r#"{"chat":null}"#,
        r#"{"message":{"chat":{"id":7,"type":"private"}}}"#,
    ] {
        let message = update("message", payload);
        assert!(!takes("chat = 7", &message), "{payload}");
        assert!(!takes("chat_type = 'private'", &message), "{payload}");
    }
    // A button under a message of inline mode comes without the message.
    let callback = update("callback_query", r#"{"from":{"id":7},"inline_message_id":"A"}"#);
    assert!(!takes("chat = 7", &callback));
    assert!(takes("from = 7", &callback));
    // A lane is no chat.
    assert!(!takes("chat = 7", &update("inline_query", r#"{"from":{"id":7}}"#)));
    assert!(!takes("chat = 7", &update("poll", r#"{"id":"7"}"#)));
}

#[test]
fn from_is_the_user_who_acts() {
    let anna = KindSet::new(&[
        Kind::Message,
        Kind::BusinessMessage,
        Kind::EditedBusinessMessage,
        Kind::InlineQuery,
        Kind::ChosenInlineResult,
        Kind::CallbackQuery,
        Kind::MyChatMember,
    ]);
    assert_eq!(kinds_taken("from = 1234567890"), anna);
    // What a kind calls `user` is one too: who reacted and who voted.
    let bob = KindSet::new(&[
        Kind::EditedMessage,
        Kind::GuestMessage,
        Kind::MessageReaction,
        Kind::PollAnswer,
        Kind::PurchasedPaidMedia,
        Kind::ChatJoinRequest,
    ]);
    assert_eq!(kinds_taken("from = [2034567891, 1]"), bob);
    // A member who was let in is not who let in.
    let zoe = KindSet::new(&[
        Kind::BusinessConnection,
        Kind::ShippingQuery,
        Kind::PreCheckoutQuery,
        Kind::ManagedBot,
        Kind::Subscription,
        Kind::ChatMember,
    ]);
    assert_eq!(kinds_taken("from = 1934567892"), zoe);
    // The bot that sent the message under a button has not pressed it.
    assert!(kinds_taken("from = 5234567893").is_empty());
}

#[test]
fn commands_are_those_that_telegram_marks() {
    assert_eq!(kinds_taken("command = 'start'"), KindSet::new(&[Kind::Message]));
    assert_eq!(kinds_taken("command = ['help', '/start']"), KindSet::new(&[Kind::Message]));
    assert!(kinds_taken("command = 'help'").is_empty());
    let marked = |written: &str, entities: &str| {
        let text = serde_json::to_string(written).unwrap();
        update("message", &format!(r#"{{"text":{text},"entities":{entities}}}"#))
    };
    let command = |length: usize| {
        format!(
            r#"[{{"type":"bold","offset":0,"length":3}},
               {{"type":"bot_command","offset":0,"length":{length}}}]"#
        )
    };
    for (written, length) in
        [("/start", 6), ("/start now", 6), ("/START@a_bot x", 12), ("/start@b_bot", 12)]
    {
        assert!(takes("command = 'start'", &marked(written, &command(length))), "{written}");
        assert!(!takes("command = 'star'", &marked(written, &command(length))), "{written}");
    }
    // Of a longer word the entity covers all.
    assert!(!takes("command = 'start'", &marked("/starting", &command(9))));
    // In a block of code, or not at the beginning.
    let code = r#"[{"type":"pre","offset":0,"length":6}]"#;
    assert!(!takes("command = 'start'", &marked("/start", code)));
    let later = r#"[{"type":"bot_command","offset":3,"length":6}]"#;
    assert!(!takes("command = 'start'", &marked("/a /start", later)));
    // Entities that make no sense.
    for wrong in [
        r#"[{"type":"bot_command","offset":0,"length":0}]"#,
        r#"[{"type":"bot_command","offset":0,"length":900}]"#,
        r#"[{"type":"bot_command","offset":0,"length":-1}]"#,
        r#"[{"type":"bot_command","offset":0}]"#,
        r#"[{"type":"bot_command","offset":0,"length":2}]"#,
        r#"[7,null,{"type":7}]"#,
    ] {
        assert!(!takes("command = 'start'", &marked("/start", wrong)), "{wrong}");
        assert!(!takes("command = 'start'", &marked("/é", wrong)), "{wrong}");
    }
    let caption = update(
        "channel_post",
        r#"{"caption":"/start","caption_entities":[{"type":"bot_command","offset":0,"length":6}]}"#,
    );
    assert!(takes("command = 'start'", &caption));
}

#[test]
fn commands_without_entities_are_read_as_telegram_reads_them() {
    for written in ["/start", "/start x", "/start@a_bot", "/start\nx", "/start, x", "/Start"] {
        assert!(takes("command = 'start'", &text(written)), "{written}");
    }
    for written in
        ["start", " /start", "/", "/ start", "/starts", "/start_", "/start/x", "/starté", ""]
    {
        assert!(!takes("command = 'start'", &text(written)), "{written}");
    }
    let empty = update("message", r#"{"text":"/start","entities":[]}"#);
    assert!(takes("command = 'start'", &empty));
    // Data of a button is no text.
    assert!(!takes("command = 'start'", &update("callback_query", r#"{"data":"/start"}"#)));
}

#[test]
fn text_begins_with_a_prefix() {
    assert_eq!(kinds_taken("text_prefix = '/start '"), KindSet::new(&[Kind::Message]));
    let prefixes = "text_prefix = ['Corrected', 'Good']";
    let posts = KindSet::new(&[Kind::ChannelPost, Kind::EditedChannelPost]);
    assert_eq!(kinds_taken(prefixes), posts);
    let escaped = text("\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442} \u{1f44b}");
    assert!(takes("text_prefix = 'Прив'", &escaped));
    assert!(!takes("text_prefix = 'прив'", &escaped));
    assert!(!takes("text_prefix = 'colour:'", &sample(Kind::CallbackQuery)));
    let data = "where = { 'callback_query.data' = { prefix = 'colour:' } }";
    assert_eq!(kinds_taken(data), KindSet::new(&[Kind::CallbackQuery]));
}

#[test]
fn has_asks_for_one_of_some_paths() {
    let post = KindSet::new(&[Kind::ChannelPost]);
    assert_eq!(kinds_taken("has = 'channel_post.photo.1.file_id'"), post);
    assert!(kinds_taken("has = 'channel_post.photo.2.file_id'").is_empty());
    let two = KindSet::new(&[Kind::ChannelPost, Kind::Message]);
    let paths = "has = ['message.text', 'channel_post.photo', 'poll.photo']";
    assert_eq!(kinds_taken(paths), two);
    assert_eq!(kinds_taken("has = 'poll'"), KindSet::new(&[Kind::Poll]));
    assert_eq!(kinds_taken("has = 'update_id'"), KindSet::KNOWN);
    assert!(!takes("has = 'message.text'", &update("message", r#"{"text":null}"#)));
    assert!(!takes("has = 'message'", &update("message", "null")));
    assert!(takes("has = 'message.0'", &update("message", r#"{"0":1}"#)));
    assert!(takes("has = 'future_kind.x'", &update("future_kind", r#"{"x":1}"#)));
}

#[test]
fn where_compares_values() {
    let payload = r#"{"b":true,"f":1.5,"g":2.0,"i":7,"n":null,"s":"seven","a":[1,{"k":-3}],
        "o":{},"u":18446744073709551615,"t":"7"}"#;
    let message = update("message", payload);
    for (test, is_met) in [
        ("b = true", true),
        ("b = false", false),
        ("b = [false, true]", true),
        ("b = 1", false),
        ("i = 7", true),
        ("i = 7.0", true),
        ("i = 8", false),
        ("i = '7'", false),
        ("t = '7'", true),
        ("t = 7", false),
        ("i = [1, 'seven', 7]", true),
        ("i = { min = 7 }", true),
        ("i = { max = 7 }", true),
        ("i = { min = 8 }", false),
        ("i = { max = 6.9 }", false),
        ("i = { min = 1, max = 9 }", true),
        ("f = 1.5", true),
        ("f = { min = 1, max = 2 }", true),
        ("f = { min = 1.6 }", false),
        ("g = 2", true),
        ("u = 9223372036854775807", false),
        ("u = { min = 9223372036854775807 }", true),
        ("u = { max = 9223372036854775807 }", false),
        ("s = 'seven'", true),
        ("s = ['a', 'seven', 'z']", true),
        ("s = 'Seven'", false),
        ("s = { prefix = 'sev' }", true),
        ("s = { prefix = ['x', 's'] }", true),
        ("s = { prefix = 'even' }", false),
        ("s = { min = 1 }", false),
        ("i = { prefix = '7' }", false),
        ("'a.1.k' = -3", true),
        ("'a.0' = 1", true),
        ("'a.2' = 1", false),
        ("a = 1", false),
        ("a = { exists = true }", true),
        ("o = { exists = false }", false),
        ("n = { exists = false }", true),
        ("n = { exists = true }", false),
        ("x = { exists = false }", true),
        ("x = 1", false),
        ("'s.x' = 1", false),
        ("'i.0' = 7", false),
    ] {
        let (path, asked) = test.split_once(" = ").unwrap();
        let path = path.trim_matches('\'');
        let conditions = format!("where = {{ 'message.{path}' = {asked} }}");
        assert_eq!(takes(&conditions, &message), is_met, "{test}");
    }
    let both = "where = { 'message.i' = 7, 'message.s' = 'eight' }";
    assert!(!takes(both, &message));
    assert!(takes("where = { update_id = 7 }", &message));
    assert!(takes("where = { 'future_kind.x' = { exists = false } }", &message));
    // Messages without a text are meant, not all that is no message.
    let without = "where = { 'message.text' = { exists = false } }";
    assert!(takes(without, &message));
    assert!(kinds_taken(without).is_empty());
    let photos = "where = { 'channel_post.text' = { exists = false } }";
    assert_eq!(kinds_taken(photos), KindSet::new(&[Kind::ChannelPost]));
}

#[test]
fn all_conditions_have_to_hold() {
    let conditions = [
        "bot = 'shop'",
        "kind = ['message', 'poll']",
        "chat = 1234567890",
        "chat_type = 'private'",
        "from = 1234567890",
        "command = 'start'",
        "text_prefix = '/start'",
        "has = 'message.entities'",
        "where = { 'message.from.id' = { min = 1 } }",
    ];
    let message = sample(Kind::Message);
    assert!(takes(&conditions.join("\n"), &message));
    let wrong = [
        "bot = 'news'",
        "kind = ['edited_message', 'poll']",
        "chat = 1",
        "chat_type = 'group'",
        "from = 2",
        "command = 'help'",
        "text_prefix = 'start'",
        "has = 'message.photo'",
        "where = { 'message.from.id' = { max = 1 } }",
    ];
    for (at, other) in wrong.into_iter().enumerate() {
        let mut conditions = conditions;
        conditions[at] = other;
        assert!(!takes(&conditions.join("\n"), &message), "{other}");
    }
}

#[test]
fn the_first_route_that_fits_takes_it() {
    let routes = routes(
        "[[route]]\nkind = 'poll'\nto = 'archive'\n\
         [[route]]\ncommand = 'start'\nto = ['bot', 'audit', 'bot']\n\
         [[route]]\nkind = 'message'\nto = 'archive'\n\
         [[route]]\nto = 'drop'",
    );
    let start = routes.route(&sample(Kind::Message));
    assert_eq!((start.route, start.outputs.iter().collect::<Vec<_>>()), (Some(1), vec![0, 1]));
    assert_eq!(routes.route(&text("hello")).route, Some(2));
    let dropped = routes.route(&sample(Kind::InlineQuery));
    assert_eq!((dropped.route, dropped.outputs.len()), (Some(3), 0));
    assert_eq!(routes.label(1).unwrap().to_string(), "route 2");
}
