//! Where the threads of a process are, for a run that hangs: what gdb says, a line a thread.

use std::process::{Command, Stdio};

/// Of this process and its children; what cannot be had, in words.
pub(crate) fn of_all(children: &[u32]) -> String {
    let name = |pid: u32| if pid == std::process::id() { "main".into() } else { format!("renderer, process {pid}") };
    let all = std::iter::once(std::process::id()).chain(children.iter().copied());
    all.map(|pid| format!("{}:\n{}", name(pid), of(pid))).collect::<Vec<_>>().join("\n")
}

fn of(pid: u32) -> String {
    let pid = pid.to_string();
    let told = Command::new("gdb")
        .args(["-p", &pid, "-batch", "-nx"])
        .args(["-ex", "set width 0", "-ex", "set print frame-arguments none", "-ex", "thread apply all bt 60"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match told {
        Ok(told) => shortened(&String::from_utf8_lossy(&told.stdout)),
        Err(error) => format!("  no stacks: cannot start gdb: {error}"),
    }
}

/// Of each thread its name and where it is in ringmain and in the soak, the innermost first.
fn shortened(text: &str) -> String {
    let mut threads = Vec::<String>::new();
    for line in text.lines() {
        if line.starts_with("Thread ") {
            threads.push(format!("  {}:", line.split('"').nth(1).unwrap_or("?")));
        } else if let (Some(thread), Some(frame)) = (threads.last_mut(), line.strip_prefix('#')) {
            // "#3  0x… in name (…) at file:line", the last of it where there is debug information.
            let frame = frame.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
            let frame = frame.split_once(" in ").map_or(frame, |(_, frame)| frame);
            let (function, place) = frame.split_once(" (").unwrap_or((frame, ""));
            let place = place.rsplit_once(" at ").map_or("", |(_, place)| place);
            let is_innermost = thread.ends_with(':');
            let is_ours = ["ringmain::", "soak::"].iter().any(|ours| function.contains(ours))
                || ["src/", "examples/"].iter().any(|ours| place.starts_with(ours));
            if is_innermost || is_ours {
                let function = function.trim_start_matches("ringmain::").trim_start_matches("soak::");
                thread.push_str(&format!(" {function} {place},"));
            }
        }
    }
    threads.join("\n")
}
