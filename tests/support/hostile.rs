//! A renderer that speaks PROTOCOL.md by hand, and so can break each of its rules. Written from that text alone: nothing of
//! the crate is used.
use crate::support::PATIENCE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::thread::futex;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

pub(crate) const MAGIC: &[u8; 8] = b"RINGMAIN";
pub(crate) const WELCOME: u8 = 1;
pub(crate) const HELLO: u8 = 2;

// Kinds of records.
pub(crate) const WHOLE: u8 = 1;
pub(crate) const FIRST: u8 = 2;
pub(crate) const MORE: u8 = 3;
pub(crate) const PADDING: u8 = 4;

// Kinds of messages.
pub(crate) const SEND: u8 = 1;
pub(crate) const INVOKE: u8 = 2;
pub(crate) const SEND_SYNC: u8 = 3;
pub(crate) const REPLY: u8 = 4;
pub(crate) const REPLY_ERROR: u8 = 5;
pub(crate) const CANCEL: u8 = 6;
pub(crate) const CLOSE: u8 = 7;
pub(crate) const SEND_TO: u8 = 8;
pub(crate) const ROUTED: u8 = 9;
pub(crate) const SEND_TO_HOST: u8 = 10;
pub(crate) const FROM_GUEST: u8 = 11;
pub(crate) const OPEN_FRAME: u8 = 12;
pub(crate) const CLOSE_FRAME: u8 = 13;

// Words of a direction's control block.
pub(crate) const HEAD: usize = 0;
pub(crate) const SLEEPER: usize = 128;
pub(crate) const WANTS_ROOM: usize = 256;
pub(crate) const DISPATCHER: usize = 384;
pub(crate) const CALLER: usize = 512;
const BLOCK: usize = 640;

// What a sleeper word says.
pub(crate) const IS_DISPATCHER: u32 = 1;
pub(crate) const IS_CALLER: u32 = 2;
const BY_EVENTFD: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToRenderer,
    ToMain,
}

// ---- handshake ----------------------------------------------------------------------------------------------------

/// A datagram of the handshake around these fields.
pub(crate) fn datagram(message: u8, major: u16, minor: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &[message], &major.to_le_bytes(), &minor.to_le_bytes(), &[0; 4], body].concat();
    let len = (bytes.len() as u32).to_le_bytes();
    bytes[13..17].copy_from_slice(&len);
    bytes
}

pub(crate) fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_le_bytes()[..], text].concat()
}

/// The fields of a Hello, all of them legal by default.
#[derive(Clone)]
pub(crate) struct Hello {
    pub(crate) accepted: u8,
    pub(crate) reserved: [u8; 2],
    pub(crate) pid: u32,
    pub(crate) max_message: u64,
    /// Pending calls, depth, values, text.
    pub(crate) limits: [u32; 4],
    pub(crate) can_ring: u32,
    pub(crate) sleeps_on: u8,
    pub(crate) refusal: Vec<u8>,
    pub(crate) app: [Vec<u8>; 2],
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            accepted: 1,
            reserved: [0; 2],
            pid: std::process::id(),
            max_message: 64 << 20,
            limits: [65_536, 128, 1_000_000, 65_536],
            can_ring: 3,
            sleeps_on: 1,
            refusal: Vec::new(),
            app: [b"hostile".to_vec(), b"1".to_vec()],
        }
    }
}

impl Hello {
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut out = vec![self.accepted, self.reserved[0]];
        out.extend(self.pid.to_le_bytes());
        out.extend(self.max_message.to_le_bytes());
        out.extend(self.limits.iter().flat_map(|limit| limit.to_le_bytes()));
        out.extend(self.can_ring.to_le_bytes());
        out.extend([self.sleeps_on, self.reserved[1]]);
        out.extend(text(&self.refusal));
        out.extend(self.app.iter().flat_map(|part| text(part)));
        out
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        datagram(HELLO, 1, 0, &self.body())
    }
}

/// What a Welcome says.
#[derive(Clone, Debug)]
pub(crate) struct Welcome {
    pub(crate) bytes: Vec<u8>,
    pub(crate) id: u32,
    pub(crate) region: u64,
    /// Offset in bytes and number of words.
    pub(crate) to_renderer: (u64, u64),
    pub(crate) to_main: (u64, u64),
    pub(crate) control: u64,
    pub(crate) name: String,
}

impl Welcome {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
            let (taken, left) = rest.split_first_chunk().expect("a whole Welcome");
            *rest = left;
            *taken
        }
        let mut rest = bytes;
        assert_eq!(&take::<8>(&mut rest), MAGIC);
        assert_eq!(take::<5>(&mut rest), [WELCOME, 1, 0, 0, 0]);
        assert_eq!(u32::from_le_bytes(take(&mut rest)) as usize, bytes.len());
        let id = u32::from_le_bytes(take(&mut rest));
        let _pid = take::<4>(&mut rest);
        // Backing, reserved, descriptors.
        let _skipped = take::<4>(&mut rest);
        let mut u64 = || u64::from_le_bytes(take(&mut rest));
        let (region, to_renderer, to_main, control) = (u64(), (u64(), u64()), (u64(), u64()), u64());
        // Limits, queue limit, doorbells, publish discipline, lanes.
        let _skipped = take::<{ 24 + 8 + 5 + 3 + 4 }>(&mut rest);
        let len = u16::from_le_bytes(take(&mut rest)).into();
        let name = String::from_utf8(rest[..len].to_vec()).expect("a name");
        Self { bytes: bytes.to_vec(), id, region, to_renderer, to_main, control, name }
    }
}

/// A socket on which nothing was said yet.
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
}

impl Connection {
    /// To a main that listens at `path`.
    pub(crate) fn to(path: &Path) -> Self {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).expect("a main that listens");
        Self { socket }
    }

    /// To the main that has spawned this process.
    pub(crate) fn inherited() -> Self {
        let number = crate::support::env("RINGMAIN_FD").parse().expect("a number");
        // SAFETY: main has left this descriptor to this process, and nothing else here knows of it.
        #[allow(unsafe_code)]
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        Self { socket }
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL)
    }

    pub(crate) fn send_with(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
        send_with(&self.socket, bytes, fds)
    }

    /// What main says, and the descriptors that come along.
    pub(crate) fn welcome(&self) -> (Welcome, Vec<OwnedFd>) {
        let (bytes, fds) = receive(&self.socket).expect("a Welcome");
        (Welcome::parse(&bytes), fds)
    }

    /// What main says first, if it does not hang up.
    pub(crate) fn answer(&self) -> Option<Vec<u8>> {
        receive(&self.socket).map(|(bytes, _fds)| bytes)
    }

    /// Whether main has hung up.
    pub(crate) fn is_cut(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll") > 0
    }

    /// Waits until main has hung up.
    pub(crate) fn until_cut(&self) {
        let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let timeout = Timespec::try_from(PATIENCE).expect("a time");
        assert_eq!(poll(&mut fds, Some(&timeout)).expect("poll"), 1, "main has not hung up within {PATIENCE:?}");
    }
}

pub(crate) fn send_with(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
}

/// The next datagram; none: hung up.
pub(crate) fn receive(socket: &OwnedFd) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    let timeout = Timespec::try_from(PATIENCE).expect("a time");
    assert_eq!(poll(&mut fds, Some(&timeout)).expect("poll"), 1, "nothing came within {PATIENCE:?}");
    let mut bytes = vec![0; 5000];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    bytes.truncate(received.bytes);
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = fds.flatten().collect();
    (!bytes.is_empty()).then_some((bytes, fds))
}

// ---- region -------------------------------------------------------------------------------------------------------

/// A mapping of the region.
pub(crate) struct Memory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: reached through atomics alone, and it lives as long as this does.
#[allow(unsafe_code)]
unsafe impl Send for Memory {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn map(fd: impl AsFd, len: usize) -> Self {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at a place that the kernel chooses.
        #[allow(unsafe_code)]
        let base = unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0) }.expect("a mapping");
        Self { base: NonNull::new(base.cast()).expect("not at 0"), len }
    }

    pub(crate) fn word64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len);
        // SAFETY: aligned and inside by the assertion; zeroed memory is a word; it lives as long as `self`.
        #[allow(unsafe_code)]
        unsafe {
            self.base.add(offset).cast().as_ref()
        }
    }

    pub(crate) fn word32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len);
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            self.base.add(offset).cast().as_ref()
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and no reference into it outlives `self`.
        #[allow(unsafe_code)]
        unsafe {
            let _ = munmap(self.base.as_ptr().cast(), self.len);
        }
    }
}

// ---- a link -------------------------------------------------------------------------------------------------------

/// A link whose handshake was in order. What it does afterwards is up to the test.
pub(crate) struct Hostile {
    pub(crate) connection: Connection,
    pub(crate) welcome: Welcome,
    pub(crate) memory: Arc<Memory>,
    /// The region's descriptor, in the sealed backing.
    pub(crate) region: Option<OwnedFd>,
    /// Main's eventfd.
    pub(crate) doorbell: OwnedFd,
    /// Position of the next record that is written, and of the next one that is read.
    pub(crate) written: u64,
    pub(crate) read: u64,
    /// Reads and throws away while it waits for room, so that main does not wait for it in turn.
    pub(crate) drains: bool,
    /// Sends no more, after a moment, where it finds no room, instead of failing the test.
    pub(crate) gives_up: bool,
    calls: u64,
    assembly: Vec<u8>,
    whole: usize,
}

impl Hostile {
    /// A renderer in good standing, of a main that listens at `path`.
    pub(crate) fn connect(path: &Path) -> Self {
        Self::over(Connection::to(path), &Hello::default().encode())
    }

    pub(crate) fn over(connection: Connection, hello: &[u8]) -> Self {
        let (welcome, fds) = connection.welcome();
        let link = Self::map(connection, welcome, fds);
        link.connection.send(hello).expect("a Hello that is sent");
        link
    }

    /// Maps what came with the Welcome; the Hello is yet to be sent.
    pub(crate) fn map(connection: Connection, welcome: Welcome, fds: Vec<OwnedFd>) -> Self {
        let len = welcome.region as usize;
        let mut fds = fds.into_iter();
        let (memory, region) = match welcome.name.as_str() {
            "" => {
                let region = fds.next().expect("the region");
                (Memory::map(&region, len), Some(region))
            }
            name => {
                let flags = rustix::shm::OFlags::RDWR;
                let region = rustix::shm::open(name, flags, rustix::fs::Mode::empty()).expect("the named region");
                (Memory::map(&region, len), None)
            }
        };
        let doorbell = fds.next().expect("main's doorbell");
        Self {
            connection,
            welcome,
            memory: Arc::new(memory),
            region,
            doorbell,
            written: 0,
            read: 0,
            drains: false,
            gives_up: false,
            calls: 0,
            assembly: Vec::new(),
            whole: 0,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.welcome.id
    }

    fn place(&self, way: Way) -> (usize, u64) {
        let (offset, words) = match way {
            Way::ToRenderer => self.welcome.to_renderer,
            Way::ToMain => self.welcome.to_main,
        };
        (offset as usize, words)
    }

    /// Words of the ring.
    pub(crate) fn words(&self, way: Way) -> u64 {
        self.place(way).1
    }

    /// The ring's word at a position.
    pub(crate) fn slot(&self, way: Way, position: u64) -> &AtomicU64 {
        let (offset, words) = self.place(way);
        self.memory.word64(offset + (position % words) as usize * 8)
    }

    fn control_offset(&self, way: Way, word: usize) -> usize {
        self.welcome.control as usize + if way == Way::ToMain { BLOCK } else { 0 } + word
    }

    pub(crate) fn head(&self, way: Way) -> &AtomicU64 {
        self.memory.word64(self.control_offset(way, HEAD))
    }

    /// A 32-bit control word.
    pub(crate) fn control(&self, way: Way, word: usize) -> &AtomicU32 {
        self.memory.word32(self.control_offset(way, word))
    }

    // ---- writing ----

    /// Writes bytes into the ring's words from a position on, filled up with zeros.
    pub(crate) fn write_at(&self, position: u64, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.slot(Way::ToMain, position + index as u64).store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
    }

    /// Publishes any word as the next record's, and these bytes behind it.
    pub(crate) fn put_raw(&mut self, word: u64, bytes: &[u8]) {
        let next = self.written + 1 + bytes.len().div_ceil(8) as u64;
        self.write_at(self.written + 1, bytes);
        self.slot(Way::ToMain, next).store(0, Ordering::Relaxed);
        self.slot(Way::ToMain, self.written).store(word, Ordering::Release);
        self.written = next;
    }

    /// Whether there is room for so many words.
    fn has_room(&self, words: u64) -> bool {
        let head = self.head(Way::ToMain).load(Ordering::Acquire);
        // A test may have put anything there: then main is as fast as it has to be.
        let head = if head <= self.written { head } else { self.written };
        self.written + words - head <= self.words(Way::ToMain)
    }

    /// Publishes a record by the rules if there is room, with padding where it is needed.
    pub(crate) fn try_put(&mut self, kind: u8, bytes: &[u8]) -> bool {
        let words = 1 + bytes.len().div_ceil(8) as u64;
        let to_end = self.words(Way::ToMain) - self.written % self.words(Way::ToMain);
        let padding = if words > to_end { to_end } else { 0 };
        if !self.has_room(padding + words + 1) {
            return false;
        }
        let (before, word) = (self.written, u64::from(kind) << 56 | bytes.len() as u64);
        if padding == 0 {
            self.put_raw(word, bytes);
        } else {
            // The padding's word publishes both.
            self.written += padding;
            self.put_raw(word, bytes);
            let padding = (u64::from(PADDING) << 56) | ((padding - 1) * 8);
            self.slot(Way::ToMain, before).store(padding, Ordering::Release);
        }
        true
    }

    /// Publishes a record by the rules once there is room; false: the link was cut meanwhile.
    pub(crate) fn put(&mut self, kind: u8, bytes: &[u8]) -> bool {
        let patience = if self.gives_up { Duration::from_millis(20) } else { PATIENCE };
        let end = Instant::now() + patience;
        while !self.try_put(kind, bytes) {
            let is_over = Instant::now() > end;
            if self.connection.is_cut() || (self.gives_up && is_over) {
                return false;
            }
            if self.drains {
                self.try_receive();
            }
            assert!(!is_over, "main made no room within {PATIENCE:?}");
            self.ring_if_asleep();
            std::thread::yield_now();
        }
        true
    }

    /// The longest record that is not too long for a chunk.
    pub(crate) fn chunk(&self) -> usize {
        (self.words(Way::ToMain) / 4 - 1) as usize * 8
    }

    /// Sends a message by the rules and rings; false: the link was cut.
    pub(crate) fn send(&mut self, message: &[u8]) -> bool {
        let chunk = self.chunk();
        if message.len() <= chunk {
            let sent = self.put(WHOLE, message);
            self.ring_if_asleep();
            return sent;
        }
        let (first, rest) = message.split_at(chunk - 8);
        let first = [&(message.len() as u64).to_le_bytes()[..], first].concat();
        let mut sent = self.put(FIRST, &first);
        for part in rest.chunks(chunk) {
            self.ring_if_asleep();
            sent = sent && self.put(MORE, part);
        }
        self.ring_if_asleep();
        sent
    }

    /// Takes main's announcement away and rings whom it names. Whether there was one.
    pub(crate) fn ring_if_asleep(&self) -> bool {
        fence(Ordering::SeqCst);
        let sleeper = self.control(Way::ToMain, SLEEPER);
        let is_asleep = sleeper.load(Ordering::Relaxed) != 0;
        if is_asleep {
            let who = sleeper.swap(0, Ordering::AcqRel);
            match who & 3 {
                IS_DISPATCHER if who & BY_EVENTFD != 0 => self.ring_eventfd(),
                IS_DISPATCHER => self.ring_futex(DISPATCHER),
                _ => self.ring_futex(CALLER),
            }
        }
        is_asleep
    }

    /// Rings everybody, announced or not.
    pub(crate) fn ring_all(&self) {
        self.ring_eventfd();
        self.ring_futex(DISPATCHER);
        self.ring_futex(CALLER);
    }

    pub(crate) fn ring_eventfd(&self) {
        let _ = rustix::io::write(&self.doorbell, &1_u64.to_ne_bytes());
    }

    pub(crate) fn ring_futex(&self, word: usize) {
        let word = self.control(Way::ToMain, word);
        word.fetch_add(1, Ordering::Release);
        let _ = futex::wake(word, futex::Flags::empty(), 1);
    }

    // ---- reading ----

    /// The next message, if it is there.
    pub(crate) fn try_receive(&mut self) -> Option<Vec<u8>> {
        loop {
            let slot = self.slot(Way::ToRenderer, self.read);
            let word = slot.load(Ordering::Acquire);
            if word == 0 {
                return None;
            }
            let (kind, len) = ((word >> 56) as u8, (word & 0x00ff_ffff_ffff_ffff) as usize);
            let words = len.div_ceil(8) as u64;
            assert!(words < self.words(Way::ToRenderer), "main writes records that fit: {word:#x}");
            let mut bytes = Vec::with_capacity(len + 8);
            if kind != PADDING {
                let load = |index| self.slot(Way::ToRenderer, self.read + 1 + index).load(Ordering::Relaxed);
                bytes.extend((0..words).flat_map(|index| load(index).to_le_bytes()));
                bytes.truncate(len);
            }
            self.read += 1 + words;
            self.publish_head();
            match kind {
                WHOLE => return Some(bytes),
                FIRST => {
                    let (whole, part) = bytes.split_first_chunk().expect("the whole length");
                    self.whole = u64::from_le_bytes(*whole) as usize;
                    self.assembly = part.to_vec();
                }
                MORE => {
                    self.assembly.extend(bytes);
                    if self.assembly.len() == self.whole {
                        return Some(std::mem::take(&mut self.assembly));
                    }
                }
                PADDING => {}
                other => panic!("a record of kind {other}"),
            }
        }
    }

    /// Publishes up to where this end has read; rings main if it waits for room.
    pub(crate) fn publish_head(&self) {
        self.head(Way::ToRenderer).store(self.read, Ordering::Release);
        fence(Ordering::SeqCst);
        let wants_room = self.control(Way::ToRenderer, WANTS_ROOM);
        if wants_room.load(Ordering::Relaxed) == 1 {
            wants_room.swap(0, Ordering::AcqRel);
            self.ring_if_asleep();
        }
    }

    /// The next message; none: the link was cut.
    pub(crate) fn receive(&mut self) -> Option<Vec<u8>> {
        self.receive_within(PATIENCE)
    }

    fn receive_within(&mut self, patience: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + patience;
        loop {
            if let Some(message) = self.try_receive() {
                return Some(message);
            }
            if self.connection.is_cut() {
                return None;
            }
            assert!(Instant::now() < end, "nothing came within {patience:?}");
            std::thread::yield_now();
        }
    }

    // ---- calls ----

    /// An id that was not used yet.
    pub(crate) fn next_call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Calls main's handler; the kind and the payload of the answer. None: the link was cut.
    pub(crate) fn call(&mut self, channel: &str, payload: &[u8]) -> Option<(u8, Vec<u8>)> {
        let call = self.next_call();
        if !self.send(&message(INVOKE, 1, call, channel, 0, payload)) {
            return None;
        }
        self.answer_of(call)
    }

    /// Reads until the answer of a call comes.
    pub(crate) fn answer_of(&mut self, call: u64) -> Option<(u8, Vec<u8>)> {
        loop {
            let message = self.receive()?;
            let id = u64::from_le_bytes(message[8..16].try_into().expect("8 bytes"));
            if [REPLY, REPLY_ERROR].contains(&message[0]) && id == call {
                return Some((message[0], message[24..].to_vec()));
            }
        }
    }

    /// Whether main still answers on this link, whose last acts must leave both rings in order.
    pub(crate) fn is_answered(&mut self) -> bool {
        let call = self.next_call();
        // Whatever the announcement says by now.
        let sent = self.send(&message(INVOKE, 1, call, "add", 0, &[0x92, 2, 3]));
        self.ring_all();
        match sent.then(|| self.answer_of(call)).flatten() {
            Some(answer) => {
                assert_eq!(answer, (REPLY, vec![5]));
                true
            }
            None => false,
        }
    }
}

/// A message: its header, the channel's name, the payload.
pub(crate) fn message(kind: u8, frame: u32, call: u64, channel: &str, far: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0, 0, 0];
    out.extend(frame.to_le_bytes());
    out.extend(call.to_le_bytes());
    out.extend((channel.len() as u32).to_le_bytes());
    out.extend(far.to_le_bytes());
    out.extend(channel.as_bytes());
    out.extend(payload);
    out
}
