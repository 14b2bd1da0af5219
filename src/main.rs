//! The `ringhook` command.

fn main() {}
