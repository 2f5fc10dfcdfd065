//! Which values arrive, and how, and which are refused. A number in a name is that of the case in the list of Electron's
//! own behaviour, whose values are those of JavaScript: here they are those of JSON.
#![allow(missing_docs)]

mod support;

use ringmain::{Args, Error, ErrorKind, IpcMainEvent, IpcRenderer, IpcRendererEvent};
use serde::ser::{SerializeSeq, SerializeStruct, Serializer};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc::channel;
use support::{LONG, PATIENCE, Puppet, next, pair, spawn};

#[test]
fn children() {
    support::play(&[
        ("puppet", support::puppet),
        ("invokes", invokes),
        ("sends synchronously", sends_synchronously),
        ("sends and listens", sends_and_listens),
    ]);
}

fn invoke<R: DeserializeOwned>(ipc_renderer: &IpcRenderer, channel: &str, args: impl ringmain::IntoArgs) -> R {
    ipc_renderer.invoke(channel, args).timeout(PATIENCE).wait().unwrap()
}

// ---- payloads of every size -------------------------------------------------------------------------------------

const SIZES: [usize; 7] = [0, 1, 65_535, 65_536, 65_537, 262_147, 3_145_729];

/// A byte is a value of its own, and each payload has it twice.
const MOST_VALUES: u32 = 8_000_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nested {
    name: String,
    inner: Inner,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    text: String,
    bytes: Vec<u8>,
}

type Payload = (String, Vec<u8>, Nested);

/// A text, a byte array and a nested record that holds both, of `size` units each.
fn payload(size: usize) -> Payload {
    let text: String = "näh, 100 €\0".chars().cycle().take(size).collect();
    let bytes: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
    let inner = Inner { text: text.clone(), bytes: bytes.clone() };
    (text, bytes, Nested { name: size.to_string(), inner })
}

/// Has every payload echoed and says so to main, one by one.
fn check_payloads(ipc_renderer: &IpcRenderer, echo: impl Fn(&Payload) -> Payload) {
    for size in SIZES {
        let sent = payload(size);
        // The whole would be too much to read.
        assert!(echo(&sent) == sent, "payload of {size} units");
        ipc_renderer.send("is equal", (size,)).unwrap();
    }
}

fn connected_for_payloads() -> IpcRenderer {
    IpcRenderer::builder().max_values(MOST_VALUES).connect().unwrap()
}

fn invokes() {
    let ipc_renderer = connected_for_payloads();
    check_payloads(&ipc_renderer, |payload| {
        ipc_renderer.invoke::<Payload>("echo", payload.clone()).timeout(LONG).wait().unwrap()
    });
}

fn sends_synchronously() {
    let ipc_renderer = connected_for_payloads();
    check_payloads(&ipc_renderer, |payload| ipc_renderer.send_sync_timeout("echo", payload.clone(), LONG).unwrap());
}

fn sends_and_listens() {
    let ipc_renderer = connected_for_payloads();
    let (back, backs) = channel();
    ipc_renderer.on("back", move |_, payload: Payload| back.send(payload));
    check_payloads(&ipc_renderer, |payload| {
        ipc_renderer.send("echo and reply", payload.clone()).unwrap();
        backs.recv_timeout(LONG).expect("the echo")
    });
}

/// A child that plays `role` has had all payloads back from this main as they were.
fn echoes_all_payloads_of(role: &str) {
    let ipc_main = support::builder().max_values(MOST_VALUES).build().unwrap();
    ipc_main.handle("echo", |_, payload: Payload| Ok(payload)).unwrap();
    ipc_main.on("echo", |event: &IpcMainEvent, payload: Payload| event.set_return_value(payload).unwrap());
    ipc_main.on("echo and reply", |event: &IpcMainEvent, payload: Args| event.reply("back", payload).unwrap());
    let (verdict, verdicts) = channel();
    let gone = verdict.clone();
    ipc_main.on("is equal", move |_, (size,): (usize,)| verdict.send(Ok(size)));
    ipc_main.on_renderer_gone(move |_, reason| drop(gone.send(Err(reason.to_string()))));
    let _child = spawn(&ipc_main, role);
    // Six million values, there and back, by what is not optimised.
    for size in SIZES {
        assert_eq!(verdicts.recv_timeout(LONG).expect("the verdict"), Ok(size));
    }
}

#[test]
fn case_010_payloads_of_every_size_return_from_an_invoke_of_another_process_as_they_were() {
    echoes_all_payloads_of("invokes");
}

#[test]
fn case_011_payloads_of_every_size_return_from_a_send_sync_of_another_process_as_they_were() {
    echoes_all_payloads_of("sends synchronously");
}

#[test]
fn case_012_payloads_of_every_size_return_from_a_send_and_a_message_back_as_they_were() {
    echoes_all_payloads_of("sends and listens");
}

// ---- what arrives -----------------------------------------------------------------------------------------------

/// These argument lists arrive equal, each way that there is between two processes.
fn arrive_equal(lists: &[Value]) {
    let ipc_main = support::ipc_main();
    let (got, gets) = channel();
    ipc_main.on("x", move |event: &IpcMainEvent, args: Args| {
        got.send(args.to_values()).unwrap();
        event.set_return_value(args.to_values()).unwrap();
    });
    ipc_main.handle("x", |_, args: Args| Ok(args.to_values())).unwrap();
    let mut puppet = Puppet::spawn(&ipc_main);
    puppet.on(1, "x", None);
    puppet.handle(1, "x", "echo").unwrap();
    for args in lists {
        let values = args.as_array().unwrap();
        puppet.send(1, "x", args.clone()).unwrap();
        assert_eq!(next(&gets, "the message"), *values);
        assert_eq!(puppet.send_sync(1, "x", args.clone()).unwrap(), *args);
        assert_eq!(next(&gets, "the synchronous message"), *values);
        assert_eq!(puppet.invoke_main(1, "x", args.clone()).unwrap(), *args);
        (*puppet).send("x", values.clone()).unwrap();
        assert_eq!(puppet.next_got().args, *args);
        assert_eq!((*puppet).invoke::<Value>("x", values.clone(), PATIENCE).wait().unwrap(), *args);
    }
}

#[test]
fn case_048_a_record_with_an_id_arrives_equal() {
    arrive_equal(&[
        json!([{ "id": "5", "name": "five" }]),
        json!([{ "id": 5, "type": "x", "channel": "y", "args": [], "frame": null }]),
        json!([{ "id": { "id": [{ "id": 18_446_744_073_709_551_615u64 }] } }]),
    ]);
}

#[test]
fn case_053_and_062_one_child_of_two_records_and_an_array_of_both_arrive_equal() {
    let child = json!({ "hello": "world" });
    let (foo, bar) = (json!({ "name": "foo", "child": &child }), json!({ "name": "bar", "child": &child }));
    let array = json!([&foo, &bar]);
    arrive_equal(&[json!([foo, bar, array, child])]);
}

#[test]
fn case_062_what_two_records_share_arrives_in_each_and_is_shared_no_more() {
    #[derive(Deserialize)]
    struct Record {
        child: BTreeMap<String, String>,
    }
    struct Shares(Rc<BTreeMap<String, String>>);
    impl Serialize for Shares {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut record = serializer.serialize_struct("Shares", 1)?;
            record.serialize_field("child", &*self.0)?;
            record.end()
        }
    }
    let (ipc_main, ipc_renderer) = pair();
    ipc_main
        .handle("x", |_, (mut foo, bar, both): (Record, Record, Vec<Record>)| {
            foo.child.insert("hello".into(), "you".into());
            Ok([foo.child, bar.child].into_iter().chain(both.into_iter().map(|it| it.child)).collect::<Vec<_>>())
        })
        .unwrap();
    let child = Rc::new(BTreeMap::from([("hello".to_string(), "world".to_string())]));
    let shares = || Shares(child.clone());
    let children: Value = invoke(&ipc_renderer, "x", (shares(), shares(), [shares(), shares()]));
    assert_eq!(children, json!([{ "hello": "you" }, { "hello": "world" }, { "hello": "world" }, { "hello": "world" }]));
}

#[test]
fn case_059_a_date_arrives_as_its_iso_text_and_reads_back_as_the_instant() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("text", |_, (text,): (String,)| Ok(text)).unwrap();
    ipc_main.handle("date", |_, (date,): (jiff::Timestamp,)| Ok(date)).unwrap();
    let texts = [
        "2019-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00Z",
        "-000001-07-04T12:00:00Z",
        "2262-04-11T23:47:16.854775807Z",
    ];
    for text in texts {
        let date: jiff::Timestamp = text.parse().unwrap();
        assert_eq!(invoke::<String>(&ipc_renderer, "text", (date,)), text);
        assert_eq!(invoke::<jiff::Timestamp>(&ipc_renderer, "date", (date,)), date);
        assert_eq!(invoke::<jiff::Timestamp>(&ipc_renderer, "date", (text,)), date);
        assert_eq!(invoke::<String>(&ipc_renderer, "date", (date,)), text);
    }
    let error = ipc_renderer.invoke::<String>("date", ("yesterday",)).timeout(PATIENCE).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadArguments);
    assert!(error.remote_message().unwrap().starts_with("args[0]: "), "{error}");
}

/// As `serde_bytes` writes them.
#[derive(Clone)]
struct ByteString(Vec<u8>);

impl Serialize for ByteString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

#[test]
fn case_060_bytes_arrive_as_an_array_of_numbers() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("dynamic", |_, (value,): (Value,)| Ok(value)).unwrap();
    ipc_main.handle("bytes", |_, (bytes,): (Vec<u8>,)| Ok(bytes)).unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(invoke::<Value>(&ipc_renderer, "dynamic", (&bytes,)), json!(bytes));
    assert_eq!(invoke::<Vec<u8>>(&ipc_renderer, "bytes", (&bytes,)), bytes);
    assert_eq!(invoke::<Vec<u8>>(&ipc_renderer, "dynamic", (&bytes[..0],)), bytes[..0]);
    let error = ipc_renderer.invoke::<Vec<u8>>("bytes", ([256],)).timeout(PATIENCE).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadArguments);
}

#[derive(Clone, Serialize)]
struct Image {
    name: String,
    layers: Vec<ByteString>,
}

#[test]
fn case_060_a_byte_string_is_refused_with_its_path_and_the_way_out() {
    let image = Image { name: "x".into(), layers: vec![ByteString(vec![1, 2, 3])] };
    refused((0, image), "args[1].layers[0]: a byte string of 3 bytes is not JSON (send an array of numbers or text)");
    refused((ByteString(vec![]),), "args[0]: a byte string of 0 bytes is not JSON (send an array of numbers or text)");
}

#[test]
fn case_063_and_064_of_a_record_with_opaque_parts_the_plain_fields_arrive() {
    #[derive(Serialize)]
    struct Window {
        title: String,
        size: (u32, u32),
        #[serde(skip)]
        _file: std::fs::File,
        #[serde(skip)]
        _thread: std::thread::Thread,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent: Option<Box<Window>>,
    }
    let window = |title: &str, parent| Window {
        title: title.into(),
        size: (3, 4),
        _file: std::fs::File::open("/dev/null").unwrap(),
        _thread: std::thread::current(),
        parent,
    };
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("x", |_, args: Args| Ok(args.to_values())).unwrap();
    let outer = window("b", Some(Box::new(window("a", None))));
    let a = json!({ "title": "a", "size": [3, 4] });
    let b = json!({ "title": "b", "size": [3, 4], "parent": a });
    assert_eq!(invoke::<Value>(&ipc_renderer, "x", (outer, "next")), json!([b, "next"]));
}

// ---- what is refused --------------------------------------------------------------------------------------------

/// Sends what cannot travel in each of the ways there are: `invoke` fails in its future, the others at the call, all with
/// this text, and nothing is sent.
#[track_caller]
fn refused<A: ringmain::IntoArgs + Clone>(args: A, text: &str) {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let (heard, hears) = channel();
    let there = heard.clone();
    ipc_main.on("x", move |_: &IpcMainEvent, args: Args| heard.send(args));
    ipc_main.handle("x", |_, args: Args| Ok(args.len())).unwrap();
    ipc_renderer.on("x", move |_: &IpcRendererEvent, args: Args| there.send(args));
    ipc_renderer.handle("x", |_, args: Args| Ok(args.len())).unwrap();
    let check = |way: &str, error: Error| {
        assert_eq!((error.kind(), &error.to_string()[..]), (ErrorKind::InvalidValue, text), "{way}");
    };
    check("send", ipc_renderer.send("x", args.clone()).unwrap_err());
    check("send_sync", ipc_renderer.send_sync::<()>("x", args.clone()).unwrap_err());
    check("send_to", ipc_renderer.send_to(1, "x", args.clone()).unwrap_err());
    check("send_to_host", ipc_renderer.send_to_host("x", args.clone()).unwrap_err());
    check("web_contents.send", web_contents.send("x", args.clone()).unwrap_err());
    check("main_frame().send", web_contents.main_frame().send("x", args.clone()).unwrap_err());
    check("ipc_main.emit", ipc_main.emit("x", args.clone()).unwrap_err());
    let call = ipc_renderer.invoke::<usize>("x", args.clone());
    check("invoke, waited for", call.wait().unwrap_err());
    check("invoke, awaited", futures::executor::block_on(ipc_renderer.invoke::<usize>("x", args.clone())).unwrap_err());
    let call = web_contents.invoke::<usize>("x", args.clone(), PATIENCE);
    check("web_contents.invoke", call.wait().unwrap_err());
    ipc_renderer.invoke::<usize>("x", args).detach();

    let sent = [ipc_renderer.stats(), web_contents.stats()].map(|stats| (stats.messages_sent, stats.pending_calls));
    assert_eq!(sent, [(0, 0); 2], "nothing was sent");
    // Both ways still work, and these are the first to come.
    ipc_renderer.send("x", ("main",)).unwrap();
    assert_eq!(next(&hears, "the next message").to_values(), ["main"]);
    web_contents.send("x", ("renderer",)).unwrap();
    assert_eq!(next(&hears, "the next message").to_values(), ["renderer"]);
    assert_eq!(invoke::<usize>(&ipc_renderer, "x", (1, 2)), 2);
}

#[test]
fn case_130_what_cannot_travel_fails_at_the_call_and_for_invoke_in_its_future() {
    refused(("fine", [0.5, f64::NAN]), "args[1][1]: NaN is not a JSON number");
}

/// A record that may contain itself.
#[derive(Clone, Default)]
struct Node(Rc<(u32, RefCell<Option<Node>>)>);

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_struct("Node", 2)?;
        record.serialize_field("number", &self.0.0)?;
        record.serialize_field("next", &*self.0.1.borrow())?;
        record.end()
    }
}

/// A list that may contain itself.
#[derive(Clone, Default)]
struct List(Rc<RefCell<Vec<List>>>);

impl Serialize for List {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        self.0.borrow().iter().try_for_each(|item| list.serialize_element(item))?;
        list.end()
    }
}

#[test]
fn case_061_a_record_or_a_list_that_contains_itself_is_refused_as_too_deep() {
    let node = Node::default();
    *node.0.1.borrow_mut() = Some(node.clone());
    // The argument list is the first level.
    refused((0, node.clone()), &format!("args[1]{}: nested deeper than 128 levels", ".next".repeat(127)));
    *node.0.1.borrow_mut() = None;

    let list = List::default();
    let other = List::default();
    list.0.borrow_mut().extend([List::default(), other.clone()]);
    other.0.borrow_mut().extend([list.clone(), list.clone()]);
    let path = "[1][0]".repeat(63);
    refused((list.clone(),), &format!("args[0]{path}[0]: nested deeper than 128 levels"));
    other.0.borrow_mut().clear();
}

#[test]
fn case_061_a_result_that_contains_itself_fails_its_call_alone() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main
        .handle("x", |_, ()| {
            let node = Node::default();
            *node.0.1.borrow_mut() = Some(node.clone());
            Ok(node)
        })
        .unwrap();
    for _ in 0..2 {
        let error = ipc_renderer.invoke::<Value>("x", ()).timeout(PATIENCE).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Handler);
        let text = error.remote_message().unwrap();
        assert!(text.starts_with("the handler's result cannot be sent: value.next.next"), "{text}");
        assert!(text.ends_with(".next: nested deeper than 128 levels"), "{text}");
    }
}

/// So many records, one in another, the innermost of them empty.
fn nested(levels: usize) -> Value {
    (1..levels).fold(json!({}), |inner, _| json!({ "in": inner }))
}

#[test]
fn case_132_what_is_nested_deeper_than_128_levels_is_refused_with_its_path_and_nothing_dropped() {
    refused(("fine", nested(128)), &format!("args[1]{}: nested deeper than 128 levels", ".in".repeat(127)));
    let array = (1..200).fold(json!([]), |inner, _| json!([inner]));
    refused((array,), &format!("args[0]{}: nested deeper than 128 levels", "[0]".repeat(127)));
    // The argument list is the first of them, and what is as deep as may be arrives whole.
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("x", |_, args: Args| Ok(args.get::<Value>(1)?)).unwrap();
    assert_eq!(invoke::<Value>(&ipc_renderer, "x", (0, nested(127), 2)), nested(127));
    arrive_equal(&[json!([nested(100), nested(101)])]);
}

// ---- what has ended ---------------------------------------------------------------------------------------------

#[test]
fn case_058_a_handle_whose_link_or_frame_has_ended_says_so_at_every_way_to_send() {
    let (_ipc_main, ipc_renderer) = pair();
    let frame = ipc_renderer.frame().unwrap();
    let ways = |handle: &IpcRenderer| {
        [
            handle.send("x", ()).unwrap_err(),
            handle.send_timeout("x", (), PATIENCE).unwrap_err(),
            handle.send_sync::<()>("x", ()).unwrap_err(),
            handle.send_to(1, "x", ()).unwrap_err(),
            handle.send_to_frame(1, 1, "x", ()).unwrap_err(),
            handle.send_to_host("x", ()).unwrap_err(),
            handle.invoke::<()>("x", ()).wait().unwrap_err(),
            futures::executor::block_on(handle.invoke::<()>("x", ())).unwrap_err(),
            handle.frame().unwrap_err(),
        ]
    };
    frame.close(PATIENCE).unwrap();
    for error in ways(&frame) {
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Disconnected, "frame 2 was closed".into()));
    }
    ipc_renderer.send("x", ()).unwrap();
    let clone = ipc_renderer.clone();
    drop(ipc_renderer);
    for error in ways(&clone) {
        let text = "main is gone: the link was closed";
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Disconnected, text.into()));
    }
}

#[test]
fn case_058_a_renderer_whose_main_has_closed_its_link_says_so() {
    let ipc_main = support::ipc_main();
    let mut puppet = Puppet::spawn(&ipc_main);
    (*puppet).close(PATIENCE).unwrap();
    // Its end learns that by itself, sooner or later: a call that waits is released by it.
    let failure = puppet.invoke_main(1, "x", json!([])).unwrap_err();
    assert_eq!(failure.kind, "Disconnected");
    for failed in [puppet.send(1, "x", json!([])), puppet.send_sync(1, "x", json!([]))] {
        let failure = failed.unwrap_err();
        assert_eq!(failure.kind, "Disconnected");
        // That it is gone is known before why it is.
        assert!(failure.text.starts_with("main is gone"), "{}", failure.text);
    }
}
