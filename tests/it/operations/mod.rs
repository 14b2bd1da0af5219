//! A server that starts, tells how it is, is changed and stops.

mod admin;
mod admin_pages;
mod library;
mod listeners;
mod outputs;
mod placing;
mod recent;
mod reload;
mod shutdown;
