//! `ringhook dead-letters replay`: what a file of failures gives back.

use std::fs;

use crate::binary::process::run;

const LETTERS: &str = concat!(
    r#"{"bot":"a","update_id":7,"reason":"no","attempts":1,"update":{"update_id":7,"x":"\u0416\n"}}"#,
    "\n",
    r#"{"bot":"b","update_id":8,"reason":"no","attempts":3,"update":{"update_id":8}}"#,
    "\n",
    r#"{"bot":"a","update_id":9,"reason":"no","attempts":1,"update":{"update_id":9}}"#,
    "\n",
);

#[test]
fn letters_come_out_as_updates_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("letters"), LETTERS).unwrap();
    let (code, out, said) = run(dir.path(), &["dead-letters", "replay", "letters"]);
    assert_eq!(code, 0, "{said}");
    let expected = "{\"update_id\":7,\"x\":\"\\u0416\\n\"}\n{\"update_id\":8}\n{\"update_id\":9}\n";
    assert_eq!(out, expected);
    assert_eq!(said, "3 update(s) replayed, 0 line(s) passed over\n");
    assert_eq!(fs::read_to_string(dir.path().join("letters")).unwrap(), LETTERS);

    fs::write(dir.path().join("config"), "[[output]]\nname = 'out'\nto = 'ndjson:out'").unwrap();
    let args = ["dead-letters", "replay", "letters", "--bot", "b", "--config", "config"];
    assert_eq!(run(dir.path(), &args).0, 0);
    assert_eq!(fs::read_to_string(dir.path().join("out")).unwrap(), "{\"update_id\":8}\n");
}

#[test]
fn a_broken_line_is_named_not_quoted_and_takes_no_other_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let broken = LETTERS.replacen("\"update\":{\"update_id\":8}}", "\"update\":{\"secret text", 1);
    fs::write(dir.path().join("letters"), broken).unwrap();
    let (code, out, said) = run(dir.path(), &["dead-letters", "replay", "letters"]);
    assert_eq!((code, out.lines().count()), (1, 2), "{said}");
    assert!(said.starts_with("letters:2: not a dead letter"), "{said}");
    assert!(!said.contains("secret text"), "{said}");
    let (code, _, said) = run(dir.path(), &["dead-letters", "replay", "missing"]);
    assert_eq!((code, said.lines().count()), (2, 1), "{said}");
    let (code, ..) = run(dir.path(), &["dead-letters", "replay", "letters", "--output", "what"]);
    assert_eq!(code, 2);
}
