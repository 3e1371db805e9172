//! How soon freed memory goes back to the system.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

/// For how many milliseconds the allocator keeps freed pages:
/// <https://microsoft.github.io/mimalloc/environment.html>.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

/// Has the allocator give freed memory back after `delay`, unless the environment says something
/// else.
///
/// It reads its options from the environment, before `main`: so this process becomes itself once
/// more. Where that fails, it only takes more memory.
pub(super) fn release_after(delay: Duration) {
    if std::env::var_os(PURGE_DELAY).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| "kappa".into());
        let delay = delay.as_millis().to_string();
        let _ = Command::new(program).arg0(name).args(arguments).env(PURGE_DELAY, delay).exec();
    }
}
