//! Messages between renderers, which main hands on: `send_to` and `send_to_host`.

use super::link::{NORMAL, too_large};
use super::{Engine, Link};
use crate::dispatch::MAIN_FRAME;
use crate::error::{Error, ErrorKind, Result};
use crate::pipe::SendMode;
use crate::sync::{Arc, Ordering};
use crate::wire::{self, Envelope, Kind};

/// A message on its way from one renderer to another.
pub(crate) struct Hop<'a> {
    pub(crate) from: &'a Arc<Link>,
    pub(crate) from_frame: u32,
    pub(crate) to: &'a Arc<Link>,
    pub(crate) channel: &'a str,
    pub(crate) to_host: bool,
}

/// Decides whether a message may pass; runs on the dispatcher.
pub(crate) type RoutePolicy = Arc<dyn Fn(&Hop<'_>) -> bool + Send + Sync>;

impl Link {
    /// The renderer that embeds this one.
    pub(crate) fn host(&self) -> Option<Arc<Link>> {
        self.host.lock().as_ref()?.upgrade()
    }

    pub(crate) fn set_host(&self, host: Option<&Arc<Link>>) {
        *self.host.lock() = host.map(Arc::downgrade);
    }

    /// A message that has nobody to go to: dropped, as in Electron, but counted and shown.
    #[cold]
    pub(crate) fn undeliverable(&self, channel: &str, error: Error) {
        self.counters.undeliverable.fetch_add(1, Ordering::Relaxed);
        // Not here: a listener that replies may hold a lock of its own, which the hook wants.
        self.engine.report_later(Some(self.id), Some(channel), error);
    }
}

fn undeliverable(text: String) -> Error {
    Error::new(ErrorKind::Undeliverable, text)
}

impl Engine {
    /// Hands a message of `from` on to a frame of renderer `to`. An error is the sender's violation.
    pub(super) fn forward(
        &self,
        from: &Arc<Link>,
        envelope: &Envelope<'_>,
        payload: &[u8],
        to: u32,
        frame: u32,
    ) -> Result<(), wire::Violation> {
        let channel = envelope.channel;
        // Not decoded here, so all of it is checked: the target must not blame us for it.
        wire::check_args(payload, &self.wire_limits, true)?;
        let sent = match self.link(to) {
            Some(link) => self.hand_on(from, envelope, payload, &link, frame),
            None => {
                Err(undeliverable(format!("renderer {} sent a message to renderer {to}, which is not there", from.id)))
            }
        };
        sent.unwrap_or_else(|error| from.undeliverable(channel, error));
        Ok(())
    }

    /// Hands a message of `from` on to its host.
    pub(super) fn forward_to_host(
        &self,
        from: &Arc<Link>,
        envelope: &Envelope<'_>,
        payload: &[u8],
    ) -> Result<(), wire::Violation> {
        wire::check_args(payload, &self.wire_limits, true)?;
        let sent = match from.host() {
            Some(host) => self.hand_on(from, envelope, payload, &host, MAIN_FRAME),
            None => Err(undeliverable(format!("renderer {} sent a message to its host, but has none", from.id))),
        };
        sent.unwrap_or_else(|error| from.undeliverable(envelope.channel, error));
        Ok(())
    }

    fn hand_on(
        &self,
        from: &Arc<Link>,
        envelope: &Envelope<'_>,
        payload: &[u8],
        to: &Arc<Link>,
        frame: u32,
    ) -> Result<()> {
        let (channel, to_host) = (envelope.channel, envelope.kind == Kind::SendToHost);
        let (sender, target) = (from.id, to.id);
        let policy = self.policies.lock().route.clone();
        if let Some(policy) = policy {
            let hop = Hop { from, from_frame: envelope.frame, to, channel, to_host };
            let passes = super::contain("the route policy", || policy(&hop), self).unwrap_or(false);
            if !passes {
                return Err(undeliverable(format!(
                    "renderer {sender} may not send to renderer {target}: the route policy refuses it"
                )));
            }
        }
        if !to.is_frame_open(frame) {
            let what = if to.is_lost() { format!("renderer {target}") } else { format!("frame {frame} of it") };
            return Err(undeliverable(format!(
                "renderer {sender} sent a message to renderer {target}: {what} is gone"
            )));
        }
        let agreed = to.agreed_limits();
        let limits = agreed.unwrap_or(self.wire_limits);
        wire::check_channel(channel, &limits).map_err(super::link::invalid_value)?;
        if limits.is_lower(&self.wire_limits) {
            wire::check_args(payload, &limits.lower(&self.wire_limits), false).map_err(|violation| {
                undeliverable(format!("renderer {target} does not take what renderer {sender} sent it: {violation}"))
            })?;
        }
        let kind = if to_host { Kind::FromGuest } else { Kind::Routed };
        let handed =
            Envelope { kind, caller_awake: false, frame, call: 0, channel, peer: sender, peer_frame: envelope.frame };
        let mut message = Vec::with_capacity(wire::HEADER_LEN + channel.len() + payload.len());
        wire::begin(&handed, &mut message);
        message.extend_from_slice(payload);
        if message.len() > limits.max_message_size {
            return Err(too_large(message.len(), limits.max_message_size));
        }
        let sent = to.push_within(agreed.is_some(), &mut message, SendMode { routed: true, ..NORMAL });
        sent.map_err(|error| match error.kind() {
            // It has gone since we looked, or is found here to break the protocol, which ends its own link.
            ErrorKind::Disconnected | ErrorKind::Protocol => {
                undeliverable(format!("renderer {sender} sent a message to renderer {target}: {error}"))
            }
            _ => error,
        })
    }
}
