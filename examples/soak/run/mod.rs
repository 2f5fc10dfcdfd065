//! A long run of everything: see `examples/soak/main.rs`. A module of its own so that the tests of the soak can run it.
#![allow(unreachable_pub, dead_code, reason = "shared by the example and its tests")]

mod census;
mod checker;
mod counts;
mod driver;
mod foreign;
mod lane;
mod lanes;
mod later;
mod message;
mod options;
mod own_loop;
mod random;
mod renderer;
mod report;
mod sabotage;
mod signals;
mod stacks;
mod stage;
mod world;

use message::Body;
use ringmain::{Error, HandlerError};
use std::process::Command;

/// With this in its environment the program is a renderer.
const RENDERER: &str = "RINGMAIN_SOAK_RENDERER";

/// Threads of a renderer that send; their lanes are 0 and up.
const WORKERS: u32 = 2;
/// Threads of main that send; likewise.
const DRIVERS: u32 = 2;
/// Threads of main that have lanes, each with some of the renderers.
const LANERS: u32 = 2;
/// As whom the host is sent to: renderers do not know its number.
const HOST: u32 = u32::MAX;

/// The lane of the thread that starts and kills.
const CHAOS: u32 = 50;
/// The lane of what listeners send.
const DISPATCHER: u32 = 100;
/// The lane of what main's async handlers call; what is cancelled of it is missing.
const RELAY: u32 = 101;

/// The lane of what listeners reply to further frames of other renderers: lost with those.
const TO_FRAMES: u32 = 102;

/// The lane of a reply to another renderer, and its channel.
fn reply_lane(to_main_frame: bool) -> u32 {
    if to_main_frame { DISPATCHER } else { TO_FRAMES }
}

fn reply_channel(to: u32, to_main_frame: bool) -> String {
    if to_main_frame { format!("routed-{to}") } else { format!("framed-{to}") }
}

/// What a handler panics with.
const ON_PURPOSE: &str = "soak: on purpose";

/// Runs the soak, or in a process that it started a renderer. `again` starts this program once more, so that it comes
/// here. The exit code: 0 if nothing was wrong, 1 if something was, 2 if the arguments are not understood, 130 if it was
/// interrupted.
pub fn main(arguments: &[String], again: fn() -> Command) -> i32 {
    if let Ok(order) = std::env::var(RENDERER) {
        renderer::play(serde_json::from_str(&order).expect("an order of the main process"));
        return 0;
    }
    match options::Options::parse(arguments) {
        Ok(options) => stage::run(&options, again),
        Err(text) => {
            eprintln!("{text}");
            2
        }
    }
}

/// What a soak can be told to do wrong, for its tests.
pub fn sabotages() -> Vec<String> {
    sabotage::Kind::words()
}

/// The error of a handler that fails.
fn fail(key: u64, longest: u64) -> HandlerError {
    let data = serde_json::to_value(Body::answer(key, longest.min(4 << 10))).expect("JSON");
    HandlerError::new(format!("failed with {key}")).with_name("OnPurpose").with_code(key.to_string()).with_data(data)
}

/// Whether a call failed as its handler did; the size of what came along.
fn check_failure(key: u64, longest: u64, error: &Error) -> Result<u64, String> {
    let wrong = |what: &str| Err(format!("a handler's failure came with another {what}: {error:?}"));
    if error.remote_name() != Some("OnPurpose") {
        return wrong("name");
    }
    if error.code() != Some(&key.to_string()) {
        return wrong("code");
    }
    if error.remote_message() != Some(&format!("failed with {key}")) {
        return wrong("text");
    }
    let body = error.data().and_then(|data| serde_json::from_value::<Body>(data.clone()).ok());
    match body {
        Some(body) => checker::check_answer(key, longest.min(4 << 10), &body).map(|()| body.size()),
        None => wrong("value"),
    }
}

/// Handlers panic on purpose here; that need not be on the screen. Others are.
fn silence_panics_on_purpose() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        if !text.is_some_and(|text| text.contains(ON_PURPOSE)) {
            before(info);
        }
    }));
}
