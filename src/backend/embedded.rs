//! Log, warehouse and archive on one machine: SQLite files and a folder.

pub mod archive;
pub mod check;
pub mod folder;
pub mod log;
pub mod sqlite;
pub mod warehouse;
