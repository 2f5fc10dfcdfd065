//! A link's socket, whose close never holds anybody up.
//!
//! Whoever is at the other end may have sent descriptors by it. The kernel drops those with what they came with, and to drop
//! the last copy of one can take as long as its owner has chosen: a TCP socket that lingers. From Linux 6.16 on such
//! descriptors are refused at the sender ([`sys::refuse_descriptors`]). For before, nothing that descriptors came with is
//! taken out of a socket, and a socket in which something lies is closed by a thread of its own.

use crate::sync::{Arc, Mutex};
use crate::sys;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Threads that close at a time: so many sockets can take their time before others wait for them.
const CLOSERS: usize = 8;

/// Sockets that may wait to be closed before nobody else is accepted.
pub(super) const MOST_UNCLOSED: usize = 64;

#[derive(Default)]
struct Unclosed {
    sockets: VecDeque<OwnedFd>,
    closers: usize,
}

/// Closes sockets whose close may take its time.
#[derive(Default)]
pub(crate) struct Closer(Mutex<Unclosed>);

impl Closer {
    /// Sockets that wait for a thread to close them.
    pub(super) fn waiting(&self) -> usize {
        self.0.lock().sockets.len()
    }

    fn close(self: &Arc<Self>, socket: OwnedFd) {
        let mut unclosed = self.0.lock();
        unclosed.sockets.push_back(socket);
        if unclosed.closers == CLOSERS {
            return;
        }
        unclosed.closers += 1;
        drop(unclosed);
        let closer = self.clone();
        if sys::spawn_thread("ringmain-close", move || while closer.close_next() {}).is_err() {
            // None to be had: it stays until the next one is closed.
            self.0.lock().closers -= 1;
        }
    }

    /// False: nothing is left for this thread.
    fn close_next(&self) -> bool {
        let mut unclosed = self.0.lock();
        let next = unclosed.sockets.pop_front();
        unclosed.closers -= usize::from(next.is_none());
        drop(unclosed);
        next.is_some() // closed here, with nothing held
    }
}

/// One end of a link's socket.
pub(crate) struct PeerSocket {
    /// There until the drop.
    socket: Option<OwnedFd>,
    closer: Arc<Closer>,
    owner: u32,
}

impl PeerSocket {
    pub(super) fn new(socket: OwnedFd, closer: &Arc<Closer>) -> Self {
        Self { socket: Some(socket), closer: closer.clone(), owner: std::process::id() }
    }
}

impl AsFd for PeerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("taken by the drop alone").as_fd()
    }
}

impl Drop for PeerSocket {
    fn drop(&mut self) {
        // A forked copy has a descriptor of the same socket, which is not to be shut.
        let Some(socket) = self.socket.take().filter(|_| self.owner == std::process::id()) else { return };
        // Nothing comes behind what lies there now.
        sys::shut_socket(&socket);
        if sys::has_unread(&socket) {
            self.closer.close(socket);
        }
    }
}
