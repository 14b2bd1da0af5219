//! From the answer to the handler: once, in order, and as often as it takes.

mod albums;
mod as_telegram;
mod deliver;
mod delivery;
mod faulty_outputs;
mod outputs;
mod pipeline;
mod sinks;
mod stream;
