//! A server that starts, tells how it is, is changed and stops.

mod admin;
mod library;
mod listeners;
mod placing;
mod recent;
mod reload;
mod shutdown;
