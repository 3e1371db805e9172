//! The envelope: what makes an event valid.
