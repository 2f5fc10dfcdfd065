//! The JSON document: where it comes from, and where two of them differ.

use crate::PATIENCE;
use crate::failure::Failure;
use serde_json::Value;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;

pub(crate) struct Document {
    name: String,
    pub(crate) text: String,
    pub(crate) value: Value,
}

impl Document {
    /// The file, or without one what cargo says of this checkout.
    pub(crate) fn load(file: Option<&str>) -> Result<Self, Failure> {
        let (name, text) = match file {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read '{file}': {error}"))?;
                (file.to_string(), text)
            }
            // The packages of all platforms are asked for, which may need the network; without it the workspace alone.
            None => match cargo_metadata(&[]).or_else(|_| cargo_metadata(&["--no-deps"])) {
                Ok(text) => ("cargo metadata".to_string(), text),
                Err(error) => return Err(format!("{error}; give a JSON file instead: demo FILE").into()),
            },
        };
        let value = serde_json::from_str(&text).map_err(|error| format!("{name} is not JSON: {error}"))?;
        Ok(Self { name, text, value })
    }

    pub(crate) fn describe(&self) -> String {
        let values = crate::report::grouped(count(&self.value));
        format!("{}, {} bytes, {values} values", self.name, crate::report::grouped(self.text.len()))
    }
}

fn cargo_metadata(more: &[&str]) -> Result<String, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()); // set by `cargo run`
    let mut child = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .args(more)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
    // Read on a thread of its own: cargo may wait for another cargo's lock, or for the network.
    let (done, is_done) = mpsc::channel();
    if let Some(mut stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut text = String::new();
            let read = stdout.read_to_string(&mut text).map(|_| text);
            let _ = done.send(read); // too late if nobody waits any more
        });
    }
    let read = is_done.recv_timeout(PATIENCE / 4);
    if read.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    match read {
        Ok(text) if status.success() => Ok(text?),
        Ok(_) => Err(format!("cargo metadata failed: {status}").into()),
        Err(_) => Err(format!("cargo metadata took longer than {:?}", PATIENCE / 4).into()),
    }
}

/// How many JSON values a value is made of, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(count).sum::<usize>(),
        Value::Object(members) => members.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// Where the second document differs from the first one, if it does.
pub(crate) fn difference(expected: &Value, found: &Value) -> Option<String> {
    if expected == found {
        return None;
    }
    let inner = match (expected, found) {
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let mut pairs = expected.iter().zip(found).enumerate();
            pairs.find_map(|(index, (expected, found))| Some(format!("[{index}]{}", difference(expected, found)?)))
        }
        (Value::Object(expected), Value::Object(found)) if expected.keys().eq(found.keys()) => {
            let mut members = expected.iter();
            members.find_map(|(key, expected)| Some(format!("[{key:?}]{}", difference(expected, &found[key])?)))
        }
        _ => None,
    };
    inner.or_else(|| Some(format!(": {} instead of {}", short(found), short(expected))))
}

/// The beginning of a value.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
