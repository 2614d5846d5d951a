//! The imports of one source file, read from its text.
//!
//! This is no compiler. It takes comments, strings and test code out of the text, cuts the rest into words and marks, and finds every
//! path that begins with `crate`, `super`, `self` or the library's name: in `use` declarations with groups over many lines, and in
//! the middle of an expression. What a macro builds of pieces escapes it.

/// One source file.
pub struct Source {
    /// The path from `src/`, such as `web/admin/mod.rs`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// A path that a file names.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    /// Line of its last word, from 1.
    pub line: usize,
    /// The modules that lead to it from the crate's root, and its name.
    pub to: Vec<String>,
}

/// A word or a mark, and the line on which it stands.
#[derive(Clone)]
struct Token {
    text: String,
    line: usize,
}

/// The library's name, by which `main.rs` knows it.
const LIBRARY: &str = "groundmist_sync";

impl Source {
    /// The module that the file is, from the crate's root: `web/admin/mod.rs` and `web/admin.rs` are `web`, `admin`.
    pub fn module(&self) -> Vec<String> {
        let path = self.path.trim_end_matches(".rs");
        let path = path.strip_suffix("/mod").unwrap_or(path);
        path.split('/').map(str::to_owned).collect()
    }

    /// Whether the whole file is test code, by its name.
    pub fn is_test(&self) -> bool {
        self.module().last().is_some_and(|name| name == "tests" || name == "testing")
    }

    /// Every path from the crate's root that code outside tests names.
    pub fn imports(&self) -> Vec<Import> {
        if self.is_test() {
            return Vec::new();
        }
        let tokens = without_tests(&tokens(&self.text));
        let mut module = self.module();
        // Braces that are open, with the name of each that is a module's.
        let mut open: Vec<bool> = Vec::new();
        let mut imports = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            match token.text.as_str() {
                "{" => {
                    let named = at >= 2 && tokens[at - 2].text == "mod";
                    if named {
                        module.push(tokens[at - 1].text.clone());
                    }
                    open.push(named);
                }
                "}" if open.pop() == Some(true) => {
                    module.pop();
                }
                "crate" | "super" | "self" | LIBRARY if begins_path(&tokens, at) => {
                    tree(&tokens, &mut { at }, Vec::new(), &mut |line, path| {
                        imports.push(Import { line, to: absolute(&module, path) });
                    });
                }
                _ => {}
            }
        }
        imports
    }
}

/// `self.field` and the `super` in `pub(super)` begin no path, nor does what follows another `::`.
fn begins_path(tokens: &[Token], at: usize) -> bool {
    let is = |at: Option<usize>, text| at.and_then(|at| tokens.get(at)).is_some_and(|t| t.text == text);
    is(Some(at + 1), "::") && !is(at.checked_sub(1), "::")
}

/// Reports each path of a `use` tree, or the one path that stands in an expression.
fn tree(tokens: &[Token], at: &mut usize, mut path: Vec<String>, found: &mut impl FnMut(usize, Vec<String>)) {
    while let Some(token) = tokens.get(*at) {
        *at += 1;
        if token.text == "{" {
            while tokens.get(*at).is_some_and(|token| token.text != "}") {
                tree(tokens, at, path.clone(), found);
                // The comma, and before it a new name (`as name`).
                while tokens.get(*at).is_some_and(|token| token.text != "," && token.text != "}") {
                    *at += 1;
                }
                *at += usize::from(tokens.get(*at).is_some_and(|token| token.text == ","));
            }
            *at += 1;
            return;
        }
        // `{self, …}` names the module itself, `*` all that is in it.
        let is_end = token.text == "*" || (token.text == "self" && !path.is_empty());
        if !is_end {
            path.push(token.text.clone());
        }
        let goes_on = !is_end
            && tokens.get(*at).is_some_and(|token| token.text == "::")
            && tokens.get(*at + 1).is_some_and(|token| is_word(&token.text) || "{*".contains(&token.text));
        if !goes_on {
            return found(token.line, path);
        }
        *at += 1;
    }
}

/// The path from the crate's root, as seen from a module.
fn absolute(module: &[String], path: Vec<String>) -> Vec<String> {
    let mut from = module.to_vec();
    let mut rest = path.into_iter().peekable();
    while let Some(word) = rest.next_if(|word| ["crate", "super", "self", LIBRARY].contains(&word.as_str())) {
        match word.as_str() {
            "super" => drop(from.pop()),
            "self" => {}
            _ => from.clear(),
        }
    }
    from.into_iter().chain(rest).collect()
}

/// Leaves out every item, field or statement under `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().map(|token| token.text.as_str()).take(MARK.len()).eq(MARK) {
            at = end_of_item(tokens, at + MARK.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Where the item that begins here is over: after its `;` or `,`, after the block that is its body, or before the end of
/// what it stands in.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut is_use = false;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "use" if depth == 0 => is_use = true,
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" if depth == 0 => return at,
            "}" if depth == 1 && !is_use => return at + 1,
            "}" | ")" | "]" => depth -= 1,
            ";" | "," if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words and marks, without comments and literals.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let word = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        let length = match (literal(rest), word) {
            (Some(length), _) => length,
            (None, 0) if rest.starts_with(&[':', ':']) => 2,
            (None, word) => word.max(1),
        };
        let token: String = rest[..length].iter().collect();
        if literal(rest).is_none() && !token.trim().is_empty() {
            tokens.push(Token { text: token.clone(), line });
        }
        line += token.matches('\n').count();
        at += length;
    }
    tokens
}

/// The length of the comment, string or character that begins here, if one does.
fn literal(rest: &[char]) -> Option<usize> {
    let until = |from: usize, end: &[char]| {
        let found = (from..rest.len()).find(|&at| rest[at..].starts_with(end));
        found.map_or(rest.len(), |at| at + end.len())
    };
    match rest {
        ['/', '/', ..] => Some(until(2, &['\n'])),
        ['/', '*', ..] => Some(block_comment(rest)),
        ['"', ..] => Some(escaped(rest, '"')),
        ['b' | 'c', '"', ..] => Some(1 + escaped(&rest[1..], '"')),
        ['r', '"' | '#', ..] | ['b' | 'c', 'r', '"' | '#', ..] => {
            let prefix = if rest[0] == 'r' { 1 } else { 2 };
            let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
            let quote = prefix + hashes;
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            // `r#type` is a word.
            (rest.get(quote) == Some(&'"')).then(|| until(quote + 1, &end))
        }
        // A lifetime has no quote at its end.
        ['\'', '\\', ..] => Some(escaped(rest, '\'')),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

/// The length of a literal in quotes, in which a backslash hides the next character.
fn escaped(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The length of a block comment, which may hold others.
fn block_comment(rest: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}
