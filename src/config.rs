//! Configuration: defaults, file, environment, flags; checked before a socket opens.
