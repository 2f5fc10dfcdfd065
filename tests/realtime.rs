//! What the methods of lanes that say *Real-time safe* keep, from their first call on: they allocate and free nothing, make no
//! system call but the wake that was chosen, and touch no page that is not there. Each by something that would see it:
//! an allocator that counts, a filter by which the kernel ends the process, the kernel's count of faults. That no panic is
//! left, and how many instructions each takes, is shown in `tests/realtime/`.
#![allow(missing_docs)]
// An allocator and a filter.
#![allow(unsafe_code)]

mod support;

use ringmain::bytemuck::Pod;
use ringmain::{
    IpcMain, IpcRenderer, LaneConfig, LaneDuplex, LaneEnd, LaneError, LaneGroup, LaneReceiver, LaneSender,
    LatestReader, LatestWriter, WakePolicy,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{PATIENCE, alone, child, pair, until};

#[test]
fn children() {
    support::play(&[
        ("allocates nothing", allocates_nothing),
        ("calls nothing, never", || calls_nothing(WakePolicy::Never)),
        ("calls nothing, relay", || calls_nothing(WakePolicy::Relay)),
        ("calls a wake", calls_a_wake),
        ("faults nowhere", faults_nowhere),
        ("makes a call", makes_a_call),
        ("wakes where nothing may be called", wakes_where_nothing_may_be_called),
        ("sleeps where a wake may be called", sleeps_where_a_wake_may_be_called),
    ]);
}

const POLICIES: [WakePolicy; 3] = [WakePolicy::Never, WakePolicy::IfParked, WakePolicy::Relay];

// ---- what is done -------------------------------------------------------------------------------------------------

/// A main and a renderer in this process, so each lane is there twice: in one mapping and in the other.
struct World {
    ipc_main: IpcMain,
    ipc_renderer: IpcRenderer,
    config: LaneConfig,
    lanes: Cell<u32>,
}

impl World {
    fn new(config: LaneConfig) -> Self {
        let (ipc_main, ipc_renderer) = pair();
        Self { ipc_main, ipc_renderer, config, lanes: Cell::new(0) }
    }

    fn both<M: LaneEnd, R: LaneEnd>(&self) -> (M, R) {
        self.lanes.set(self.lanes.get() + 1);
        let name = format!("lane {}", self.lanes.get());
        let ours = self.ipc_main.all_web_contents()[0].lane(&name, &self.config).expect("main's end");
        (ours, self.ipc_renderer.lane(&name, &self.config).expect("the renderer's end"))
    }
}

type Act = Box<dyn FnMut()>;

/// A record each way through the whole lane: sent, received, and that nothing more is there.
fn one_way<T: Pod>(world: &World) -> Act {
    let (mut sender, mut receiver) = world.both::<LaneSender<T>, LaneReceiver<T>>();
    sender.prepare();
    receiver.prepare();
    let (record, mut got) = (T::zeroed(), T::zeroed());
    Box::new(move || {
        assert!(sender.try_send(&record).is_ok());
        assert!(matches!(receiver.try_recv(&mut got), Ok(Some(_))));
        assert!(matches!(receiver.try_recv(&mut got), Ok(None)));
    })
}

fn full(world: &World) -> Act {
    let (mut sender, mut receiver) = world.both::<LaneSender<u64>, LaneReceiver<u64>>();
    sender.prepare();
    receiver.prepare();
    while !sender.is_full() {
        sender.try_send(&1).expect("room");
    }
    let mut got = 0;
    Box::new(move || {
        assert!(sender.try_send(&1) == Err(LaneError::Full) && sender.room() == 0 && sender.loan().is_err());
        assert!(matches!(receiver.try_recv(&mut got), Ok(Some(_))));
        let _ = sender.try_send(&1);
        while !sender.is_full() {
            assert!(sender.try_send(&1).is_ok());
        }
    })
}

fn batches<T: Pod>(world: &World) -> Act {
    let (mut sender, mut receiver) = world.both::<LaneSender<T>, LaneReceiver<T>>();
    sender.prepare();
    receiver.prepare();
    let (record, mut got) = (T::zeroed(), T::zeroed());
    Box::new(move || {
        let mut batch = sender.batch();
        assert!(batch.push(&record).is_ok() && batch.push(&record).is_ok() && batch.len() == 2);
        drop(batch);
        assert!(matches!(receiver.try_recv(&mut got), Ok(None)));
        let mut batch = sender.batch();
        for _ in 0..3 {
            assert!(batch.push(&record).is_ok());
        }
        batch.commit();
        for _ in 0..3 {
            assert!(matches!(receiver.try_recv(&mut got), Ok(Some(_))));
        }
        sender.batch().commit();
    })
}

fn loans<T: Pod>(world: &World) -> Act {
    let (mut sender, mut receiver) = world.both::<LaneSender<T>, LaneReceiver<T>>();
    sender.prepare();
    receiver.prepare();
    let (record, mut got) = (T::zeroed(), T::zeroed());
    Box::new(move || {
        let Ok(loan) = sender.loan() else { panic!("no room") };
        drop(loan);
        let Ok(mut loan) = sender.loan() else { panic!("no room") };
        loan.write(&record);
        loan.commit();
        let Ok(Some(record)) = receiver.peek() else { panic!("nothing there") };
        assert!(record.copy_to(&mut got).is_ok());
        drop(record);
        let Ok(Some(record)) = receiver.peek() else { panic!("nothing there") };
        record.release();
    })
}

fn bytes(world: &World, size: usize) -> Act {
    let (mut sender, mut receiver) = world.both::<LaneSender<[u8]>, LaneReceiver<[u8]>>();
    sender.prepare();
    receiver.prepare();
    // Written to once, so that the caller's memory is there as well.
    let (record, mut got) = (vec![7; size], vec![8; size]);
    let too_long = vec![9; size + 1];
    Box::new(move || {
        assert!(sender.try_send(&too_long) == Err(LaneError::TooLong));
        assert!(sender.try_send(&record).is_ok());
        assert!(receiver.try_recv(&mut got[..size - 1]) == Err(LaneError::TooLong));
        assert!(matches!(receiver.try_recv(&mut got), Ok(Some(_))));
        let Ok(mut loan) = sender.loan() else { panic!("no room") };
        assert!(loan.write_at(0, &record[..size / 2]).is_ok() && loan.write_at(size, &record[..1]).is_err());
        assert!(loan.commit(size / 2).is_ok());
        let Ok(Some(record)) = receiver.peek() else { panic!("nothing there") };
        assert!(record.len() == size / 2 && record.copy_to(&mut got).is_ok());
        record.release();
    })
}

fn latest<T: Pod>(world: &World) -> Act {
    let (mut writer, mut reader) = world.both::<LatestWriter<T>, LatestReader<T>>();
    writer.prepare();
    reader.prepare();
    let (value, mut got) = (T::zeroed(), T::zeroed());
    Box::new(move || {
        assert!(writer.write(&value).is_ok());
        assert!(writer.write(&value).is_ok());
        assert!(matches!(reader.read(&mut got), Ok(Some(_))));
        assert!(matches!(reader.read(&mut got), Ok(None)));
        let Ok(loan) = writer.loan() else { panic!("closed") };
        loan.commit();
        assert!(matches!(reader.take(), Ok(Some(_))) && reader.copy_to(&mut got).is_ok());
    })
}

fn latest_bytes(world: &World, size: usize) -> Act {
    let (mut writer, mut reader) = world.both::<LatestWriter<[u8]>, LatestReader<[u8]>>();
    writer.prepare();
    reader.prepare();
    let (value, mut got) = (vec![7; size], vec![8; size]);
    Box::new(move || {
        assert!(writer.write(&value).is_ok());
        assert!(matches!(reader.read(&mut got), Ok(Some(_))));
        let Ok(mut loan) = writer.loan() else { panic!("closed") };
        assert!(loan.write_at(1, &value[..1]).is_ok() && loan.commit(2).is_ok());
        assert!(matches!(reader.take(), Ok(Some(_))) && reader.copy_to(&mut got) == Ok(2));
    })
}

fn counters(world: &World) -> Act {
    let (mut sender, receiver) = world.both::<LaneSender<u64>, LaneReceiver<u64>>();
    let (writer, reader) = world.both::<LatestWriter<u64>, LatestReader<u64>>();
    let (duplex, other) = world.both::<LaneDuplex<u64, u64>, LaneDuplex<u64, u64>>();
    let counters = receiver.counters();
    sender.prepare();
    Box::new(move || {
        assert!(sender.is_open() && receiver.is_open() && writer.is_open() && reader.is_open());
        assert!(duplex.is_open() && other.is_open() && counters.is_open());
        assert!(!sender.is_full() && sender.room() > 0);
        let all = [sender.stats(), receiver.stats(), writer.stats(), reader.stats(), duplex.stats(), counters.stats()];
        assert!(all.iter().all(|stats| stats.sent == 0 && stats.received == 0));
    })
}

fn exchanges<T: Pod>(world: &World) -> Act {
    let (mut host, mut plugin) = world.both::<LaneDuplex<T, T>, LaneDuplex<T, T>>();
    host.prepare();
    plugin.prepare();
    let (block, mut got, now) = (T::zeroed(), T::zeroed(), Instant::now());
    Box::new(move || {
        assert!(matches!(plugin.try_recv_request(&mut got), Ok(None)));
        let Ok(mut loan) = host.loan_request() else { panic!("no room") };
        loan.write(&block);
        loan.commit();
        assert!(matches!(host.try_recv_response(&mut got), Ok(None)));
        assert!(matches!(plugin.try_recv_request(&mut got), Ok(Some(_))) && plugin.send_response(&block).is_ok());
        assert!(matches!(host.try_recv_response(&mut got), Ok(Some(_))));
        // What is there is found by the first look, without the clock.
        assert!(host.send_request(&block).is_ok() && plugin.recv_request_until(&mut got, now).is_ok());
        assert!(plugin.send_response(&block).is_ok() && host.recv_response_until(&mut got, now).is_ok());
    })
}

fn group<T: Pod>(world: &World) -> Act {
    let mut group = LaneGroup::<T, T>::new();
    let mut plugins = Vec::new();
    for _ in 0..3 {
        let (mut host, mut plugin) = world.both::<LaneDuplex<T, T>, LaneDuplex<T, T>>();
        host.prepare();
        plugin.prepare();
        group.push(host);
        plugins.push(plugin);
    }
    let (block, mut got, now) = (T::zeroed(), T::zeroed(), Instant::now());
    Box::new(move || {
        for peer in 0..3 {
            assert!(group.start(peer, &block).is_ok());
        }
        for plugin in &mut plugins {
            assert!(plugin.recv_request_until(&mut got, now).is_ok() && plugin.send_response(&block).is_ok());
        }
        assert!(group.wait_all(now) == 3 && (0..3).all(|peer| group.response(peer).is_ok()));
        assert!(group.start(9, &block).is_err() && group.response(9).is_err());
    })
}

fn closed(world: &World) -> Act {
    let (mut sender, receiver) = world.both::<LaneSender<u64>, LaneReceiver<u64>>();
    drop(receiver);
    let (sender_gone, mut receiver) = world.both::<LaneSender<u64>, LaneReceiver<u64>>();
    drop(sender_gone);
    let (mut writer, reader) = world.both::<LatestWriter<u64>, LatestReader<u64>>();
    drop(reader);
    let (writer_gone, mut reader) = world.both::<LatestWriter<u64>, LatestReader<u64>>();
    drop(writer_gone);
    let mut got = 0;
    Box::new(move || {
        assert!(sender.try_send(&1) == Err(LaneError::Closed) && sender.batch().push(&1).is_err());
        assert!(receiver.try_recv(&mut got) == Err(LaneError::Closed) && receiver.peek().is_err());
        assert!(writer.write(&1) == Err(LaneError::Closed) && reader.take() == Err(LaneError::Closed));
    })
}

/// Everything that says *Real-time safe*, on lanes that are prepared.
fn acts(world: &World, size: usize) -> Vec<(&'static str, Act)> {
    vec![
        ("send, 8 B", one_way::<u64>(world)),
        ("send, 64 B", one_way::<[u64; 8]>(world)),
        ("send, 4 KiB", one_way::<[u8; 4096]>(world)),
        ("full", full(world)),
        ("batch", batches::<[u64; 8]>(world)),
        ("batch, 4 KiB", batches::<[u8; 4096]>(world)),
        ("loan", loans::<[u64; 8]>(world)),
        ("loan, 4 KiB", loans::<[u8; 4096]>(world)),
        ("bytes", bytes(world, size)),
        ("latest", latest::<[f32; 4]>(world)),
        ("latest, 4 KiB", latest::<[u8; 4096]>(world)),
        ("latest bytes", latest_bytes(world, size)),
        ("counters", counters(world)),
        ("exchange", exchanges::<[f32; 64]>(world)),
        ("exchange, 4 KiB", exchanges::<[u8; 4096]>(world)),
        ("group", group::<[f32; 64]>(world)),
        ("closed", closed(world)),
    ]
}

fn small(wake: WakePolicy) -> World {
    World::new(LaneConfig::new().capacity(5).max_record(500).wake(wake))
}

/// Lanes that were open when their link ended.
fn after_the_end() -> Act {
    let world = small(WakePolicy::IfParked);
    let (mut sender, mut receiver) = world.both::<LaneSender<u64>, LaneReceiver<u64>>();
    let (mut writer, mut reader) = world.both::<LatestWriter<u64>, LatestReader<u64>>();
    world.ipc_main.all_web_contents()[0].close(PATIENCE).expect("closed");
    until("both ends know", || !sender.counters().is_open() && !reader.counters().is_open());
    let mut got = 0;
    Box::new(move || {
        assert!(sender.try_send(&1) == Err(LaneError::Closed) && receiver.try_recv(&mut got) == Err(LaneError::Closed));
        assert!(writer.write(&1) == Err(LaneError::Closed) && reader.read(&mut got) == Err(LaneError::Closed));
        assert!(!sender.is_open() && !receiver.is_open() && sender.loan().is_err() && receiver.peek().is_err());
        let _ = (sender.stats(), reader.stats());
    })
}

// ---- the allocator ------------------------------------------------------------------------------------------------

/// Counts what this thread asks for and gives back.
struct Counting;

thread_local! {
    static ALLOCATOR_CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATOR_CALLS.set(ALLOCATOR_CALLS.get() + 1);
}

// SAFETY: what the system's allocator does, which gets every argument unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often this thread called the allocator meanwhile.
fn allocator_calls(act: impl FnOnce()) -> u64 {
    let before = ALLOCATOR_CALLS.get();
    act();
    ALLOCATOR_CALLS.get() - before
}

fn allocates_nothing() {
    assert_eq!(allocator_calls(|| drop(Box::new(1))), 2, "the allocator counts");
    let mut rounds = 0;
    for wake in POLICIES {
        let world = small(wake);
        let mut acts = acts(&world, 500);
        acts.push(("after the end", after_the_end()));
        for (what, mut act) in acts {
            let calls = allocator_calls(|| (0..10_000).for_each(|_| act()));
            assert_eq!(calls, 0, "{what}, {wake:?}: calls of the allocator in 10 000 rounds");
            rounds += 10_000;
        }
    }
    assert!(rounds > 100_000, "{rounds} rounds");
}

#[test]
fn no_real_time_safe_method_allocates_or_frees() {
    alone("allocates nothing");
}

// ---- the filter ---------------------------------------------------------------------------------------------------

/// From here on the kernel ends the process by SIGSYS at any system call of this thread but the end of the process and, if it
/// may wake, `FUTEX_WAKE`.
fn seal_this_thread(may_wake: bool) {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    /// Where the second argument lies.
    const OPERATION: u32 = 16 + 8 + if cfg!(target_endian = "big") { 4 } else { 0 };
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let wake = if may_wake { libc::SYS_futex as u32 } else { u32::MAX };
    let mut program = [
        step(LOAD_WORD, 0, 0, 0), // the call's number
        step(JUMP_IF_EQUAL, 4, 0, libc::SYS_exit_group as u32),
        step(JUMP_IF_EQUAL, 0, 2, wake),
        step(LOAD_WORD, 0, 0, OPERATION),
        step(JUMP_IF_EQUAL, 1, 0, libc::FUTEX_WAKE as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: neither call touches memory but the program, which lives until they return.
    let sealed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(sealed, "no filter: {}", std::io::Error::last_os_error());
}

/// A sealed thread cannot end in order: what it would drop is asked of the kernel.
fn end_at_once(is_well: bool) -> ! {
    // SAFETY: ends the process, without running anything.
    unsafe { libc::_exit(if is_well { 0 } else { 3 }) }
}

/// Rounds of each act under the filter; most of them are several operations.
const SEALED_ROUNDS: usize = 60_000;

fn calls_nothing(wake: WakePolicy) {
    let world = small(wake);
    let mut acts = acts(&world, 500);
    acts.push(("after the end", after_the_end()));
    assert!(acts.len() * SEALED_ROUNDS > 1_000_000, "a million rounds");
    seal_this_thread(false);
    for (_, act) in &mut acts {
        (0..SEALED_ROUNDS).for_each(|_| act());
    }
    end_at_once(true);
}

#[test]
fn no_real_time_safe_method_makes_a_system_call_where_nobody_is_woken_or_a_helper_wakes() {
    alone("calls nothing, never");
    alone("calls nothing, relay");
}

/// Sleeps in the lane again and again, and tells how many records it has got.
fn sleeper(mut receiver: LaneReceiver<u64>) -> Arc<AtomicU64> {
    let received = Arc::new(AtomicU64::new(0));
    let counts = received.clone();
    std::thread::spawn(move || {
        loop {
            match receiver.recv_until(&mut 0, Instant::now() + PATIENCE) {
                Ok(_) => drop(counts.fetch_add(1, Ordering::Relaxed)),
                // Whoever sends to it may be at work elsewhere for long.
                Err(LaneError::TimedOut) => {}
                Err(_) => return,
            }
        }
    });
    received
}

fn calls_a_wake() {
    let world = small(WakePolicy::IfParked);
    let mut acts = acts(&world, 500);
    acts.push(("after the end", after_the_end()));
    let sleepy = World::new(LaneConfig::new().capacity(64).spin(Duration::ZERO));
    let (mut sender, receiver) = sleepy.both::<LaneSender<u64>, LaneReceiver<u64>>();
    sender.prepare();
    let received = sleeper(receiver);
    seal_this_thread(true);
    for (_, act) in &mut acts {
        (0..SEALED_ROUNDS).for_each(|_| act());
    }
    // Now and then all is received, and the receiver has time to go to sleep.
    let mut sent = 0;
    while sender.stats().wakes < 200 {
        for _ in 0..50 {
            match sender.try_send(&sent) {
                Ok(()) => sent += 1,
                // To panic would be another call.
                Err(LaneError::Closed) => end_at_once(false),
                Err(_) => {}
            }
        }
        while received.load(Ordering::Relaxed) < sent {
            std::hint::spin_loop();
        }
        (0..20_000).for_each(|_| std::hint::spin_loop());
    }
    end_at_once(sender.stats().wakes >= 200);
}

#[test]
fn a_sender_that_wakes_who_is_parked_makes_the_call_that_wakes_and_no_other() {
    alone("calls a wake");
}

fn makes_a_call() {
    seal_this_thread(true);
    // SAFETY: asks for a number.
    let _ = unsafe { libc::syscall(libc::SYS_getppid) };
    end_at_once(true);
}

fn wakes_where_nothing_may_be_called() {
    let world = World::new(LaneConfig::new().spin(Duration::ZERO));
    let (mut sender, receiver) = world.both::<LaneSender<u64>, LaneReceiver<u64>>();
    let received = sleeper(receiver);
    seal_this_thread(false);
    for sent in 0..20_000 {
        let _ = sender.try_send(&sent);
        while received.load(Ordering::Relaxed) < sent {
            std::hint::spin_loop();
        }
        (0..20_000).for_each(|_| std::hint::spin_loop());
    }
    end_at_once(true);
}

fn sleeps_where_a_wake_may_be_called() {
    let world = World::new(LaneConfig::new().spin(Duration::ZERO));
    let (_sender, mut receiver) = world.both::<LaneSender<u64>, LaneReceiver<u64>>();
    seal_this_thread(true);
    let _ = receiver.recv_until(&mut 0, Instant::now() + PATIENCE);
    end_at_once(true);
}

#[test]
fn the_filter_sees_any_other_call() {
    for role in ["makes a call", "wakes where nothing may be called", "sleeps where a wake may be called"] {
        let status = child(role).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert_eq!(status.expect("a process").signal(), Some(libc::SIGSYS), "{role}");
    }
}

// ---- faults -------------------------------------------------------------------------------------------------------

/// Pages that were not there when this thread touched them.
fn faults() -> i64 {
    // SAFETY: zeros are a usage, into which the call writes.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
        usage.ru_minflt + usage.ru_majflt
    }
}

fn faults_nowhere() {
    let before = faults();
    let untouched: Vec<u8> = vec![0; 8 << 20];
    std::hint::black_box(untouched.iter().step_by(4096).map(|byte| u64::from(*byte)).sum::<u64>());
    assert!(faults() > before, "faults are counted");

    // The code, and the stack: a program's own pages are there once they were used, by whichever lane.
    const RECORDS: usize = 4096;
    let warm = World::new(LaneConfig::new().capacity(5).max_record(1 << 20));
    for (_, mut act) in acts(&warm, 1 << 20) {
        act();
    }
    // Lanes of 16 MiB each way where the records are long, whose every slot is used, twice.
    let world = World::new(LaneConfig::new().capacity(RECORDS).max_record(4096));
    let few = World::new(LaneConfig::new().capacity(4).max_record(4 << 20));
    let rounds = 2 * RECORDS + RECORDS / 4;
    let mut all: Vec<_> = acts(&world, 4096).into_iter().map(|(what, act)| (what, act, rounds)).collect();
    all.push(("long records", bytes(&few, 4 << 20), 12));
    all.push(("long values", latest_bytes(&few, 4 << 20), 12));
    for (what, mut act, rounds) in all {
        // `full` fills its lane before.
        let before = faults();
        (0..rounds).for_each(|_| act());
        assert_eq!(faults() - before, 0, "{what}: faults in {rounds} rounds");
    }
}

#[test]
fn no_real_time_safe_method_touches_a_page_that_is_not_there_from_the_first_one_on() {
    alone("faults nowhere");
}
