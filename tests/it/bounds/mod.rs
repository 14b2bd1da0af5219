//! What one may take, and that others are served meanwhile.

mod limits;
mod tools;
