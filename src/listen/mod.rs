//! Sockets: hands accepted streams up.
