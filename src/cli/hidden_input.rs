//! Asks on the terminal for what must not show.

use std::io::{self, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

/// Ctrl-C, as a terminal sends it.
const CTRL_C: u8 = 3;

/// The terminal's echo is off until this is dropped.
struct Hidden {
    before: Termios,
}

impl Hidden {
    /// Ctrl-C ends the line instead of the process, which could not turn the echo on again.
    fn begin() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        hidden.local_modes.insert(LocalModes::ICANON | LocalModes::ECHONL);
        hidden.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
        tcsetattr(&stdin, OptionalActions::Now, &hidden)?;
        Ok(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Of a terminal that is gone nothing needs to be restored.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Asks on stderr and reads one line from the terminal on stdin, without its end. The echo is off before the question
/// shows: an answer may be pasted, or typed by a program, at once.
/// # Errors
/// Standard input is no terminal, or Ctrl-C was pressed ([`io::ErrorKind::Interrupted`]).
pub fn ask(question: &str, max_bytes: usize) -> io::Result<String> {
    let _hidden = Hidden::begin()?;
    let mut err = io::stderr();
    err.write_all(question.as_bytes())?;
    err.flush()?;
    let mut line = Vec::new();
    for byte in io::stdin().lock().bytes() {
        match byte? {
            b'\n' => break,
            CTRL_C => {
                let _ = writeln!(err);
                return Err(io::Error::new(io::ErrorKind::Interrupted, "Ctrl-C was pressed"));
            }
            // One byte more than allowed is kept, so that the caller sees that it is too long.
            byte if line.len() <= max_bytes => line.push(byte),
            _ => {}
        }
    }
    let text = String::from_utf8(line).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
