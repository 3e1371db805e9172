//! The `kappa` command.

use std::process::ExitCode;

/// Batches are made on one thread and freed on another; the system's allocator keeps the memory that this leaves
/// behind.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kappa::cli::main()
}
