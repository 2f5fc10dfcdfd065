//! Two proofs for what the documentation of lanes calls *Real-time safe*, on the code that a release build has.
//!
//! **No panic is left.** Each operation stands in a function of [`proven`] that names a symbol nobody defines, for the case
//! that it unwinds. Where the optimizer finds that it cannot, the name is gone; where it does not, the program does not link,
//! and the linker says in which function. So that this program exists is the proof. (`--features panics` adds a function
//! that can panic, and must not link.)
//!
//! **A bounded number of instructions.** With the argument `count`, under valgrind's callgrind, each call of these functions
//! is counted by itself, on a lane that is empty, that is full, at every slot around its end, and in which the peer has put
//! values of all sorts into every word. `.ci/realtime` builds, counts and compares.

mod hostile;
mod proven;

use hostile::Peer;
use ringmain::{
    IpcMain, IpcRenderer, LaneConfig, LaneDuplex, LaneEnd, LaneGroup, LaneReceiver, LaneSender, LatestReader,
    LatestWriter, WakePolicy,
};
use std::hint::black_box;
use std::time::Instant;

/// Records of the lanes: more than one goes around their end soon.
const CAPACITY: usize = 5;
/// Bytes of the longest record.
const LONG: usize = 4096;

struct World {
    ipc_main: IpcMain,
    ipc_renderer: IpcRenderer,
    lanes: u32,
    is_counted: bool,
    calls: u32,
}

impl World {
    /// Both ends of a new lane, and who can write to all of its memory.
    fn both<M: LaneEnd, R: LaneEnd>(&mut self, wake: WakePolicy) -> (M, R, Peer) {
        self.lanes += 1;
        let name = format!("lane {}", self.lanes);
        let config = LaneConfig::new().capacity(CAPACITY).max_record(LONG).wake(wake);
        let before = hostile::mappings();
        let ours = self.ipc_main.all_web_contents()[0].lane(&name, &config).expect("main's end");
        let theirs = self.ipc_renderer.lane(&name, &config).expect("the renderer's end");
        (ours, theirs, Peer::of_what_is_new(&before))
    }

    /// One call, counted by itself.
    fn call<T>(&mut self, what: &str, case: &str, call: impl FnOnce() -> T) {
        if self.is_counted {
            hostile::zero_counts();
            black_box(call());
            hostile::write_counts(&format!("{what}|{case}"));
        } else {
            black_box(call());
        }
        self.calls += 1;
    }
}

/// Calls of a function in each state of its lane. `$open` gives (what it is called on, the peer's honest act, the peer).
macro_rules! cases {
    ($world:ident, $what:expr, $open:expr, $call:expr) => {{
        let what = $what;
        let open = $open;
        let call = $call;
        // As it is opened; then around the end, the peer taking or giving one each time; then without the peer until it is
        // full, or nothing is there.
        let (mut end, mut honest, _peer) = open(&mut *$world);
        $world.call(what, "new", || call(&mut end));
        for _ in 0..4 * CAPACITY {
            honest();
            $world.call(what, "around", || call(&mut end));
        }
        for _ in 0..2 * CAPACITY {
            $world.call(what, "alone", || call(&mut end));
        }
        for _ in 0..2 * CAPACITY {
            honest();
        }
        for _ in 0..2 * CAPACITY {
            $world.call(what, "after much", || call(&mut end));
        }
        for value in hostile::VALUES {
            let (mut end, mut honest, peer) = open(&mut *$world);
            honest();
            peer.writes_everywhere(*value);
            for _ in 0..3 {
                $world.call(what, "hostile", || call(&mut end));
            }
            honest();
            $world.call(what, "hostile", || call(&mut end));
        }
    }};
}

macro_rules! records {
    ($world:ident, $name:literal, $type:ty, $value:expr, $send:ident, $recv:ident, $batch:ident, $drop:ident, $loan:ident, $peek:ident,
     $write:ident, $write_loan:ident, $read:ident, $take:ident) => {{
        let value: $type = $value;
        let sender = |world: &mut World| {
            let (sender, mut receiver, peer) =
                world.both::<LaneSender<$type>, LaneReceiver<$type>>(WakePolicy::IfParked);
            (sender, move || _ = receiver.try_recv(&mut value.clone()), peer)
        };
        let receiver = |world: &mut World| {
            let (receiver, mut sender, peer) = world.both::<LaneReceiver<$type>, LaneSender<$type>>(WakePolicy::Never);
            (receiver, move || _ = sender.try_send(&value), peer)
        };
        let writer = |world: &mut World| {
            let (writer, mut reader, peer) = world.both::<LatestWriter<$type>, LatestReader<$type>>(WakePolicy::Relay);
            (writer, move || _ = reader.read(&mut value.clone()), peer)
        };
        let reader = |world: &mut World| {
            let (reader, mut writer, peer) = world.both::<LatestReader<$type>, LatestWriter<$type>>(WakePolicy::Never);
            (reader, move || _ = writer.write(&value), peer)
        };
        let mut got = value.clone();
        cases!($world, concat!("try_send ", $name), sender, |end: &mut _| proven::$send(end, &value));
        cases!($world, concat!("batch of 3 ", $name), sender, |end: &mut _| proven::$batch(end, &value));
        cases!($world, concat!("batch dropped ", $name), sender, |end: &mut _| proven::$drop(end, &value));
        cases!($world, concat!("loan ", $name), sender, |end: &mut _| proven::$loan(end, &value));
        cases!($world, concat!("try_recv ", $name), receiver, |end: &mut _| proven::$recv(end, &mut value.clone()));
        cases!($world, concat!("peek ", $name), receiver, |end: &mut _| proven::$peek(end, &mut value.clone()));
        cases!($world, concat!("write ", $name), writer, |end: &mut _| proven::$write(end, &value));
        cases!($world, concat!("latest loan ", $name), writer, |end: &mut _| proven::$write_loan(end, &value));
        cases!($world, concat!("read ", $name), reader, |end: &mut _| proven::$read(end, &mut value.clone()));
        cases!($world, concat!("take ", $name), reader, |end: &mut _| proven::$take(end, &mut value.clone()));
        black_box(&mut got);
    }};
}

fn bytes(world: &mut World) {
    let record = vec![7; 1000];
    let sender = |world: &mut World| {
        let (sender, mut receiver, peer) = world.both::<LaneSender<[u8]>, LaneReceiver<[u8]>>(WakePolicy::IfParked);
        (sender, move || _ = receiver.try_recv(&mut [0; LONG][..]), peer)
    };
    let receiver = |world: &mut World| {
        let (receiver, mut sender, peer) = world.both::<LaneReceiver<[u8]>, LaneSender<[u8]>>(WakePolicy::Never);
        (receiver, move || _ = sender.try_send(&[7; 1000][..]), peer)
    };
    let writer = |world: &mut World| {
        let (writer, mut reader, peer) = world.both::<LatestWriter<[u8]>, LatestReader<[u8]>>(WakePolicy::IfParked);
        (writer, move || _ = reader.read(&mut [0; LONG][..]), peer)
    };
    let reader = |world: &mut World| {
        let (reader, mut writer, peer) = world.both::<LatestReader<[u8]>, LatestWriter<[u8]>>(WakePolicy::Never);
        (reader, move || _ = writer.write(&[7; 1000][..]), peer)
    };
    cases!(world, "try_send bytes", sender, |end: &mut _| proven::send_bytes(end, &record));
    cases!(world, "loan bytes", sender, |end: &mut _| proven::loan_bytes(end, &record));
    cases!(world, "try_recv bytes", receiver, |end: &mut _| proven::recv_bytes(end, &mut [0; LONG]));
    cases!(world, "peek bytes", receiver, |end: &mut _| proven::peek_bytes(end, &mut [0; LONG]));
    cases!(world, "write bytes", writer, |end: &mut _| proven::write_bytes(end, &record));
    cases!(world, "latest loan bytes", writer, |end: &mut _| proven::write_loan_bytes(end, &record));
    cases!(world, "read bytes", reader, |end: &mut _| proven::read_bytes(end, &mut [0; LONG]));
    cases!(world, "take bytes", reader, |end: &mut _| proven::take_bytes(end, &mut [0; LONG]));
}

type Block = [f32; 64];

fn exchanges(world: &mut World) {
    let past = Instant::now();
    let host = |world: &mut World| {
        let (host, mut plugin, peer) =
            world.both::<LaneDuplex<Block, Block>, LaneDuplex<Block, Block>>(WakePolicy::Never);
        (
            host,
            move || _ = plugin.recv_request_until(&mut [0.0; 64], past).and_then(|_| plugin.send_response(&[0.5; 64])),
            peer,
        )
    };
    // Whose peer sends one after the other.
    let plugin = |world: &mut World| {
        let (plugin, mut host, peer) =
            world.both::<LaneDuplex<Block, Block>, LaneDuplex<Block, Block>>(WakePolicy::Never);
        (plugin, move || _ = host.send_request(&[0.5; 64]), peer)
    };
    let group = |world: &mut World| {
        let mut group = LaneGroup::<Block, Block>::new();
        let (lane, mut honest, peer) = host(world);
        group.push(lane);
        (group, move || honest(), peer)
    };
    cases!(world, "send_request", host, |end: &mut _| proven::request(end, &[1.0; 64]));
    cases!(world, "loan_request", host, |end: &mut _| proven::request_loan(end, &[1.0; 64]));
    cases!(world, "try_recv_request", plugin, |end: &mut _| proven::take_request(end, &mut [1.0; 64]));
    cases!(world, "try_recv_response", plugin, |end: &mut _| proven::take_response(end, &mut [1.0; 64]));
    cases!(world, "send_response", host, |end: &mut _| proven::response(end, &[1.0; 64]));
    cases!(world, "LaneGroup::start", group, |end: &mut _| proven::group_start(end, &[1.0; 64]));
    cases!(world, "LaneGroup::response", group, |end: &mut _| proven::group_response(end));
}

fn state(world: &mut World) {
    let sender = |world: &mut World| {
        let (sender, mut receiver, peer) = world.both::<LaneSender<u64>, LaneReceiver<u64>>(WakePolicy::Relay);
        (sender, move || _ = receiver.try_recv(&mut 0), peer)
    };
    let receiver = |world: &mut World| {
        let (receiver, mut sender, peer) = world.both::<LaneReceiver<u64>, LaneSender<u64>>(WakePolicy::Never);
        let counters = receiver.counters();
        ((receiver, counters), move || _ = sender.try_send(&0), peer)
    };
    let writer = |world: &mut World| {
        let (writer, mut reader, peer) = world.both::<LatestWriter<u64>, LatestReader<u64>>(WakePolicy::Never);
        (writer, move || _ = reader.read(&mut 0), peer)
    };
    let reader = |world: &mut World| {
        let (reader, mut writer, peer) = world.both::<LatestReader<u64>, LatestWriter<u64>>(WakePolicy::Never);
        (reader, move || _ = writer.write(&0), peer)
    };
    let duplex = |world: &mut World| {
        let (host, mut plugin, peer) = world.both::<LaneDuplex<u64, u64>, LaneDuplex<u64, u64>>(WakePolicy::Never);
        (host, move || _ = plugin.sender().try_send(&0), peer)
    };
    cases!(world, "sender's state", sender, |end: &mut _| proven::sender_state(end));
    cases!(world, "receiver's state", receiver, |(end, counters): &mut (_, _)| proven::receiver_state(end, counters));
    cases!(world, "writer's state", writer, |end: &mut _| proven::writer_state(end));
    cases!(world, "reader's state", reader, |end: &mut _| proven::reader_state(end));
    cases!(world, "duplex's state", duplex, |end: &mut _| proven::duplex_state(end));
}

fn main() {
    let is_counted = std::env::args().nth(1).is_some_and(|argument| argument == "count");
    let ipc_main = IpcMain::new().expect("a main");
    let ipc_renderer = ipc_main.attach().expect("a renderer");
    let world = &mut World { ipc_main, ipc_renderer, lanes: 0, is_counted, calls: 0 };
    records!(
        world,
        "8 B",
        u64,
        7,
        send_8,
        recv_8,
        batch_8,
        batch_dropped_8,
        loan_8,
        peek_8,
        write_8,
        write_loan_8,
        read_8,
        take_8
    );
    records!(
        world,
        "64 B",
        [u64; 8],
        [7; 8],
        send_64,
        recv_64,
        batch_64,
        batch_dropped_64,
        loan_64,
        peek_64,
        write_64,
        write_loan_64,
        read_64,
        take_64
    );
    records!(
        world,
        "4 KiB",
        [u8; LONG],
        [7; LONG],
        send_4096,
        recv_4096,
        batch_4096,
        batch_dropped_4096,
        loan_4096,
        peek_4096,
        write_4096,
        write_loan_4096,
        read_4096,
        take_4096
    );
    bytes(world);
    exchanges(world);
    state(world);
    println!(
        "{} real-time safe functions have no panic left; {} calls of them, on lanes empty, full, around their end and hostile",
        proven::COUNT,
        world.calls
    );
    #[cfg(feature = "panics")]
    println!("{}", proven::panics(std::env::args().len()));
}
