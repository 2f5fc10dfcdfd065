//! What both kinds of handles do to run callbacks by hand.

use super::shared::Shared;
use super::{ringmain_main, ringmain_renderer};
use crate::config::{Budget, Polled};
use crate::error::Result;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

pub(super) trait Dispatched {
    fn shared(&self) -> &Shared;
    fn poll(&self, budget: Budget) -> Result<Polled>;
    fn wait(&self, timeout: Option<Duration>) -> Result<bool>;
    fn as_fd(&self) -> Result<BorrowedFd<'_>>;
    fn next_deadline(&self) -> Option<Instant>;
    fn ring_descriptor(&self);
}

macro_rules! dispatched {
    ($handle:ty) => {
        impl Dispatched for $handle {
            fn shared(&self) -> &Shared {
                &self.shared
            }

            fn poll(&self, budget: Budget) -> Result<Polled> {
                self.ipc.poll(budget)
            }

            fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
                self.ipc.wait(timeout)
            }

            fn as_fd(&self) -> Result<BorrowedFd<'_>> {
                self.ipc.as_fd()
            }

            fn next_deadline(&self) -> Option<Instant> {
                self.ipc.next_deadline()
            }

            fn ring_descriptor(&self) {
                self.ipc.engine().ring_descriptor();
            }
        }
    };
}

dispatched!(ringmain_main);
dispatched!(ringmain_renderer);
