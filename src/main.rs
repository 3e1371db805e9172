//! The `kappa` command.

use std::process::ExitCode;

/// Batches are made on one thread and freed on another all the time; the system's allocator keeps
/// what that leaves behind.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kappa::cli::main()
}
