//! The `kappa` command.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// Batches are made on one thread and freed on another all the time; the system's allocator keeps
/// what that leaves behind.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For how many milliseconds the allocator keeps freed pages. By default it is a second, in which
/// a busy daemon frees as much memory as its permits allow it to hold.
const PURGE_DELAY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "10");

fn main() -> ExitCode {
    give_memory_back_soon();
    kappa::cli::main()
}

/// The allocator reads its options from the environment, before `main`: so this process becomes
/// itself once more. Where that fails, it only takes more memory.
fn give_memory_back_soon() {
    let (option, value) = PURGE_DELAY;
    if std::env::var_os(option).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| "kappa".into());
        let _ = Command::new(program).arg0(name).args(arguments).env(option, value).exec();
    }
}
