//! The backends behind the three ports.

pub mod embedded;
pub mod faulty;
