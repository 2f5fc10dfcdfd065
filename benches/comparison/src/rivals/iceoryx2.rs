//! `iceoryx2` request-response with slices: loaned, written in place, read in place; polled without a pause as in its own
//! benchmark, or each message announced through its event service for sleeping. Buffers and limits for one client and one
//! server. Everything that has a name carries a prefix of this run and is removed.

use super::{LONGEST, RAW_TAG, Transport, bound};
use crate::Result;
use crate::codec;
use crate::measure::{Sides, Visit, patience, poll};
use crate::pair::{Peer, is_stopped};
use iceoryx2::port::client::Client;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::{event, request_response};
use serde_json::Value;
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

pub(crate) fn peer(peer: &Peer, sleeps: bool) -> Result<()> {
    let node = node(&peer.scratch)?;
    let server = calls(&node)?.server_builder().initial_max_slice_len(LONGEST).create()?;
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

pub(crate) fn spinning(visit: &mut Visit<'_>) -> Result<()> {
    let _pair = visit.spawn("iceoryx2 spin")?;
    let node = node(visit.scratch)?;
    let client = calls(&node)?.client_builder().initial_max_slice_len(LONGEST).create()?;
    super::spinning(visit, "iceoryx2", &mut Caller { client, events: None })
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
