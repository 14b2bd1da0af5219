//! The commands beside `serve`: what they say and do.

mod cert;
mod dead_letters;
mod doctor;
mod journal_cli;
mod poll;
mod send;
mod webhook;
