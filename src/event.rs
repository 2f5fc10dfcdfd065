//! What listeners and handlers are given.

use crate::driver::{Delivery, Link, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;
use crate::web_contents::WebContents;
use crate::wire::IntoArgs;
use serde::Serialize;

/// Given to main's listeners. A cheap clone that may be kept and sent to other threads; a synchronous message is
/// unanswered until the last clone is dropped, then its caller gets [`ErrorKind::ReplyNeverSent`].
#[derive(Clone)]
pub struct IpcMainEvent {
    link: Arc<Link>,
    frame: u32,
    request: Option<Arc<Request>>,
}

impl IpcMainEvent {
    pub(crate) fn new(delivery: &Delivery<'_>) -> Self {
        Self { link: delivery.link.clone(), frame: delivery.frame, request: delivery.request.cloned() }
    }

    /// The renderer that sent the message.
    pub fn sender(&self) -> WebContents {
        WebContents::new(self.link.clone())
    }

    /// The frame of the renderer that sent the message; 1 is its main frame.
    pub fn frame_id(&self) -> u32 {
        self.frame
    }

    /// The process id of the renderer; 0 where it is not visible from here.
    pub fn process_id(&self) -> u32 {
        self.link.pid()
    }

    /// Sends to the frame that sent the message. As [`WebContents::send`], but a frame or renderer that is gone is no
    /// error to a listener that answers late: the message is dropped, as in Electron.
    ///
    /// # Errors
    ///
    /// As [`WebContents::send`], [`ErrorKind::Disconnected`] excepted.
    pub fn reply<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        match self.link.send(self.frame, channel, &args) {
            Err(error) if error.kind() == ErrorKind::Disconnected => Ok(()),
            result => result,
        }
    }

    /// Answers a synchronous message; the first answer counts, later ones are ignored. May come from any thread, also
    /// after the listener has returned. Never blocks.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidValue`] and [`ErrorKind::TooLarge`] for a value that cannot travel; the caller still waits
    /// then. A message that was sent by `send` has nobody to answer: nothing happens.
    pub fn set_return_value<T: Serialize>(&self, value: T) -> Result<()> {
        match &self.request {
            Some(request) => answered(request.answer(&value)),
            None => Ok(()),
        }
    }

    /// Whether somebody waits for [`set_return_value`](Self::set_return_value).
    pub fn is_synchronous(&self) -> bool {
        self.request.is_some()
    }
}

/// A caller that is gone does not mind.
fn answered(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::Disconnected => Ok(()),
        result => result,
    }
}

impl std::fmt::Debug for IpcMainEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcMainEvent")
            .field("sender", &self.link.id)
            .field("frame_id", &self.frame)
            .field("is_synchronous", &self.is_synchronous())
            .finish()
    }
}

/// Given to main's handlers. A cheap clone that may be kept and sent to other threads.
#[derive(Clone)]
pub struct IpcMainInvokeEvent {
    request: Arc<Request>,
}

impl IpcMainInvokeEvent {
    pub(crate) fn new(request: &Arc<Request>) -> Self {
        Self { request: request.clone() }
    }

    /// The renderer that called.
    pub fn sender(&self) -> WebContents {
        WebContents::new(self.request.link.clone())
    }

    /// The frame of the renderer that called; 1 is its main frame.
    pub fn frame_id(&self) -> u32 {
        self.request.frame
    }

    /// The process id of the renderer; 0 where it is not visible from here.
    pub fn process_id(&self) -> u32 {
        self.request.link.pid()
    }

    /// Whether the caller does not want the answer any more: it dropped the call, its time was over, or it is gone.
    /// May become true at any time, never false again.
    pub fn is_cancelled(&self) -> bool {
        self.request.is_cancelled()
    }
}

impl std::fmt::Debug for IpcMainInvokeEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcMainInvokeEvent")
            .field("sender", &self.request.link.id)
            .field("frame_id", &self.request.frame)
            .field("is_cancelled", &self.is_cancelled())
            .finish()
    }
}

/// Given to a renderer's listeners. A cheap clone that may be kept and sent to other threads.
#[derive(Clone)]
pub struct IpcRendererEvent {
    link: Arc<Link>,
    sender: u32,
}

impl IpcRendererEvent {
    pub(crate) fn new(delivery: &Delivery<'_>) -> Self {
        Self { link: delivery.link.clone(), sender: delivery.sender }
    }

    /// The id of the renderer that sent the message; 0 from main.
    pub fn sender_id(&self) -> u32 {
        self.sender
    }

    /// Sends to whoever sent the message.
    ///
    /// # Errors
    ///
    /// As [`IpcRenderer::send`](crate::IpcRenderer::send), [`ErrorKind::Disconnected`] excepted: a sender that is gone
    /// does not mind.
    pub fn reply<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        if self.sender != 0 {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("renderer {} cannot be answered: messages between renderers are not known yet", self.sender),
            ));
        }
        match self.link.send(crate::driver::MAIN_FRAME, channel, &args) {
            Err(error) if error.kind() == ErrorKind::Disconnected => Ok(()),
            result => result,
        }
    }
}

impl std::fmt::Debug for IpcRendererEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcRendererEvent").field("sender_id", &self.sender).finish()
    }
}
