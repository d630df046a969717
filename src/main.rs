//! The `wattlake` command.

fn main() {}
