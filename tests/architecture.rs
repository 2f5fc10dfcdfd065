//! Holds the import table of ARCHITECTURE.md: a file imports only from layers below it in its own tower and from the
//! leaves; unsafe code stays in the few files that are listed.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Layer → what it may import of the crate. A folder is one layer with its file.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // leaves
    ("failpoint", &[]),
    ("sync", &[]),
    ("error", &[]),
    ("config", &["error", "link", "wake", "wire"]),
    // memory tower
    ("sys", &[]),
    ("layout", &["region", "ring", "slots"]),
    ("region", &["sync", "sys"]),
    ("ring", &["region", "sync"]),
    ("slots", &["region", "sync"]),
    ("records", &["region", "slots", "sync"]),
    ("latest", &["region", "slots", "sync"]),
    ("parking", &["failpoint", "region", "sync", "sys", "wake"]),
    ("role", &["sync"]),
    ("wake", &["region", "sync", "sys"]),
    ("pipe", &["failpoint", "layout", "region", "ring", "role", "sync", "sys", "wake"]),
    // message tower
    ("wire", &[]),
    ("link", &[]),
    ("registry", &[]),
    ("dispatch", &["wire"]),
    // the bridge
    (
        "driver",
        &[
            "config",
            "dispatch",
            "error",
            "failpoint",
            "latest",
            "layout",
            "link",
            "parking",
            "pipe",
            "records",
            "region",
            "registry",
            "slots",
            "sync",
            "sys",
            "wake",
            "wire",
        ],
    ),
    // public handles
    ("lane", &["driver", "error", "latest", "layout", "link", "parking", "records", "region", "slots", "sync", "sys"]),
    ("polling", &[]),
    ("emitter", &["driver", "error", "event", "registry", "sync", "wire"]),
    ("event", &["dispatch", "driver", "error", "sync", "web_contents", "wire"]),
    ("invoke", &["driver", "error", "ipc_renderer", "sync", "wire"]),
    (
        "ipc_main",
        &[
            "config",
            "dispatch",
            "driver",
            "emitter",
            "error",
            "event",
            "ipc_renderer",
            "link",
            "polling",
            "registry",
            "sync",
            "web_contents",
            "wire",
        ],
    ),
    (
        "ipc_renderer",
        &[
            "config",
            "dispatch",
            "driver",
            "emitter",
            "error",
            "event",
            "invoke",
            "ipc_main",
            "lane",
            "link",
            "pipe",
            "polling",
            "registry",
            "sync",
            "web_contents",
            "wire",
        ],
    ),
    (
        "web_contents",
        &[
            "dispatch", "driver", "emitter", "error", "event", "invoke", "lane", "link", "registry", "sync", "sys",
            "wire",
        ],
    ),
    ("channel", &["driver", "error", "event", "invoke", "ipc_main", "ipc_renderer", "web_contents", "wire"]),
    (
        "capi",
        &[
            "config",
            "driver",
            "error",
            "event",
            "invoke",
            "ipc_main",
            "ipc_renderer",
            "lane",
            "link",
            "parking",
            "sync",
            "wake",
            "web_contents",
            "wire",
        ],
    ),
    ("guide", &[]),
    ("fuzzing", &["layout", "link", "pipe", "region", "ring", "sync", "wake", "wire"]),
    ("internals", &["layout", "region", "ring", "sys", "wire"]),
];

/// The files that may hold unsafe code, each with its reason in ARCHITECTURE.md.
const MAY_BE_UNSAFE: &[&str] = &[
    "capi/config.rs",
    "capi/event.rs",
    "capi/lane/clock.rs",
    "capi/lane/counters.rs",
    "capi/lane/duplex.rs",
    "capi/lane/group.rs",
    "capi/lane/latest.rs",
    "capi/lane/mod.rs",
    "capi/lane/open.rs",
    "capi/lane/receiver.rs",
    "capi/lane/sender.rs",
    "capi/main.rs",
    "capi/registration.rs",
    "capi/renderer.rs",
    "capi/result.rs",
    "capi/shared.rs",
    "capi/value.rs",
    "lane/latest.rs",
    "lane/receiver.rs",
    "lane/sender.rs",
    "region.rs",
    "ring.rs",
    "role.rs",
    "slots.rs",
    "sys/linux/memory.rs",
    "sys/linux/process.rs",
    "sys/linux/socket.rs",
    "sys/linux/thread.rs",
];

/// The whole message tower is pure.
const PURE: &[&str] = &["dispatch", "link", "registry", "wire"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(below).expect("the source tree") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file: its path below `src`, its layer, its text without tests.
fn layers() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    files(&source(), &mut found);
    let mut layers = Vec::new();
    for path in found {
        let name = path.strip_prefix(source()).expect("below src").to_str().expect("a name").to_string();
        if name == "lib.rs" || name.ends_with("tests.rs") {
            continue;
        }
        let layer = name.split('/').next().expect("a layer").trim_end_matches(".rs").to_string();
        let text = std::fs::read_to_string(&path).expect("a source file");
        let end = ["\nmod tests {", "\nmod test {"].iter().filter_map(|start| text.find(start)).min();
        let code = text[..end.unwrap_or(text.len())].to_string();
        layers.push((name, layer, code));
    }
    assert!(layers.len() > 25, "{} files found", layers.len());
    layers
}

fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in code.lines() {
        let line = line.split("//").next().unwrap_or("");
        for (at, _) in line.match_indices("crate::") {
            let is_part_of_a_name = line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
            let rest = &line[at + "crate::".len()..];
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !is_part_of_a_name && name.starts_with(|c: char| c.is_lowercase()) {
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn a_file_imports_only_from_the_layers_below_it() {
    for (file, layer, code) in layers() {
        let (_, allowed) = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == layer)
            .unwrap_or_else(|| panic!("{file}: the layer {layer} has no line in the table"));
        for import in imports(&code) {
            assert!(
                import == layer || allowed.contains(&import.as_str()),
                "{file} imports {import}, which {layer} may not"
            );
        }
    }
}

#[test]
fn every_layer_of_the_table_exists() {
    let known: BTreeSet<String> = layers().into_iter().map(|(_, layer, _)| layer).collect();
    let table: BTreeSet<String> = MAY_IMPORT.iter().map(|(layer, _)| (*layer).to_string()).collect();
    assert_eq!(known, table);
}

#[test]
fn unsafe_code_stays_in_the_files_that_are_listed() {
    let mut unsafe_files = Vec::new();
    for (file, _, code) in layers() {
        let code: String = code.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
        if code.contains("unsafe {") || code.contains("unsafe impl") || code.contains("unsafe fn") {
            unsafe_files.push(file);
        }
    }
    unsafe_files.sort();
    assert_eq!(unsafe_files, MAY_BE_UNSAFE);
}

#[test]
fn the_message_tower_forbids_unsafe_and_knows_no_memory_thread_or_clock() {
    for (file, layer, code) in layers() {
        if !PURE.contains(&layer.as_str()) {
            continue;
        }
        if !file.contains('/') || file.ends_with("mod.rs") {
            assert!(code.contains("#![forbid(unsafe_code)]"), "{file} does not forbid unsafe code");
        }
        for taboo in ["Instant::now", "thread::spawn", "std::fs", "Atomic", "Mutex"] {
            let code: String = code.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
            assert!(!code.contains(taboo), "{file} uses {taboo}");
        }
    }
}

/// Every function that the C header declares: its name, its comment, its declaration.
fn c_functions() -> Vec<(String, String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/ringmain.h");
    let header = std::fs::read_to_string(path).expect("the C header");
    let mut functions = Vec::new();
    for block in header.split("/**").skip(1) {
        let Some((comment, rest)) = block.split_once("*/") else { continue };
        let declaration = rest.split(';').next().unwrap_or("").trim();
        let is_type = ["typedef", "#"].iter().any(|word| declaration.starts_with(word));
        if let Some((head, _)) = declaration.split_once('(')
            && !is_type
            && !declaration.contains('{')
        {
            let name = head.rsplit([' ', '*']).next().unwrap_or("");
            functions.push((name.to_string(), comment.to_string(), declaration.to_string()));
        }
    }
    functions
}

#[test]
fn every_c_function_is_declared_and_says_which_threads_may_call_it_and_who_owns_what() {
    let functions = c_functions();
    let declared: BTreeSet<&str> = functions.iter().map(|(name, ..)| name.as_str()).collect();
    let mut defined = BTreeSet::new();
    for (_, layer, code) in layers() {
        if layer == "capi" {
            for part in code.split("extern \"C\" fn ringmain_").skip(1) {
                let rest: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                defined.insert(format!("ringmain_{rest}"));
            }
        }
    }
    assert!(defined.len() > 50, "{} functions found", defined.len());
    assert_eq!(declared, defined.iter().map(String::as_str).collect());

    for (name, comment, declaration) in functions {
        for line in ["Thread-safe: ", "Realtime-safe: "] {
            let said = comment.lines().find_map(|text| text.trim_start_matches([' ', '*']).strip_prefix(line));
            let is_clear = said.is_some_and(|said| said.starts_with("yes") || said.starts_with("no"));
            assert!(is_clear, "{name} does not say '{line}yes' or '{line}no': {said:?}");
        }
        let hands_over = declaration.replace("ringmain_error **", "").contains("**") || declaration.contains("bytes *");
        let refers = [
            "caller's",
            "as long as the event",
            "caller keeps",
            "those of `ringmain_",
            "As `ringmain_",
            "Gives bytes back",
        ];
        assert!(
            !hands_over || refers.iter().any(|words| comment.contains(words)) || name == "ringmain_main_spawn",
            "{name} does not say who owns what it hands over"
        );
    }
}
