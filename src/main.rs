//! The `kappa` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    kappa::cli::main()
}
