//! Text from strangers that people will read.

/// A character that shows nothing, or changes how the text around it shows: controls, line separators, and what
/// Unicode has for direction, joining and tagging (bidirectional controls can make one name look like another).
pub fn is_misleading(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// What is fit to be kept and shown of a text, at most `max_bytes` of it; `None` if that is nothing.
pub(super) fn clean(text: &str, max_bytes: usize) -> Option<String> {
    let mut kept = String::new();
    for c in text.chars().filter(|c| !is_misleading(*c)) {
        if kept.len() + c.len_utf8() > max_bytes {
            break;
        }
        kept.push(c);
    }
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cleaned_and_cut_between_characters() {
        for (text, kept) in [
            ("Mozilla/5.0 (X11)", Some("Mozilla/5.0 (X11)")),
            ("\u{1b}[31mred\u{202e}\r\n", Some("[31mred")),
            (" \u{200b}\u{feff}\t ", None),
            ("", None),
            ("123456789é", Some("123456789")),
        ] {
            assert_eq!(
                clean(text, if text.starts_with('1') { 10 } else { 100 }).as_deref(),
                kept,
                "{text:?}"
            );
        }
    }
}
