//! Who may do what: sessions and sync tokens.
