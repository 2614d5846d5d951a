//! How much is logged, and in which form.

use super::choice;

choice!(
    /// The least important level of a log line that is shown.
    LogLevel {
        /// Failures only.
        Error = "error",
        /// Failures, and what the owner should look at.
        Warn = "warn",
        /// Everything that happened, in the owner's words.
        Info = "info",
        /// Also each connection.
        Debug = "debug",
        /// Also each message.
        Trace = "trace",
    }
);
choice!(
    /// The form of log lines and where they go.
    LogFormat {
        /// journald under systemd, else text.
        Auto = "auto",
        /// Readable lines on stderr.
        Text = "text",
        /// One JSON object a line on stderr.
        Json = "json",
        /// Fields sent to journald's own socket.
        Journald = "journald",
    }
);
