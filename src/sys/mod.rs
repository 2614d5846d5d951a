//! What the system tells of itself, and calls to the C library: one line of `unsafe` each, with the reason why it is sound.

pub mod boot;
pub mod groups;
pub mod memory;
pub mod resolver;
