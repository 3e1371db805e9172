//! The warehouse: SQLite.
