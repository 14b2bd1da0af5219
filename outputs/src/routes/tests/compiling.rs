//! What is typed: settings that are wrong, and settings that are odd.

use super::{BOTS, File, OUTPUTS, routes, sections, try_routes};
use crate::routes::{RouteSection, RoutedBot, Routes};
use ringhook::update::BotId;

#[test]
fn errors_name_route_key_value_and_what_was_expected() {
    for (text, expected) in [
        (
            "to = 'adit'",
            "to = \"adit\": expected the name of an output, which is bot, audit or archive; did \
             you mean \"audit\"?",
        ),
        (
            "to = 'nowhere'",
            "to = \"nowhere\": expected the name of an output, which is bot, audit or archive",
        ),
        (
            "to = 'Drop'",
            "to = \"Drop\": expected the name of an output, which is bot, audit or archive; did \
             you mean \"drop\"?",
        ),
        (
            "to = ['bot', 'drop']",
            "to = [\"bot\", \"drop\"]: expected \"drop\" alone, or names of outputs without it",
        ),
        ("to = []", "to = []: expected at least one value"),
        (
            "bot = 'shp'\nto = 'bot'",
            "bot = \"shp\": expected the name of a bot; did you mean \"shop\"?",
        ),
        (
            "kind = ['mesage']\nto = 'bot'",
            "kind = \"mesage\": expected a kind of update, as in allowed_updates; did you mean \
             \"message\"?",
        ),
        ("kind = []\nto = 'bot'", "kind = []: expected at least one value"),
        ("chat = []\nto = 'bot'", "chat = []: expected at least one value"),
        (
            "chat_type = 'super_group'\nto = 'bot'",
            "chat_type = \"super_group\": expected private, group, supergroup, channel or sender; \
             did you mean \"supergroup\"?",
        ),
        ("from = -5\nto = 'bot'", "from = -5: expected the id of a user, which is greater than 0"),
        (
            "command = 'старт'\nto = 'bot'",
            "command = \"старт\": expected the name of a command, of A-Z a-z 0-9 _, such as \
             \"start\"",
        ),
        (
            "text_prefix = ['a', '']\nto = 'bot'",
            "text_prefix = \"\": expected at least one character",
        ),
        (
            "has = 'message..photo'\nto = 'bot'",
            "has = \"message..photo\": expected a path like \"message.photo\": keys with dots in \
             between, from the root of the update",
        ),
        (
            "where = { '' = 1 }\nto = 'bot'",
            "where = \"\": expected a path like \"message.photo\": keys with dots in between, \
             from the root of the update",
        ),
        (
            "where = { 'poll.id' = [] }\nto = 'bot'",
            "where.\"poll.id\" = []: expected at least one value",
        ),
        (
            "where = { 'poll.id' = { min = 2, max = 1.5 } }\nto = 'bot'",
            "where.\"poll.id\" = { min = 2, max = 1.5 }: expected a min that is not greater than \
             max",
        ),
        (
            "where = { 'poll.id' = { prefix = '', min = 1 } }\nto = 'bot'",
            "where.\"poll.id\" = { prefix = \"\", min = 1 }: expected prefix, or min and max, or \
             exists, and nothing beside it",
        ),
        (
            "where = { 'poll.id' = { prefix = ['a', ''] } }\nto = 'bot'",
            "where.\"poll.id\" = { prefix = [\"a\", \"\"] }: expected a prefix of at least one \
             character",
        ),
        (
            "where = { 'poll.id' = {} }\nto = 'bot'",
            "where.\"poll.id\" = {}: expected prefix, or min and max, or exists, and nothing \
             beside it",
        ),
        (
            "where = { a = [1, nan] }\nto = 'bot'",
            "where.\"a\" = [1, NaN]: expected a finite number",
        ),
        (
            "where = { a = { max = inf } }\nto = 'bot'",
            "where.\"a\" = { max = inf }: expected a finite number",
        ),
    ] {
        let error = try_routes(&format!("[[route]]\nto = 'bot'\n[[route]]\n{text}")).unwrap_err();
        assert_eq!(error.to_string(), format!("route 2: {expected}"));
        let named = format!("[[route]]\nname = 'mine'\n{text}");
        let error = try_routes(&named).unwrap_err();
        assert_eq!(error.to_string(), format!("route 1 (mine): {expected}"));
        assert!(expected.starts_with(error.key()));
        assert!(ringhook::Error::from(error).is_usage());
    }
}

#[test]
fn errors_of_outputs_and_bots() {
    let compile = |outputs: &[&str], bots: &[RoutedBot<'_>]| {
        Routes::compile(&[], outputs, bots).unwrap_err().to_string()
    };
    assert_eq!(compile(&[], &BOTS), "outputs: output = 0 of them: expected 1 to 64");
    assert_eq!(compile(&["a"; 65], &BOTS), "outputs: output = 65 of them: expected 1 to 64");
    assert_eq!(
        compile(&["a", "drop"], &BOTS),
        "outputs: output.name = \"drop\": expected another name: \"drop\" is for what goes nowhere"
    );
    let bot = RoutedBot { id: BotId::new(3), name: "shop", output: Some("bt") };
    assert_eq!(
        compile(&OUTPUTS, &[bot]),
        "bot shop: output = \"bt\": expected the name of an output, which is bot, audit or \
         archive; did you mean \"bot\"?"
    );
    // As many outputs as there can be.
    let outputs: Vec<_> = (0..64).map(|number| format!("o{number}")).collect();
    let outputs: Vec<_> = outputs.iter().map(String::as_str).collect();
    let last = RoutedBot { output: Some("o63"), ..bot };
    let routes = Routes::compile(&[], &outputs, &[last]).unwrap();
    assert!(routes.default_outputs(bot.id).contains(63));
    assert!(routes.default_outputs(BotId::new(2)).contains(0));
    assert!(routes.is_empty());
}

#[test]
fn the_parser_refuses_what_it_does_not_know() {
    for (text, expected) in [
        ("kinds = 'poll'\nto = 'bot'", "unknown field `kinds`"),
        ("kind = 'poll'", "missing field `to`"),
        ("to = 7", "invalid type: integer `7`, expected a string"),
        ("to = ['bot', 7]", "invalid type: integer `7`, expected a string"),
        ("to = { a = 1 }", "invalid type: map, expected a value, or a list of values"),
        ("chat = '@news'\nto = 'bot'", "invalid type: string \"@news\", expected i64"),
        ("chat = 1.5\nto = 'bot'", "expected i64"),
        ("to = 'bot'\nwhere = { a = { prefx = 'a' } }", "unknown field `prefx`"),
        ("to = 'bot'\nwhere = { a = { min = 'a' } }", "expected a number"),
        ("to = 'bot'\nwhere = { a = [[1]] }", "expected text, a number, true or false"),
    ] {
        let parsed = toml::from_str::<File>(&format!("[[route]]\n{text}"));
        let error = parsed.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_section_is_printed_as_it_can_be_read() {
    let text = "
        [[route]]
        name = 'all'
        bot = 'shop'
        kind = ['message', 'poll']
        chat = -1001234567890
        chat_type = 'private'
        from = [4711]
        command = 'start'
        text_prefix = 'foo'
        has = 'message.photo'
        to = ['bot', 'audit']
        [route.where]
        a = 'x'
        b = ['x', 1, 1.5, true]
        c = { prefix = 'x' }
        d = { min = 1, max = 9.5 }
        e = { exists = false }
        [[route]]
        to = 'drop'";
    let read = sections(text);
    #[derive(serde::Serialize)]
    struct Printed<'a> {
        route: &'a [RouteSection],
    }
    let printed = toml::to_string(&Printed { route: &read }).unwrap();
    assert_eq!(sections(&printed), read, "{printed}");
    assert_eq!(routes(&printed).len(), 2);
}

#[test]
fn routes_that_take_nothing_are_told() {
    for (text, expected) in [
        (
            "to = 'bot'\n[[route]]\nto = 'audit'",
            "route 2: it takes nothing: route 1 takes all of it before",
        ),
        (
            "name = 'polls'\nkind = ['poll', 'poll_answer']\nto = 'bot'\n\
             [[route]]\nhas = 'poll.id'\nto = 'bot'",
            "route 2: it takes nothing: route 1 (polls) takes all of it before",
        ),
        (
            "kind = 'poll'\nto = 'bot'\n[[route]]\nkind = 'message'\nto = 'bot'\n\
             [[route]]\nkind = ['poll', 'message']\nfrom = 5\nto = 'bot'",
            "route 3: it takes nothing: route 2 takes all of it before",
        ),
        (
            "kind = 'poll'\nto = 'bot'\n[[route]]\nkind = 'message'\nto = 'bot'\n\
             [[route]]\nkind = ['poll', 'message']\nto = 'bot'",
            "route 3: it takes nothing: the routes before take all of it",
        ),
        (
            "bot = 'shop'\nto = 'bot'\n[[route]]\nbot = 'shop'\nchat = 1\nto = 'bot'",
            "route 2: it takes nothing: route 1 takes all of it before",
        ),
        (
            "kind = 'poll'\ncommand = 'start'\nto = 'bot'",
            "route 1: it takes nothing: no kind of update meets all its conditions",
        ),
        (
            "has = 'message.photo'\nwhere = { 'poll.id' = '1' }\nto = 'bot'",
            "route 1: it takes nothing: no kind of update meets all its conditions",
        ),
        (
            "has = ['message.photo', 'mesage.video']\nto = 'bot'",
            "route 1: mesage.video: no update that this version knows has a \"mesage\"; did you \
             mean \"message\"?",
        ),
    ] {
        let routes = routes(&format!("[[route]]\n{text}"));
        let warnings: Vec<_> = routes.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [expected], "{text}");
    }
}

#[test]
fn routes_that_take_something_are_not() {
    let routes = routes(
        "[[route]]\nbot = 'shop'\nto = 'bot'\n\
         [[route]]\nkind = 'poll'\nto = 'bot'\n\
         [[route]]\nkind = ['poll', 'message']\nto = 'bot'\n\
         [[route]]\nhas = ['message.photo', 'callback_query']\nto = 'bot'\n\
         [[route]]\nwhere = { update_id = { min = 5 } }\nto = 'bot'\n\
         [[route]]\nto = 'drop'",
    );
    assert_eq!(routes.warnings(), []);
}

/// The outputs of a server that runs may have other numbers than their places in the config.
#[test]
fn outputs_have_the_numbers_that_a_server_gives_them() {
    let numbered = |text: &str, numbers: &[usize]| {
        let routes = routes(text).with_numbers(numbers);
        let of = |bot| routes.default_outputs(BotId::new(bot)).iter().collect::<Vec<_>>();
        let names = routes.output_names((0..8).collect());
        (routes.is_trivial(), of(0), of(1), of(7), names.join(","))
    };
    let text = "[[route]]\nbot = 'shop'\nto = ['audit', 'bot']";
    assert_eq!(numbered(text, &[5, 0, 2]).1, [5]);
    assert_eq!(
        numbered("", &[5, 0, 2]),
        (false, vec![5], vec![2], vec![5], "audit,,archive,,,bot".into())
    );
    let routes = routes(text).with_numbers(&[5, 0, 2]);
    let update = super::sample(ringhook::update::UpdateKind::Message);
    assert_eq!(routes.route(&update).outputs.iter().collect::<Vec<_>>(), [0, 5]);
    assert_eq!(routes.explain(&update).outputs, ["audit", "bot"]);
    // Everything goes to one, which is not the first of the server.
    let alone = |number| {
        let routes = Routes::compile(&[], &["bot"], &[]).unwrap().with_numbers(&[number]);
        (routes.is_trivial(), routes.default_outputs(BotId::new(3)).contains(number))
    };
    assert_eq!((alone(0), alone(1)), ((true, true), (false, true)));
}
