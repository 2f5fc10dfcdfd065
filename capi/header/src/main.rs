//! Writes `include/ringmain.h` from `src/capi`; with `--check` it compares instead.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("the manifest");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("version = ")).expect("a version").trim_matches('"');
    let mut parts = version.split('.');
    let mut part = || parts.next().expect("three numbers").to_string();

    let mut config = cbindgen::Config::from_file(root.join("capi/cbindgen.toml")).expect("capi/cbindgen.toml");
    let constants = config.after_includes.take().expect("after_includes");
    let constants = constants.replace("@VERSION@", version).replace("@MAJOR@", &part());
    let constants = constants.replace("@MINOR@", &part()).replace("@PATCH@", &part());
    config.after_includes = Some(constants);

    // The order of the header.
    let mut builder = cbindgen::Builder::new().with_config(config);
    let ends = ["open", "sender", "receiver", "duplex", "group", "latest", "counters", "clock"]
        .map(|file| format!("lane/{file}"));
    let handles = ["constants", "result", "value", "config", "event", "registration", "shared", "main", "renderer"];
    for file in handles.map(str::to_string).into_iter().chain(ends) {
        builder = builder.with_src(root.join(format!("src/capi/{file}.rs")));
    }
    let mut header = Vec::new();
    builder.generate().expect("bindings").write(&mut header);

    let path = root.join("include/ringmain.h");
    if std::env::args().any(|argument| argument == "--check") {
        if std::fs::read(&path).ok().as_ref() == Some(&header) {
            println!("include/ringmain.h is that of src/capi: {} lines", header.split(|byte| *byte == b'\n').count());
            return ExitCode::SUCCESS;
        }
        eprintln!("include/ringmain.h is not that of src/capi: cargo run --manifest-path capi/header/Cargo.toml");
        return ExitCode::FAILURE;
    }
    std::fs::write(path, header).expect("the header");
    ExitCode::SUCCESS
}
