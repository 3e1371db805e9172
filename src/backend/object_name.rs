//! Which names the archive's objects may have: those that are files everywhere.

use kappa_actors::port::StoreError;

/// Lets through relative names of plain parts. A part that begins with a dot is hidden, and ours.
pub(crate) fn check(name: &str) -> Result<(), StoreError> {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\0');
    if name.split('/').all(plain) {
        Ok(())
    } else {
        Err(StoreError::Refused(format!("{name:?} is no name for an object")))
    }
}
