//! WebSocket frame heads as clients send them (RFC 6455, 5.2), checked before anything is done about them.

use fastwebsockets::{CloseCode, OpCode};

/// Longest payload of a control frame (RFC 6455, 5.5).
const MAX_CONTROL: usize = 125;

/// What is not WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub &'static str);

/// What stands before a frame's payload.
pub struct Head {
    /// The last of its message.
    pub fin: bool,
    /// Kind of frame.
    pub opcode: OpCode,
    /// What the payload is masked with.
    pub mask: [u8; 4],
    /// Bytes of payload, as claimed; at most 125 in control frames.
    pub length: u64,
}

/// A client frame's head and its size in bytes; `None` when more bytes are needed.
/// # Errors
/// No client may send that.
pub fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Violation> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(Violation("reserved bits set: no extension was negotiated"));
    }
    let opcode = OpCode::try_from(first & 0x0f).map_err(|_| Violation("unknown frame type"))?;
    if second & 0x80 == 0 {
        return Err(Violation("client frames must be masked"));
    }
    let fin = first & 0x80 != 0;
    let control = matches!(opcode, OpCode::Ping | OpCode::Pong | OpCode::Close);
    let short = usize::from(second & 0x7f);
    if control && (!fin || short > MAX_CONTROL) {
        return Err(Violation("control frames must be whole and at most 125 bytes"));
    }
    let wide = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let size = 2 + wide + 4;
    let Some(rest) = bytes.get(2..size) else {
        return Ok(None);
    };
    let (length, mask) = rest.split_at(wide);
    let length = match wide {
        0 => short as u64,
        _ => length.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    let mask = [mask[0], mask[1], mask[2], mask[3]];
    Ok(Some((Head { fin, opcode, mask, length }, size)))
}

/// The code of a close frame's payload, if it has one.
/// # Errors
/// A payload that is not allowed.
pub fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        _ => return Err(Violation("close frame of one byte")),
    };
    if !CloseCode::from(code).is_allowed() || std::str::from_utf8(reason).is_err() {
        return Err(Violation("close frame with a code or reason that is not allowed"));
    }
    Ok(Some(code))
}
