//! The daemon: command line, settings, backends, status endpoint and wiring around
//! [`kappa_actors`].

pub mod backend;
pub mod cli;
pub mod daemon;
mod framing;
pub mod generate;
pub mod replay;
pub mod settings;
pub mod status;
pub mod telemetry;
mod visible;
pub mod wiring;
