//! The `ringhook` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringhook::cli::main()
}
