#![doc = include_str!("embedded/README.md")]

pub mod archive;
pub mod check;
pub mod folder;
pub mod log;
pub mod sqlite;
pub mod warehouse;
