//! The `ringhook` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringhook_cli::main()
}
