//! `iceoryx2` request-response with slices: loaned, written in place, read in place; polled without a pause as in its own
//! benchmark, or each message announced through its event service for sleeping. Buffers and limits for one client and one
//! server. Everything that has a name carries a prefix of this run and is removed.

use super::{LONGEST, RAW_TAG, Transport, bound};
use crate::Result;
use crate::codec;
use crate::lanes::LARGE;
use crate::measure::{Group, Row, Sides, Visit, patience, poll, spin};
use crate::pair::{Peer, is_stopped};
use crate::stream::{Counter, QUEUE, Seen, Stream, batch_of, message};
use iceoryx2::port::client::Client;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::{event, publish_subscribe, request_response};
use serde_json::Value;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Duration;

type Calls = request_response::PortFactory<ipc::Service, [u8], (), [u8], ()>;
type Events = event::PortFactory<ipc::Service>;

/// What names of this run begin with; `scratch` is the run's own directory.
fn prefix(scratch: &std::path::Path) -> String {
    format!("{}_", scratch.file_name().unwrap_or_default().to_string_lossy())
}

/// Removes what a killed process left in shared memory.
pub(crate) fn clean(scratch: &std::path::Path) {
    let prefix = prefix(scratch);
    for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn node(scratch: &std::path::Path) -> Result<Node<ipc::Service>> {
    set_log_level(LogLevel::Error);
    let mut config = Config::default();
    config.global.prefix = FileName::new(prefix(scratch).as_bytes())?;
    let root = scratch.join("iceoryx2");
    config.global.set_root_path(&Path::new(root.to_string_lossy().as_bytes())?);
    let builder = NodeBuilder::new().config(&config).signal_handling_mode(SignalHandlingMode::Disabled);
    Ok(builder.create::<ipc::Service>()?)
}

fn calls(node: &Node<ipc::Service>) -> Result<Calls> {
    let builder = node.service_builder(&"comparison".try_into()?).request_response::<[u8], [u8]>();
    let builder = builder.max_clients(1).max_servers(1).max_nodes(2).max_response_buffer_size(1);
    Ok(builder.open_or_create()?)
}

fn events(node: &Node<ipc::Service>, name: &str) -> Result<Events> {
    let builder = node.service_builder(&name.try_into()?).event();
    Ok(builder.max_listeners(1).max_notifiers(1).max_nodes(2).event_id_max_value(0).open_or_create()?)
}

/// Loaned memory as bytes to be written.
fn bytes_of(memory: &mut [MaybeUninit<u8>]) -> &mut [u8] {
    // SAFETY: shared memory that the crate has written when it made it; bytes have no invalid values.
    unsafe { &mut *(memory as *mut [MaybeUninit<u8>] as *mut [u8]) }
}

struct Caller {
    client: Client<ipc::Service, [u8], (), [u8], ()>,
    events: Option<(Notifier<ipc::Service>, Listener<ipc::Service>)>,
}

impl Caller {
    /// A request there, and what becomes of the response.
    #[inline]
    fn round<T>(
        &self,
        length: usize,
        write: impl FnOnce(&mut [u8]) -> Result<()>,
        read: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let mut request = self.client.loan_slice_uninit(length)?;
        write(bytes_of(request.payload_mut()))?;
        // SAFETY: see `bytes_of`.
        let pending = unsafe { request.assume_init() }.send()?;
        let response = match &self.events {
            None => poll(|| Ok(pending.receive()?))?,
            Some((notifier, listener)) => {
                notifier.notify()?;
                let mut since = None;
                loop {
                    if let Some(response) = pending.receive()? {
                        break response;
                    }
                    // None: too long, or a wake-up whose event was collected by an earlier one.
                    if listener.timed_wait(|_| {}, Duration::from_secs(5))? == 0 {
                        patience(&mut since)?;
                    }
                }
            }
        };
        read(response.payload())
    }
}

impl Transport for Caller {
    fn raw(&mut self, message: &[u8], answer: &mut Vec<u8>) -> Result<()> {
        let write = |memory: &mut [u8]| {
            memory.copy_from_slice(message);
            Ok(())
        };
        self.round(message.len(), write, |bytes| {
            answer.clear();
            answer.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn call(&mut self, value: &Value) -> Result<Value> {
        // A loan cannot be shortened; MessagePack knows where it ends.
        let write = |mut memory: &mut [u8]| codec::encode_args(value, &mut memory);
        self.round(bound(value), write, codec::decode_result)
    }
}

pub(crate) fn peer(peer: &Peer, how: &str) -> Result<()> {
    let node = node(&peer.scratch)?;
    if let Some((what, how)) = how.split_once(' ') {
        let (bytes, path) = how.split_once(' ').ok_or("no word to count in")?;
        return take(peer, &node, bytes.parse()?, path, what == "copy");
    }
    let sleeps = how == "event";
    let longest = if how == "large" { LARGE } else { LONGEST };
    let server = calls(&node)?.server_builder().initial_max_slice_len(longest).create()?;
    let (to_server, to_client) = (events(&node, "to server")?, events(&node, "to client")?);
    let listener = sleeps.then(|| to_server.listener_builder().create()).transpose()?;
    let notifier = sleeps.then(|| to_client.notifier_builder().create()).transpose()?;
    peer.ready("")?;
    while !is_stopped() {
        let Some(request) = server.receive()? else {
            if let Some(listener) = &listener {
                listener.timed_wait(|_| {}, Duration::from_millis(100))?;
            }
            continue;
        };
        if request.payload()[0] == RAW_TAG {
            let response = request.loan_slice_uninit(request.payload().len())?;
            response.write_from_slice(request.payload()).send()?;
        } else {
            let value: Value = codec::decode_args(request.payload())?;
            let mut response = request.loan_slice_uninit(bound(&value))?;
            codec::encode_result(&value, &mut bytes_of(response.payload_mut()))?;
            // SAFETY: see `bytes_of`.
            unsafe { response.assume_init() }.send()?;
        }
        if let Some(notifier) = &notifier {
            notifier.notify()?;
        }
    }
    Ok(())
}

type Samples = publish_subscribe::PortFactory<ipc::Service, [u8], ()>;

/// One publisher that waits for its one subscriber.
fn samples(node: &Node<ipc::Service>, bytes: usize) -> Result<Samples> {
    let builder = node.service_builder(&"one way".try_into()?).publish_subscribe::<[u8]>();
    let builder = builder.max_publishers(1).max_subscribers(1).max_nodes(2).history_size(0);
    Ok(builder.enable_safe_overflow(false).subscriber_max_buffer_size((QUEUE / bytes).max(2)).open_or_create()?)
}

/// Takes what is published, copied or looked at where it lies.
fn take(peer: &Peer, node: &Node<ipc::Service>, bytes: usize, path: &str, copies: bool) -> Result<()> {
    let counter = Counter::open(path)?;
    let subscriber = samples(node, bytes)?.subscriber_builder().create()?;
    peer.ready("")?;
    let mut copy = vec![0; bytes];
    while !is_stopped() {
        let Some(sample) = subscriber.receive()? else { continue };
        if copies {
            copy.copy_from_slice(sample.payload());
            counter.take(&copy);
        } else {
            black_box((sample.payload().first(), sample.payload().last().copied()));
            drop(sample);
            counter.count();
        }
    }
    Ok(())
}

fn publisher(node: &Node<ipc::Service>, bytes: usize) -> Result<Publisher<ipc::Service, [u8], ()>> {
    let samples = samples(node, bytes)?;
    let builder = samples.publisher_builder().initial_max_slice_len(bytes);
    Ok(builder.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create()?)
}

fn one_way(visit: &mut Visit<'_>, bytes: usize) -> Result<()> {
    let seen = Seen::new()?;
    let _pair = visit.spawn(&format!("iceoryx2 copy {bytes} {}", seen.path()))?;
    let node = node(visit.scratch)?;
    let publisher = publisher(&node, bytes)?;
    let [one, last] = [false, true].map(|is_last| message(bytes, is_last));
    let stream = Stream::new(
        1,
        || seen.count(),
        |_, is_last| {
            let sample = publisher.loan_slice_uninit(bytes)?;
            sample.write_from_slice(black_box(if is_last { &last } else { &one })).send()?;
            Ok(())
        },
    );
    visit.rate(Row { name: "iceoryx2", group: Group::RawOneWay, bytes }, batch_of(bytes), stream)
}

/// Loaned, not filled, read where it lies; the next one when the peer has said so.
fn in_place(visit: &mut Visit<'_>, bytes: usize) -> Result<()> {
    let seen = Seen::new()?;
    let _pair = visit.spawn(&format!("iceoryx2 look {bytes} {}", seen.path()))?;
    let node = node(visit.scratch)?;
    let publisher = publisher(&node, bytes)?;
    let mut sent = 0;
    visit.row(Row { name: "iceoryx2", group: Group::InPlace, bytes }, || {
        let sample = publisher.loan_slice_uninit(bytes)?;
        // SAFETY: see `bytes_of`.
        unsafe { sample.assume_init() }.send()?;
        sent += 1;
        spin(|| Ok((seen.count() == sent).then_some(())))
    })
}

pub(crate) fn spinning(visit: &mut Visit<'_>) -> Result<()> {
    {
        let _pair = visit.spawn("iceoryx2 spin")?;
        let node = node(visit.scratch)?;
        let client = calls(&node)?.client_builder().initial_max_slice_len(LONGEST).create()?;
        super::spinning(visit, "iceoryx2", &mut Caller { client, events: None })?;
    }
    {
        let _pair = visit.spawn("iceoryx2 large")?;
        let node = node(visit.scratch)?;
        let client = calls(&node)?.client_builder().initial_max_slice_len(LARGE).create()?;
        super::large(visit, "iceoryx2", &mut Caller { client, events: None })?;
    }
    for bytes in [64, 4096, LARGE] {
        one_way(visit, bytes)?;
    }
    in_place(visit, 64)?;
    in_place(visit, LARGE)
}

pub(crate) fn with_event(visit: &mut Visit<'_>) -> Result<()> {
    let pair = visit.spawn("iceoryx2 event")?;
    let node = node(visit.scratch)?;
    let client = calls(&node)?.client_builder().initial_max_slice_len(LONGEST).create()?;
    let (to_server, to_client) = (events(&node, "to server")?, events(&node, "to client")?);
    let events = Some((to_server.notifier_builder().create()?, to_client.listener_builder().create()?));
    let mut sides = Sides::of(&pair, None)?;
    super::sleeping(visit, "iceoryx2 + event", &mut sides, &mut Caller { client, events })
}
