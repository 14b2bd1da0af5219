//! A server from a config: what `serve` and `poll` have in common, and what the other commands ask
//! of the same config.
//!
//! | file | what is in it |
//! |---|---|
//! | `setup` | config file and flags, completed |
//! | `data_dir` | certificate, key and secret token, made on the first run |
//! | `bots` | the bots that a command is about, with their tokens |
//! | `output`, `written_files` | where updates go, and that no two files are the same one |
//! | `forwards`, `brokers` | the outputs behind HTTP, and those that are brokers |
//! | `pollers` | the outputs for bots that poll |
//! | `live_outputs` | the outputs that are in force, and how a reload changes them |
//! | `shown_config` | the config as the status page shows it |
//! | `surroundings` | what the pages of the admin listener show of the program |
//! | `final_report` | what is told at the end |
//! | `service` | flags, signals, start and stop |
//! | `greeting` | what is printed once it has started |
//! | `outside` | whether another machine can connect |
//! | `profile` | files of latencies while it runs |

pub(crate) mod bots;
mod brokers;
pub(crate) mod data_dir;
pub(crate) mod final_report;
pub(crate) mod forwards;
pub(crate) mod greeting;
pub(crate) mod live_outputs;
pub(crate) mod output;
pub(crate) mod outside;
pub(crate) mod pollers;
pub(crate) mod profile;
pub(crate) mod service;
pub(crate) mod setup;
pub(crate) mod shown_config;
pub(crate) mod surroundings;
pub(crate) mod written_files;
