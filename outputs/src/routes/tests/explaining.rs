//! Why an update goes where it goes.

use ringhook::update::UpdateKind as Kind;

use super::{NEWS, parse_for, routes, sample, samples, update};

#[test]
fn each_route_before_says_what_does_not_hold() {
    let routes = routes(
        "[[route]]\nname = 'news'\nbot = 'news'\nto = 'drop'\n\
         [[route]]\nkind = 'poll'\nto = 'audit'\n\
         [[route]]\nchat = 5\nto = 'audit'\n\
         [[route]]\nchat_type = 'group'\nto = 'audit'\n\
         [[route]]\nfrom = 7\nto = 'audit'\n\
         [[route]]\ncommand = 'help'\nto = 'audit'\n\
         [[route]]\ntext_prefix = ['/help', 'x']\nto = 'audit'\n\
         [[route]]\nhas = 'message.photo'\nto = 'audit'\n\
         [[route]]\nhas = ['message.photo', 'message.video', 'poll']\nto = 'audit'\n\
         [[route]]\nwhere = { 'message.chat.type' = 'channel' }\nto = 'audit'\n\
         [[route]]\nwhere = { 'message.text' = 'x' }\nto = 'audit'\n\
         [[route]]\nwhere = { 'message.text' = { prefix = 'x' } }\nto = 'audit'\n\
         [[route]]\nwhere = { 'message.message_id' = { max = 3 } }\nto = 'audit'\n\
         [[route]]\nwhere = { 'message.chat' = 1 }\nto = 'audit'\n\
         [[route]]\nwhere = { 'message.text' = { exists = false } }\nto = 'audit'\n\
         [[route]]\nwhere = { 'message.photo' = 1 }\nto = 'audit'\n\
         [[route]]\nname = 'last'\nkind = 'message'\nto = ['audit', 'bot', 'archive']",
    );
    let explanation = routes.explain(&sample(Kind::Message));
    let expected = "\
route 1 (news) does not take it: the bot is shop
route 2 does not take it: the kind is message
route 3 does not take it: the chat is 1234567890
route 4 does not take it: the type of the chat is \"private\"
route 5 does not take it: the user who sent it is 1234567890
route 6 does not take it: the text begins with another command
route 7 does not take it: the text does not begin with \"/help\" or \"x\"
route 8 does not take it: message.photo is not there
route 9 does not take it: none of message.photo, message.video and poll is there
route 10 does not take it: message.chat.type is \"private\"
route 11 does not take it: message.text is another text
route 12 does not take it: message.text does not begin with \"x\"
route 13 does not take it: message.message_id is 365
route 14 does not take it: message.chat is another value (object of 2)
route 15 does not take it: message.text is there
route 16 does not take it: message.photo is not there
route 17 (last) takes it: to bot, audit and archive";
    assert_eq!(explanation.to_string(), expected);
    let keys: Vec<_> = explanation.passed.iter().map(|passed| passed.condition).collect();
    assert_eq!(
        keys,
        [
            "bot",
            "kind",
            "chat",
            "chat_type",
            "from",
            "command",
            "text_prefix",
            "has",
            "has",
            "where",
            "where",
            "where",
            "where",
            "where",
            "where",
            "where"
        ]
    );
    let other = routes.explain(&sample(Kind::BusinessConnection)).to_string();
    for line in [
        "route 3 does not take it: it is about no chat",
        "route 4 does not take it: it names no type of a chat",
        "route 5 does not take it: the user who sent it is 1934567892",
        "route 6 does not take it: it has no text",
        "route 7 does not take it: it has no text",
        "route 15 does not take it: message.text is not there, the kind is business_connection",
        "no route takes it: to bot, its bot's output",
    ] {
        assert!(other.contains(line), "{line}: {other}");
    }
}

#[test]
fn it_says_where_the_rest_goes_and_what_is_dropped() {
    let routes = routes("[[route]]\nkind = 'poll'\nto = 'drop'");
    assert_eq!(routes.explain(&sample(Kind::Poll)).to_string(), "route 1 drops it");
    let post = format!(r#"{{"update_id":1,"message":{}}}"#, samples::payload(Kind::Message));
    assert_eq!(
        routes.explain(&parse_for(NEWS, &post)).to_string(),
        "route 1 does not take it: the kind is message\n\
         no route takes it: to archive, its bot's output"
    );
}

#[test]
fn it_is_an_object_for_programs() {
    let routes = routes(
        "[[route]]\nname = 'polls'\nkind = 'poll'\nto = 'drop'\n\
         [[route]]\nfrom = 1234567890\nto = ['audit', 'bot']",
    );
    let explanation = routes.explain(&sample(Kind::Message));
    assert_eq!(
        serde_json::to_value(&explanation).unwrap(),
        serde_json::json!({
            "passed": [{
                "number": 1, "name": "polls", "condition": "kind", "reason": "the kind is message",
            }],
            "route": { "number": 2 },
            "outputs": ["bot", "audit"],
        })
    );
}

#[test]
fn text_of_the_update_is_never_quoted() {
    let secret = "\u{416}secret";
    let text = format!(
        r#"{{"text":"{secret}","from":{{"id":1,"first_name":"{secret}"}},"a":["{secret}"],
            "entities":[{{"type":"bot_command","offset":0,"length":3}}]}}"#
    );
    let routes = routes(
        "[[route]]\ncommand = 'a'\nto = 'bot'\n\
         [[route]]\ntext_prefix = 'a'\nto = 'bot'\n\
         [[route]]\nwhere = { 'message.text' = 'a' }\nto = 'bot'\n\
         [[route]]\nwhere = { 'message.text' = { prefix = 'a' } }\nto = 'bot'\n\
         [[route]]\nwhere = { 'message.text' = { min = 1 } }\nto = 'bot'\n\
         [[route]]\nwhere = { 'message.text' = { exists = false } }\nto = 'bot'\n\
         [[route]]\nwhere = { 'message.from' = 'a' }\nto = 'bot'\n\
         [[route]]\nwhere = { 'message.a' = 'a' }\nto = 'bot'\n\
         [[route]]\nwhere = { 'message.from.first_name' = ['a', 'b'] }\nto = 'bot'",
    );
    let explanation = routes.explain(&update("message", &text));
    assert_eq!((explanation.passed.len(), explanation.route.is_none()), (9, true));
    let shown = format!("{explanation} {explanation:?}");
    assert!(!shown.contains(secret) && !shown.contains("secret"), "{shown}");
}
