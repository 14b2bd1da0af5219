//! What root does, and no longer does.

mod planted_links;
mod privileged_calls;
mod privileges;
