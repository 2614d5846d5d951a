//! Arrows only go down: a module imports only from modules below it, and no two folders import from each other.
//!
//! Test code may look up, as it sets a part up with what stands above it in the server: what is under `#[cfg(test)]`, and files
//! named `tests.rs` and `testing.rs`.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "arrows/imports.rs"]
mod imports;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use imports::{Import, Source};

/// The modules from top to bottom. ARCHITECTURE.md and `src/lib.rs` say what each is for.
const ORDER: [&str; 16] = [
    "main",
    "cli",
    "appliance",
    "web",
    "listen",
    "access",
    "atproto",
    "net",
    "engine",
    "sync",
    "store",
    "config",
    "telemetry",
    "directory",
    "sys",
    "types",
];

/// For each folder the siblings that it imports from, each with one import that shows it.
type Arrows = BTreeMap<Vec<String>, BTreeMap<Vec<String>, String>>;

#[test]
fn arrows_only_go_down() {
    let faults = upward(&sources());
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn no_folders_import_from_each_other() {
    let faults = circles(&sources());
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_module_has_its_place_in_the_order() {
    let sources = sources();
    let found: BTreeSet<String> = sources.iter().map(|source| source.module()[0].clone()).collect();
    let listed = ORDER.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, listed, "ORDER in tests/arrows.rs lists each folder and file of src/ once");
}

/// All of `src/` but `lib.rs`, which only declares the modules.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut sources) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    sources.retain(|source| source.path != "lib.rs");
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    sources
}

/// Each import from a module above.
fn upward(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let module = source.module();
        for import in source.imports() {
            let Some(target) = import.to.first().filter(|target| **target != module[0]) else { continue };
            let place = |name: &str| ORDER.iter().position(|listed| *listed == name);
            match (place(&module[0]), place(target)) {
                (Some(from), Some(to)) if to > from => {}
                (Some(from), Some(_)) => faults.push(format!(
                    "{} goes up from {from_name} to {target}. Import from a module below {from_name} instead ({}): move what both need down to one of them, or let appliance hand it in.",
                    shown(source, &import),
                    ORDER[from + 1..].join(", "),
                    from_name = module[0],
                )),
                _ => faults.push(format!("{} is not from a module that ORDER lists.", shown(source, &import))),
            }
        }
    }
    faults
}

/// Each import that closes a circle of sibling folders. A folder and the one that it stands in are no circle: they are one
/// module and its parts. Circles of the modules themselves are left out, as one of their arrows goes up.
fn circles(sources: &[Source]) -> Vec<String> {
    let arrows = arrows(sources);
    let mut faults = Vec::new();
    for (from, targets) in &arrows {
        for (to, import) in targets {
            // Each arrow of the circle is reported, since nobody knows which of them is the wrong one.
            let Some(way) = way(&arrows, to, from) else { continue };
            let way: Vec<String> = way.iter().map(|folder| format!("src/{}", folder.join("/"))).collect();
            faults.push(format!(
                "{import} closes a circle, as there is a way back: {}. Move what both ends need to a file beside their folders, or to a module below.",
                way.join(" -> "),
            ));
        }
    }
    faults
}

fn arrows(sources: &[Source]) -> Arrows {
    let folders: BTreeSet<Vec<String>> = sources
        .iter()
        .filter_map(|source| Some(source.path.rsplit_once('/')?.0.split('/').map(str::to_owned).collect()))
        .collect();
    let folder = |module: &[String]| {
        let length = (0..=module.len()).rev().find(|&length| folders.contains(&module[..length]))?;
        Some(module[..length].to_vec())
    };
    let mut arrows = Arrows::new();
    for source in sources {
        let Some(from) = folder(&source.module()) else { continue };
        for import in source.imports() {
            let Some(to) = folder(&import.to) else { continue };
            let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            // Where neither stands in the other, the arrow is one of the two siblings that hold them.
            if common > 0 && common < from.len() && common < to.len() {
                let targets = arrows.entry(from[..=common].to_vec()).or_default();
                targets.entry(to[..=common].to_vec()).or_insert_with(|| shown(source, &import));
            }
        }
    }
    arrows
}

/// The shortest way along the arrows from one folder to another, both included.
fn way(arrows: &Arrows, from: &[String], to: &[String]) -> Option<Vec<Vec<String>>> {
    let mut seen = BTreeSet::from([from.to_vec()]);
    let mut ways = VecDeque::from([vec![from.to_vec()]]);
    while let Some(way) = ways.pop_front() {
        let end = way.last()?;
        if end == to {
            return Some(way);
        }
        for next in arrows.get(end).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(next.clone()) {
                ways.push_back([way.as_slice(), std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}

fn shown(source: &Source, import: &Import) -> String {
    format!("src/{} line {}: `crate::{}`", source.path, import.line, import.to.join("::"))
}

/// These show that the tests above can fail.
mod made_up {
    use super::*;

    fn file(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    fn faults(path: &str, text: &str) -> Vec<String> {
        upward(&[file(path, text)])
    }

    #[test]
    fn an_arrow_that_goes_up_is_found_in_every_form() {
        for text in [
            "use crate::engine::Engine;",
            "pub use crate::engine::{self, Engine as Runner};",
            "use crate::{types::now, engine};",
            "use crate::{\n    types::{Did, Handle},\n    engine::{\n        Engine,\n    },\n};",
            "fn f() { let x = 'x'; crate::engine::start::<u8>(x) }",
            "fn f<'a>(x: &'a str) -> crate::engine::Engine { x }",
            "use super::super::engine::Engine;",
            "use groundmist_sync::engine::*;",
            "mod inner { use super::super::super::engine::Engine; }",
            "#[cfg(test)] mod tests { use crate::web::Web; } use crate::engine::Engine;",
            "#[cfg(test)]\nmod tests;\nuse crate::engine::Engine;",
            "struct S { #[cfg(test)] probe: crate::web::Web, engine: crate::engine::Engine }",
            "const Q: &str = \"\\\"\"; const R: &str = r#\"\"\"#; use crate::engine::Engine;",
        ] {
            let found = faults("store/backup.rs", text);
            let all_up = found.iter().all(|fault| fault.contains("goes up from store to engine"));
            assert!(!found.is_empty() && all_up, "{text}: {found:?}");
        }
    }

    #[test]
    fn the_fault_names_the_file_the_import_and_the_way_out() {
        assert_eq!(
            faults("config/mod.rs", "//! Settings.\n\nuse crate::store::{\n    Store,\n};\n"),
            [
                "src/config/mod.rs line 4: `crate::store::Store` goes up from config to store. Import from a module below config instead (telemetry, directory, sys, types): move what both need down to one of them, or let appliance hand it in."
            ]
        );
        assert!(faults("config/mod.rs", "use crate::utils::x;")[0].contains("ORDER"));
    }

    #[test]
    fn what_is_no_import_and_what_only_tests_import_may_point_up() {
        for text in [
            "//! See [`crate::engine`].\n/* crate::engine::x /* crate::web::y */ */",
            "const HELP: &str = \"crate::engine::x\"; const RAW: &str = r#\"\"crate::engine::x\"#;",
            "use crate::types::now; use super::model; use self::open::Place; pub(super) fn f(&self) { self.x }",
            "#[cfg(test)]\nmod tests {\n    use crate::engine::Engine;\n    mod more {}\n    use crate::web::Web;\n}",
            "#[cfg(test)]\nuse crate::{engine::Engine, web};",
            "#[cfg(test)]\n#[allow(unused)]\nfn f(x: [u8; 2]) -> u8 { crate::engine::f(x) }",
        ] {
            assert_eq!(faults("store/read.rs", text), [""; 0], "{text}");
        }
        assert_eq!(faults("store/tests.rs", "use crate::engine::Engine;"), [""; 0]);
    }

    #[test]
    fn a_circle_between_folders_is_found() {
        let admin = file("web/admin/mod.rs", "use super::page::bundle::Bundle;");
        let bundle = file("web/page/bundle.rs", "use super::super::small_http;");
        let page = file("web/page/mod.rs", "use crate::web::connect::code::Code;");
        let code = file("web/connect/code.rs", "use crate::web::{self, admin::{status, tokens}};");
        let parent = file("web/mod.rs", "use admin::Admin; use super::web::page::Page;");
        assert_eq!(circles(&[admin, bundle, page, parent]), [""; 0]);

        let admin = file("web/admin/mod.rs", "use super::page::bundle::Bundle;");
        let page = file("web/page/mod.rs", "use crate::web::connect::code::Code;");
        let found = circles(&[admin, page, code]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].contains("src/web/admin/mod.rs line 1: `crate::web::page::bundle::Bundle`"),
            "{}",
            found[0]
        );
        assert!(found[0].contains(": src/web/page -> src/web/connect -> src/web/admin."), "{}", found[0]);
    }
}
