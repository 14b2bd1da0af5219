//! A server that starts, tells how it is, is changed and stops.

mod admin;
mod library;
mod listeners;
mod outputs;
mod placing;
mod reload;
mod shutdown;
