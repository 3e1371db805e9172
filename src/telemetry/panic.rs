//! A panic as a log line.

use std::backtrace::Backtrace;
use std::panic;
use std::thread;

/// Logs each panic as one line, in the place of the pages that Rust prints: thread, place and
/// message, and the fields of the span it happened in, such as the actor's path. The backtrace
/// follows as a line at debug level.
pub fn install_panic_hook() {
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map_or_else(String::new, ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        log(thread::current().name().unwrap_or("unnamed"), &location, message);
    }));
}

// Texts are logged as values, not displayed: a line break in them is escaped.
pub(super) fn log(thread: &str, location: &str, panic: &str) {
    tracing::error!(thread, location, panic, "panicked");
    // Capturing is costly: a thousand poison events are a thousand panics.
    if tracing::enabled!(tracing::Level::DEBUG) {
        let backtrace = Backtrace::force_capture().to_string();
        tracing::debug!(thread, backtrace, "backtrace");
    }
}
