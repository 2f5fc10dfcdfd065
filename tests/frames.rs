//! Frames: further endpoints of a renderer, each with listeners and an order of its own.
#![allow(missing_docs)]

mod support;

use ringmain::{Args, IpcMainEvent};
use serde_json::json;
use std::sync::mpsc::channel;
use support::{Puppet, ipc_main, next};

#[test]
fn children() {
    support::play(&[("puppet", support::puppet)]);
}

#[test]
fn case_073_to_075_a_reply_goes_to_exactly_the_frame_that_sent_the_message() {
    let ipc_main = ipc_main();
    ipc_main.on("ask", |event: &IpcMainEvent, args: Args| event.reply("answer", args).unwrap());
    let (frame, frames) = channel();
    ipc_main.on("ask", move |event: &IpcMainEvent, _: Args| {
        let parent = event.sender_frame().parent().map(|parent| parent.id());
        frame.send((event.frame_id(), parent))
    });
    let mut puppet = Puppet::spawn(&ipc_main);
    let first = puppet.open_frame(1);
    let nested = puppet.open_frame(first);
    assert_eq!((first, nested), (2, 3));
    for frame in [1, first, nested] {
        puppet.on(frame, "answer", None);
    }
    for (frame, parent) in [(1, None), (first, Some(1)), (nested, Some(2))] {
        puppet.send(frame, "ask", json!([frame])).unwrap();
        let got = puppet.next_got();
        assert_eq!((got.frame, got.args, got.sender), (frame, json!([frame]), 0));
        assert_eq!(next(&frames, "the message"), (frame as u32, parent));
        assert_eq!(puppet.count_got(), 0, "and to no other frame");
    }
}
