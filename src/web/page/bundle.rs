//! One script out of modules: a browser that asks for a dozen, one by one, shows the page half as soon.
//!
//! No bundler, so that no build step is needed; it reads what our own modules use of ECMAScript (16.2), each on a line of its
//! own: `import { a, b } from "./x.js"`, `import * as x from "./x.js"`, and `export` before `const`, `function` and
//! `async function`. A line that it does not understand stays, and no browser takes it: our tests would see it.
//!
//! Comments that have their lines to themselves stay behind, for they are a tenth of the bytes. So no text of ours may go over
//! several lines and have one that looks like a comment.

use std::fmt::Write as _;

/// A module's file name and text.
pub(super) type Module = (&'static str, &'static str);

/// A script that runs `modules` in their order: each after all that it imports.
pub(super) fn bundle(modules: &[Module]) -> String {
    let mut script = String::from("const modules = {}\n");
    for (name, text) in modules {
        let mut exported = Vec::new();
        // Writing to a string does not fail.
        let _ = writeln!(script, "modules[\"{name}\"] = (() => {{");
        let mut in_comment = false;
        for line in text.lines() {
            let words = line.trim();
            in_comment |= words.starts_with("/*");
            if in_comment || words.is_empty() || words.starts_with("//") {
                in_comment &= !words.ends_with("*/");
                continue;
            }
            if let Some(declaration) = line.strip_prefix("export ") {
                exported.extend(declared(declaration));
                let _ = writeln!(script, "{declaration}");
            } else if let Some((names, from)) = imported(line) {
                let _ = writeln!(script, "const {names} = modules[\"{from}\"]");
            } else {
                let _ = writeln!(script, "{line}");
            }
        }
        let _ = writeln!(script, "return {{ {} }}\n}})()", exported.join(", "));
    }
    script
}

/// What `line` imports, as what stands left of `=`, and the module that it is from.
fn imported(line: &str) -> Option<(&str, &str)> {
    let (names, from) = line.strip_prefix("import ")?.split_once(" from ")?;
    let from = from.strip_prefix("\"./")?.strip_suffix('"')?;
    Some((names.strip_prefix("* as ").unwrap_or(names), from))
}

/// The name that `declaration` gives something.
fn declared(declaration: &str) -> Option<&str> {
    let declaration = declaration.strip_prefix("async ").unwrap_or(declaration);
    let rest = declaration.strip_prefix("const ").or_else(|| declaration.strip_prefix("function "))?;
    rest.split([' ', '(']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_has_its_own_scope_and_what_it_imports() {
        let modules: [Module; 3] = [
            (
                "a.js",
                "/** Why. */\nexport const $ = x => x\n\n/**\n * why\n */\nconst hidden = 1 // what\nexport async function go(x) {}\n",
            ),
            ("b.js", "import * as a from \"./a.js\"\nexport function b() {\n  return a.$(1)\n}\n"),
            (
                "page.js",
                "// why\nimport { $, go } from \"./a.js\"\nimport * as b from \"./b.js\"\ngo(b.b())\n",
            ),
        ];
        assert_eq!(
            bundle(&modules),
            r#"const modules = {}
modules["a.js"] = (() => {
const $ = x => x
const hidden = 1 // what
async function go(x) {}
return { $, go }
})()
modules["b.js"] = (() => {
const a = modules["a.js"]
function b() {
  return a.$(1)
}
return { b }
})()
modules["page.js"] = (() => {
const { $, go } = modules["a.js"]
const b = modules["b.js"]
go(b.b())
return {  }
})()
"#
        );
    }
}
