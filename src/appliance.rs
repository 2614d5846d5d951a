//! Brings the parts up in order and down again.
