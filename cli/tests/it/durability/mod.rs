//! What is promised where the process is killed, the disk fails or the power.

mod journal_faults;
mod journal_kill;
mod journal_power;
mod outputs_kill;
