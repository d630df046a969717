//! Two sides that are measured in turns, which criterion does not do: what is said of them is a ratio.

#![allow(unreachable_pub, reason = "`pub` says what it offers to the benches")]

use std::time::Duration;

/// Whether the program is asked whether its benches run, and not how fast.
pub fn only_tries() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// Whether the program was asked for a bench of this name, as criterion decides it of its own.
pub fn is_named(name: &str) -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut named = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    let lists = arguments.iter().any(|argument| argument == "--list");
    !lists && (named.peek().is_none() || named.any(|named| name.contains(named.as_str())))
}

/// Whether it is to be measured.
pub fn is_asked_for(name: &str) -> bool {
    !only_tries() && is_named(name)
}

pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Says a ratio of two sides.
#[expect(clippy::print_stdout, reason = "it is what this program is for")]
pub fn say(name: &str, one: (&str, Duration), other: (&str, Duration)) {
    let ratio = one.1.as_secs_f64() / other.1.as_secs_f64();
    println!("{name:<44} {ratio:.2}   ({} {:?}, {} {:?})", one.0, one.1, other.0, other.1);
}
