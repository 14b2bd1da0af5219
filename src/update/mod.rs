//! An update: the body as received, parsed in place, owned and `Send`.

mod body;

pub use body::UpdateBody;
