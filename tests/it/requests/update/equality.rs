//! What is written is what was read.

use proptest::prelude::*;
use ringhook::update::UpdateKind;

use super::{parse, samples::SAMPLES};

#[test]
fn samples_come_out_as_one_line_of_equal_value() {
    for sample in SAMPLES {
        let text = sample.text(1);
        let written = serde_json::to_string(&parse(&text).unwrap()).unwrap();
        assert!(!written.contains('\n'));
        assert_eq!(json(&written), json(&text));
    }
}

#[test]
fn the_very_text_comes_out_where_there_is_one_way_to_write_it() {
    for value in [
        "0",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "-1",
        "-9223372036854775808",
        "0.1",
        "-0.0",
        "5e-324",
        "1.7976931348623157e+308",
        "52.520008",
        r#"{"a":1,"b":{"a":[]},"a":2,"":null}"#,
        r#"[true,false,null,[],{},"",[[]]]"#,
        r#""\u0000\u001f\b\f\n\r\t\"\\/""#,
    ] {
        let text = format!(r#"{{"x":{value},"update_id":1}}"#);
        assert_eq!(serde_json::to_string(&parse(&text).unwrap()).unwrap(), text);
    }
}

#[test]
fn a_payload_is_written_without_its_envelope() {
    let update = parse(SAMPLES[0].text(1)).unwrap();
    let written = serde_json::to_string(&update.payload().unwrap()).unwrap();
    assert_eq!(json(&written), json(SAMPLES[0].payload));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_tree_comes_out_of_equal_value(
        tree in tree(),
        kind in prop::sample::select(UpdateKind::ALL),
        id in any::<i64>(),
        style in any::<u64>(),
    ) {
        let mut text = String::new();
        let root = Tree::Object(vec![
            ("x".into(), Tree::Integer(style)),
            ("update_id".into(), Tree::Negative(id)),
            (kind.as_str().into(), tree),
        ]);
        Writer { out: &mut text, style: fastrand::Rng::with_seed(style) }.write(&root);

        let update = parse(&text).unwrap();
        prop_assert_eq!((update.id().get(), update.kind()), (id, kind));
        let written = serde_json::to_string(&update).unwrap();
        prop_assert!(!written.contains(['\n', '\r']));
        prop_assert_eq!(json(&written), json(&text));
        // Read as a type there is no second reader to round a float, so it has to be exact.
        prop_assert_eq!(update.deserialize::<serde_json::Value>().unwrap(), exact(&root));
    }

    /// Any spelling of a number means the same double to us and to the standard library.
    #[test]
    fn floats_are_read_to_the_bit(text in r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24}([eE][+-]?[0-9]{1,2})?|[eE][+-]?[0-9]{1,2})") {
        let update = parse(format!(r#"{{"update_id":1,"x":{text}}}"#)).unwrap();
        let ours = update.get("x").unwrap().as_f64().unwrap();
        prop_assert_eq!(ours.to_bits(), text.parse::<f64>().unwrap().to_bits());
    }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// The value of `tree`, floats to the bit; of repeated keys serde_json keeps the last.
fn exact(tree: &Tree) -> serde_json::Value {
    match tree {
        Tree::Array(elements) => elements.iter().map(exact).collect(),
        Tree::Bool(truth) => (*truth).into(),
        Tree::Float(number) => (*number).into(),
        Tree::Integer(number) => (*number).into(),
        Tree::Negative(number) => (*number).into(),
        Tree::Null => serde_json::Value::Null,
        Tree::Object(entries) => {
            entries.iter().map(|(key, value)| (key.clone(), exact(value))).collect()
        }
        Tree::String(string) => string.as_str().into(),
    }
}

#[derive(Clone, Debug)]
enum Tree {
    Array(Vec<Tree>),
    Bool(bool),
    Float(f64),
    Integer(u64),
    Negative(i64),
    Null,
    /// Keys may repeat.
    Object(Vec<(String, Tree)>),
    String(String),
}

fn tree() -> impl Strategy<Value = Tree> {
    let key = prop_oneof!["[abc]", any::<String>()];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Tree::Bool),
        any::<f64>().prop_filter("finite", |it| it.is_finite()).prop_map(Tree::Float),
        any::<u64>().prop_map(Tree::Integer),
        any::<i64>().prop_map(Tree::Negative),
        Just(Tree::Null),
        any::<String>().prop_map(Tree::String),
        "[a-z\\\\\"\n\u{1}👋é]{0,100}".prop_map(Tree::String),
    ];
    leaf.prop_recursive(6, 80, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Tree::Array),
            prop::collection::vec((key.clone(), inner), 0..8).prop_map(Tree::Object),
        ]
    })
}

/// Writes trees in one of the many ways that JSON leaves open, chosen by `style`.
struct Writer<'a> {
    out: &'a mut String,
    style: fastrand::Rng,
}

impl Writer<'_> {
    fn write(&mut self, tree: &Tree) {
        self.space();
        match tree {
            Tree::Array(elements) => {
                self.out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    self.comma(index);
                    self.write(element);
                }
                self.space();
                self.out.push(']');
            }
            Tree::Bool(truth) => self.out.push_str(if *truth { "true" } else { "false" }),
            // As serde_json spells it: its reader rounds some floats wrongly, but equal texts
            // equally.
            Tree::Float(number) => self.out.push_str(&serde_json::to_string(number).unwrap()),
            Tree::Integer(number) => self.out.push_str(&number.to_string()),
            Tree::Negative(number) => self.out.push_str(&number.to_string()),
            Tree::Null => self.out.push_str("null"),
            Tree::Object(entries) => {
                self.out.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    self.comma(index);
                    self.space();
                    self.string(key);
                    self.space();
                    self.out.push(':');
                    self.write(value);
                }
                self.space();
                self.out.push('}');
            }
            Tree::String(string) => self.string(string),
        }
        self.space();
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.out.push(',');
        }
    }

    fn space(&mut self) {
        let spaces = ["", "", "", " ", "\n", "\r\n", "\t  "];
        let choice = self.style.usize(..spaces.len());
        self.out.push_str(spaces[choice]);
    }

    fn string(&mut self, string: &str) {
        self.out.push('"');
        for letter in string.chars() {
            let plain = letter >= ' ' && !matches!(letter, '"' | '\\');
            if plain && self.style.u8(..3) > 0 {
                self.out.push(letter);
                continue;
            }
            for unit in letter.encode_utf16(&mut [0; 2]) {
                self.out.push_str(&format!("\\u{unit:04x}"));
            }
        }
        self.out.push('"');
    }
}
