//! Text from strangers that people will read.

/// A character that shows nothing, or changes how the text around it shows: controls, line separators, the blank pattern
/// of Braille, and what Unicode has for direction, joining, filling and tagging (`Default_Ignorable_Code_Point`).
/// Bidirectional controls can make one name look like another, and of the others a name can be made that nobody sees.
pub fn is_misleading(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// What is fit to be kept and shown of a text, at most `max_bytes` of it; `None` if that is nothing. What is left is one
/// line: blanks of any kind and number become one space.
pub fn clean(text: &str, max_bytes: usize) -> Option<String> {
    let mut kept = String::new();
    let shown = |c: &char| c.is_whitespace() || !is_misleading(*c);
    for c in text.chars().filter(shown).map(|c| if c.is_whitespace() { ' ' } else { c }) {
        if c == ' ' && (kept.is_empty() || kept.ends_with(' ')) {
            continue;
        }
        if kept.len() + c.len_utf8() > max_bytes {
            break;
        }
        kept.push(c);
    }
    kept.truncate(kept.trim_end().len());
    (!kept.is_empty()).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cleaned_and_cut_between_characters() {
        for (text, kept) in [
            ("Mozilla/5.0 (X11)", Some("Mozilla/5.0 (X11)")),
            ("\u{1b}[31mred\u{202e}\r\n", Some("[31mred")),
            ("Notes\u{a0}\u{2003}\r\n\t  on paper", Some("Notes on paper")),
            ("", None),
            ("123456789é", Some("123456789")),
            ("123456789 0", Some("123456789")),
        ] {
            assert_eq!(
                clean(text, if text.starts_with('1') { 10 } else { 100 }).as_deref(),
                kept,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_name_of_which_nothing_shows_is_none() {
        for c in [
            '\u{0}',
            '\t',
            ' ',
            '\u{7f}',
            '\u{85}',
            '\u{a0}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180e}',
            '\u{2003}',
            '\u{200b}',
            '\u{200e}',
            '\u{2028}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fffb}',
            '\u{1d173}',
            '\u{e0041}',
        ] {
            assert_eq!(clean(&format!(" {c}{c} {c}"), 100), None, "{c:?}");
            assert_eq!(clean(&format!("{c}a{c}"), 100).as_deref(), Some("a"), "{c:?}");
        }
    }
}
