//! Calls to the C library: one line of `unsafe` each, with the reason why it is sound.

pub mod memory;
pub mod resolver;
