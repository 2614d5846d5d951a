//! The sync core.
