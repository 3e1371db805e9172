//! The `kappa` command.

fn main() {}
