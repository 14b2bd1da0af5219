//! Tests of `connection`.

use std::rc::Rc;

use super::*;

fn size_of_1<A, F>(_: impl Fn(A) -> F) -> usize {
    size_of::<F>()
}

fn size_of_3<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

/// What an idle connection holds of us, but for two keys of 600 bytes. Futures grow unseen: they
/// hold what they were given twice, and all that lives over a wait.
#[test]
fn a_connection_is_small() {
    type Of = Connection<'static>;
    let parts = [
        ("answer", size_of_1(|it: &'static mut Of| it.answer(Status::Ok))),
        ("read", size_of_1(|it: &'static mut Of| it.read())),
        ("requests", size_of_1(|it: &'static mut Of| it.requests())),
        ("Stream", size_of::<session::Stream>()),
    ];
    let (task, connection) = (size_of_3(serve::<Rc<()>>), size_of::<Of>());
    assert!(task <= 1536, "{task} bytes, of these {parts:?}");
    assert!(connection <= 1024, "{connection} bytes, of these {parts:?}");
}
