//! Ends of lanes against a peer that writes anything into their memory, before any look of theirs. What an end does may take no
//! more looks than [`STEPS`], give no error but a lane's, and look at nothing but the lane.
#![allow(unsafe_code)]

use super::*;
use crate::region::meanwhile;
use crate::{IpcMain, IpcRenderer, WebContents};
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

/// Looks at shared memory that one act may take: a batch of three on a full lane takes most.
const STEPS: usize = 32;

/// Room of the lanes below; the peer makes an end believe that more lies there.
const CAPACITY: usize = 4;
const SIZE: usize = 24;

type Fixed = [u8; SIZE];

/// An end of a lane with the honest things that can be done with it, and the other end's.
struct Scene {
    ours: Arc<Region>,
    theirs: Arc<Region>,
    /// What our end can do: by number.
    act: Box<dyn FnMut(usize) -> Result<(), LaneError>>,
    /// What an honest peer would do meanwhile.
    peer: Box<dyn FnMut()>,
}

type Make = fn(&WebContents, &IpcRenderer, &str) -> Scene;

/// Each kind of end, how many acts it has, and how to open one.
const SCENES: &[(&str, usize, Make)] = &[
    ("sender of a type", 6, |main, renderer, name| sender::<Fixed>(main, renderer, name, [7; SIZE], [0; SIZE])),
    ("sender of bytes", 6, sender_of_bytes),
    ("receiver of a type", 4, |main, renderer, name| receiver::<Fixed>(main, renderer, name, [7; SIZE])),
    ("receiver of bytes", 4, receiver_of_bytes),
    ("writer", 3, writer),
    ("reader", 4, reader),
    ("reader of bytes", 4, reader_of_bytes),
    ("who asks", 5, asks),
    ("who answers", 3, answers),
];

fn config() -> LaneConfig {
    LaneConfig::new().capacity(CAPACITY).max_record(SIZE).spin(Duration::ZERO)
}

fn past() -> Instant {
    Instant::now()
}

fn acts_of_sender<T: LaneRecord + ?Sized>(
    sender: &mut LaneSender<T>,
    which: usize,
    value: &T,
) -> Result<(), LaneError> {
    match which {
        0 => sender.try_send(value),
        1 => {
            let mut batch = sender.batch();
            let pushed = [batch.push(value), batch.push(value), batch.push(value)];
            batch.commit();
            pushed.into_iter().collect()
        }
        2 => {
            let mut batch = sender.batch();
            let pushed = [batch.push(value), batch.push(value), batch.push(value)];
            drop(batch);
            pushed.into_iter().collect()
        }
        3 => sender.loan()?.write_at(1, &[5; SIZE - 1]),
        4 => {
            assert!(sender.room() <= crate::records::slots_for(CAPACITY));
            Ok(())
        }
        _ => {
            let _ = (sender.is_full(), sender.is_open(), sender.stats());
            Ok(())
        }
    }
}

fn sender<T: Pod>(main: &WebContents, renderer: &IpcRenderer, name: &str, value: T, zero: T) -> Scene {
    let mut sender: LaneSender<T> = main.lane(name, &config()).expect("our end");
    let mut receiver: LaneReceiver<T> = renderer.lane(name, &config()).expect("the other end");
    let (ours, theirs) = (sender.region.clone(), receiver.region.clone());
    let act = Box::new(move |which: usize| acts_of_sender(&mut sender, which, &value));
    let mut got = zero;
    Scene { ours, theirs, act, peer: Box::new(move || _ = receiver.try_recv(&mut got)) }
}

fn sender_of_bytes(main: &WebContents, renderer: &IpcRenderer, name: &str) -> Scene {
    let mut sender: LaneSender<[u8]> = main.lane(name, &config()).expect("our end");
    let mut receiver: LaneReceiver<[u8]> = renderer.lane(name, &config()).expect("the other end");
    let (ours, theirs) = (sender.region.clone(), receiver.region.clone());
    let act = Box::new(move |which: usize| match which {
        3 => sender.loan()?.commit(SIZE),
        _ => acts_of_sender(&mut sender, which, &[7; 11][..]),
    });
    Scene { ours, theirs, act, peer: Box::new(move || _ = receiver.try_recv(&mut [0; SIZE][..])) }
}

fn acts_of_receiver<T: LaneRecord + ?Sized>(
    receiver: &mut LaneReceiver<T>,
    which: usize,
    to: &mut T,
) -> Result<(), LaneError> {
    match which {
        0 => receiver.try_recv(to).map(|received| assert!(received.is_none_or(|it| it.len <= SIZE))),
        1 => match receiver.peek()? {
            Some(record) => {
                assert!(record.len() <= SIZE);
                record.copy_to(to)?;
                record.release();
                Ok(())
            }
            None => Ok(()),
        },
        2 => receiver.recv_until(to, past()).map(drop),
        _ => {
            let _ = (receiver.is_open(), receiver.stats());
            Ok(())
        }
    }
}

fn receiver<T: Pod>(main: &WebContents, renderer: &IpcRenderer, name: &str, value: T) -> Scene {
    let mut receiver: LaneReceiver<T> = main.lane(name, &config()).expect("our end");
    let mut sender: LaneSender<T> = renderer.lane(name, &config()).expect("the other end");
    let (ours, theirs) = (receiver.region.clone(), sender.region.clone());
    let mut got = value;
    let act = Box::new(move |which: usize| acts_of_receiver(&mut receiver, which, &mut got));
    Scene { ours, theirs, act, peer: Box::new(move || _ = sender.try_send(&value)) }
}

fn receiver_of_bytes(main: &WebContents, renderer: &IpcRenderer, name: &str) -> Scene {
    let mut receiver: LaneReceiver<[u8]> = main.lane(name, &config()).expect("our end");
    let mut sender: LaneSender<[u8]> = renderer.lane(name, &config()).expect("the other end");
    let (ours, theirs) = (receiver.region.clone(), sender.region.clone());
    let act = Box::new(move |which: usize| {
        let mut got = [0xaa; SIZE + 8];
        let done = acts_of_receiver(&mut receiver, which, &mut got[..]);
        assert_eq!(got[SIZE..], [0xaa; 8], "written behind what a record may have");
        done
    });
    Scene { ours, theirs, act, peer: Box::new(move || _ = sender.try_send(&[9; 10][..])) }
}

fn writer(main: &WebContents, renderer: &IpcRenderer, name: &str) -> Scene {
    let mut writer: LatestWriter<Fixed> = main.lane(name, &config()).expect("our end");
    let mut reader: LatestReader<Fixed> = renderer.lane(name, &config()).expect("the other end");
    let (ours, theirs) = (writer.region.clone(), reader.region.clone());
    let act = Box::new(move |which: usize| match which {
        0 => writer.write(&[3; SIZE]),
        1 => {
            let mut loan = writer.loan()?;
            loan.write_at(3, &[4; 20])?;
            loan.commit();
            Ok(())
        }
        _ => {
            let _ = (writer.is_open(), writer.stats());
            Ok(())
        }
    });
    Scene { ours, theirs, act, peer: Box::new(move || _ = reader.read(&mut [0; SIZE])) }
}

fn acts_of_reader<T: LaneRecord + ?Sized>(
    reader: &mut LatestReader<T>,
    which: usize,
    to: &mut T,
) -> Result<(), LaneError> {
    match which {
        0 => reader.read(to).map(|received| assert!(received.is_none_or(|it| it.len <= SIZE))),
        1 => {
            let taken = reader.take();
            assert!(reader.copy_to(to)? <= SIZE);
            taken.map(drop)
        }
        2 => reader.read_until(to, past()).map(drop),
        _ => {
            let _ = (reader.is_open(), reader.stats());
            Ok(())
        }
    }
}

fn reader(main: &WebContents, renderer: &IpcRenderer, name: &str) -> Scene {
    let mut reader: LatestReader<Fixed> = main.lane(name, &config()).expect("our end");
    let mut writer: LatestWriter<Fixed> = renderer.lane(name, &config()).expect("the other end");
    let (ours, theirs) = (reader.region.clone(), writer.region.clone());
    let act = Box::new(move |which: usize| acts_of_reader(&mut reader, which, &mut [0; SIZE]));
    Scene { ours, theirs, act, peer: Box::new(move || _ = writer.write(&[8; SIZE])) }
}

fn reader_of_bytes(main: &WebContents, renderer: &IpcRenderer, name: &str) -> Scene {
    let mut reader: LatestReader<[u8]> = main.lane(name, &config()).expect("our end");
    let mut writer: LatestWriter<[u8]> = renderer.lane(name, &config()).expect("the other end");
    let (ours, theirs) = (reader.region.clone(), writer.region.clone());
    let act = Box::new(move |which: usize| {
        let mut got = [0xaa; SIZE + 8];
        let done = acts_of_reader(&mut reader, which, &mut got[..]);
        assert_eq!(got[SIZE..], [0xaa; 8], "written behind what a value may have");
        done
    });
    Scene { ours, theirs, act, peer: Box::new(move || _ = writer.write(&[8; 5][..])) }
}

fn asks(main: &WebContents, renderer: &IpcRenderer, name: &str) -> Scene {
    let mut host: LaneDuplex<Fixed, u64> = main.lane(name, &config()).expect("our end");
    let mut plugin: LaneDuplex<u64, Fixed> = renderer.lane(name, &config()).expect("the other end");
    let (ours, theirs) = (host.sender.region.clone(), plugin.sender.region.clone());
    let act = Box::new(move |which: usize| match which {
        0 => host.send_request(&[1; SIZE]),
        1 => host.exchange(&[2; SIZE], &mut 0, past()).map(drop),
        2 => host.try_recv_response(&mut 0).map(drop),
        3 => {
            host.loan_request()?.commit();
            Ok(())
        }
        _ => host.recv_response_until(&mut 0, past()).map(drop),
    });
    let peer = Box::new(move || {
        if plugin.recv_request_until(&mut [0; SIZE], past()).is_ok() {
            let _ = plugin.send_response(&9);
        }
    });
    Scene { ours, theirs, act, peer }
}

fn answers(main: &WebContents, renderer: &IpcRenderer, name: &str) -> Scene {
    let mut plugin: LaneDuplex<u64, Fixed> = main.lane(name, &config()).expect("our end");
    let mut host: LaneDuplex<Fixed, u64> = renderer.lane(name, &config()).expect("the other end");
    let (ours, theirs) = (plugin.sender.region.clone(), host.sender.region.clone());
    let act = Box::new(move |which: usize| match which {
        0 => plugin.recv_request_until(&mut [0; SIZE], past()).map(drop),
        1 => plugin.try_recv_request(&mut [0; SIZE]).map(drop),
        _ => plugin.send_response(&4),
    });
    Scene { ours, theirs, act, peer: Box::new(move || _ = host.exchange(&[1; SIZE], &mut 0, past())) }
}

/// The addresses of a region of this process.
fn addresses(region: &Region) -> Range<usize> {
    let start = region.start_of(0, 8, 8).expect("the first word").as_ptr() as usize;
    let pages = (1..).take_while(|pages| region.start_of(0, pages * 4096, 8).is_ok()).count();
    start..start + pages * 4096
}

/// What a peer has to write.
fn put(theirs: &Arc<Region>, offset: usize, bytes: usize, value: u64) {
    if bytes == 4 {
        theirs.word32(offset).expect("a word").store(value as u32, Ordering::Relaxed);
    } else {
        theirs.word64(offset & !7).expect("a word").store(value, Ordering::Relaxed);
    }
}

/// Values of words: at the edges of positions, of records' words, of flags, of slots.
fn values() -> Vec<u64> {
    let lengths = [0, 10, SIZE, SIZE + 1, (1 << 31) - 1].map(|len| len as u64);
    let mut values: Vec<u64> =
        lengths.iter().flat_map(|len| [len << 1, len << 1 | 1, 3 << 32 | len << 1 | 1]).collect();
    values.extend((2..=9).chain([SIZE as u64 + 1, u32::MAX.into(), 1 << 40, 1 << 63, u64::MAX, 0xff07]));
    values
}

fn is_an_answer_of_a_lane(done: Result<(), LaneError>) -> bool {
    use LaneError::{Closed, Corrupt, Full, TimedOut, TooLong};
    matches!(done, Ok(()) | Err(Closed | Corrupt | Full | TimedOut | TooLong))
}

/// Runs `act` while the peer is told of each look: its number, the offset and the bytes.
fn watched<T>(
    ours: &Arc<Region>,
    mut peer: impl FnMut(usize, usize, usize) + 'static,
    act: impl FnOnce() -> T,
) -> (T, usize) {
    let looks = Rc::new(RefCell::new(0));
    let (count, region) = (looks.clone(), addresses(ours));
    let done = meanwhile::while_it(
        move |address, bytes| {
            assert!(region.contains(&address) && address + bytes <= region.end, "a look outside of the lane");
            let mut count = count.borrow_mut();
            peer(*count, address - region.start, bytes);
            *count += 1;
        },
        act,
    );
    let looks = *looks.borrow();
    (done, looks)
}

/// What an honest lane has behind it: the peer's acts and ours before the act under test.
const BEFORE: &[&[(bool, usize)]] = &[
    &[],
    &[(false, 0), (false, 0), (false, 0), (false, 0)],
    &[(true, 0), (true, 0), (true, 0), (true, 0), (true, 0)],
    &[(false, 0), (true, 0), (false, 1), (true, 0), (false, 0), (true, 0)],
];

#[test]
fn every_word_that_an_end_looks_at_takes_any_value_before_any_look() {
    let ipc_main = IpcMain::new().expect("a main");
    let renderer = ipc_main.attach().expect("a renderer");
    let main = ipc_main.all_web_contents().remove(0);
    let mut scenes = 0;
    let mut made = |make: Make, before: &[(bool, usize)]| {
        scenes += 1;
        let mut scene = make(&main, &renderer, &format!("lane {scenes}"));
        for (is_peer, which) in before {
            if *is_peer { (scene.peer)() } else { _ = (scene.act)(*which) }
        }
        scene
    };
    let mut most = 0;
    for (name, acts, make) in SCENES {
        for before in BEFORE {
            for which in 0..*acts {
                let mut scene = made(*make, before);
                let looks = Rc::new(RefCell::new(Vec::new()));
                let seen = looks.clone();
                let watch = move |_, offset, _| seen.borrow_mut().push(offset);
                let (_, steps) = watched(&scene.ours.clone(), watch, || (scene.act)(which));
                drop(scene);
                assert!(steps <= STEPS, "{name}, act {which}: {steps} looks with an honest peer");
                let looks = looks.take();
                for (look, offset) in looks.into_iter().enumerate() {
                    for value in values() {
                        let mut scene = made(*make, before);
                        let theirs = scene.theirs.clone();
                        let changes = move |at, offset, bytes| {
                            if at == look {
                                put(&theirs, offset, bytes, value);
                            }
                        };
                        let (done, steps) = watched(&scene.ours.clone(), changes, || (scene.act)(which));
                        let what = format!("{name}, act {which}, look {look} at {offset}: {value:#x}");
                        assert!(is_an_answer_of_a_lane(done) && steps <= STEPS, "{what}: {done:?} after {steps} looks");
                        most = most.max(steps);
                        // And it goes on, or says what it is.
                        for which in 0..*acts {
                            let (next, steps) = watched(&scene.ours.clone(), |_, _, _| (), || (scene.act)(which));
                            assert!(is_an_answer_of_a_lane(next) && steps <= STEPS, "{what}, then {which}: {next:?}");
                        }
                    }
                }
            }
        }
    }
    assert!(scenes > 10_000 && most > 3, "{scenes} scenes, at most {most} looks");
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 11) % n as u64) as usize
    }
}

/// `RINGMAIN_TEST_SEED` and `RINGMAIN_TEST_ROUNDS` as in `tests/hostile.rs`.
#[test]
fn any_writes_at_any_time_leave_an_end_bounded_and_within_its_lane() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (first, rounds) = (number("RINGMAIN_TEST_SEED", 1), number("RINGMAIN_TEST_ROUNDS", 300));
    let ipc_main = IpcMain::new().expect("a main");
    let renderer = ipc_main.attach().expect("a renderer");
    let main = ipc_main.all_web_contents().remove(0);
    let values = values();
    let mut told = [0_u64; 6];
    for seed in first..first + rounds {
        for (name, acts, make) in SCENES {
            let random = Rc::new(RefCell::new(Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)));
            let mut scene = make(&main, &renderer, &format!("{name} {seed}"));
            let len = addresses(&scene.ours).len();
            // Some peers are hostile seldom, so that positions go far.
            let every = 1 + random.borrow_mut().below(60);
            for _ in 0..60 {
                let which = random.borrow_mut().below(acts + 1);
                if which == *acts {
                    (scene.peer)();
                    continue;
                }
                let (theirs, random, values) = (scene.theirs.clone(), random.clone(), values.clone());
                let writes = move |_, offset, bytes| {
                    let mut random = random.borrow_mut();
                    if random.below(every) == 0 {
                        let (offset, bytes) = match random.below(4) {
                            0 => (random.below(len / 8) * 8, 8),
                            _ => (offset, bytes),
                        };
                        let value = match random.below(4) {
                            0 => random.next(),
                            _ => values[random.below(values.len())],
                        };
                        put(&theirs, offset, bytes, value);
                    }
                };
                let (done, steps) = watched(&scene.ours.clone(), writes, || (scene.act)(which));
                assert!(
                    is_an_answer_of_a_lane(done) && steps <= STEPS,
                    "again: RINGMAIN_TEST_SEED={seed} RINGMAIN_TEST_ROUNDS=1: {name}, act {which}: {done:?}, {steps} looks"
                );
                told[done.err().map_or(0, |error| error as usize + 1)] += 1;
            }
        }
    }
    let [done, full, closed, timed_out, _too_long, corrupt] = told;
    let came = [done, full, closed, timed_out, corrupt];
    assert!(rounds < 100 || !came.contains(&0), "one answer never came: {came:?}");
}

/// More looks than a wait of some milliseconds takes, each of them a chance to find that it is over.
const FOR_EVER: usize = 100_000_000;

/// A wait of our end while its peer lets every other look at the word of this offset find a value, which the next one does not.
fn ends_at_its_deadline(
    what: &str,
    (ours, theirs): (&Arc<Region>, &Arc<Region>),
    (offset, bytes, value): (usize, usize, u64),
    mut wait: impl FnMut(Instant) -> Result<(), LaneError>,
) {
    for phase in 0..2 {
        let deadline = Instant::now() + Duration::from_millis(3);
        let (theirs, mut looks) = (theirs.clone(), phase);
        let shows = move |look, at, len| {
            assert!(look < FOR_EVER, "it still looks");
            if (at, len) == (offset, bytes) {
                put(&theirs, offset, bytes, if looks % 2 == 0 { 0 } else { value });
                looks += 1;
            }
        };
        let (done, _) = watched(ours, shows, || wait(deadline));
        assert!(is_an_answer_of_a_lane(done), "{what}, {phase}: {done:?}");
        assert!(done != Err(LaneError::TimedOut) || Instant::now() >= deadline, "{what}: {done:?} before its deadline");
        put(ours, offset, bytes, 0);
    }
}

#[test]
fn a_peer_that_shows_something_and_takes_it_away_for_ever_holds_nobody_beyond_the_deadline() {
    let ipc_main = IpcMain::new().expect("a main");
    let renderer = ipc_main.attach().expect("a renderer");
    let main = ipc_main.all_web_contents().remove(0);
    let config = config();
    let closed = (LaneLayout::block(false) + words::SENDER, 4, 2);

    let mut receiver: LaneReceiver<u64> = main.lane("records", &config).expect("our end");
    let sender: LaneSender<u64> = renderer.lane("records", &config).expect("the other end");
    let regions = (&receiver.region.clone(), &sender.region);
    ends_at_its_deadline("closed", regions, closed, |deadline| receiver.recv_until(&mut 0, deadline).map(drop));
    let word = first_look(&receiver.region.clone(), || receiver.try_recv(&mut 0));
    let record = (word, 8, 8 << 1 | 1);
    ends_at_its_deadline("a record", regions, record, |deadline| receiver.recv_until(&mut 0, deadline).map(drop));

    let mut reader: LatestReader<u64> = main.lane("latest", &config).expect("our end");
    let writer: LatestWriter<u64> = renderer.lane("latest", &config).expect("the other end");
    let regions = (&reader.region.clone(), &writer.region);
    ends_at_its_deadline("closed", regions, closed, |deadline| reader.read_until(&mut 0, deadline).map(drop));
    let value = (LaneLayout::block(false) + words::MIDDLE, 8, 1 << 8 | 4);
    ends_at_its_deadline("a value", regions, value, |deadline| reader.read_until(&mut 0, deadline).map(drop));

    let mut host: LaneDuplex<u64, u64> = main.lane("exchange", &config.clone().capacity(64)).expect("our end");
    let plugin: LaneDuplex<u64, u64> = renderer.lane("exchange", &config).expect("the other end");
    let regions = (&host.sender.region.clone(), &plugin.sender.region);
    let word = first_look(&host.receiver.region.clone(), || host.receiver.try_recv(&mut 0));
    for answer in [8 << 1 | 1, 77 << 32 | 8 << 1 | 1] {
        let record = (word, 8, answer);
        ends_at_its_deadline("an answer", regions, record, |deadline| host.exchange(&1, &mut 0, deadline).map(drop));
    }
}

/// Where an act looks first at 64 bits.
fn first_look<T>(ours: &Arc<Region>, act: impl FnOnce() -> T) -> usize {
    let first = Rc::new(RefCell::new(None));
    let seen = first.clone();
    let sees = move |_, offset, bytes| {
        if bytes == 8 {
            seen.borrow_mut().get_or_insert(offset);
        }
    };
    watched(ours, sees, act);
    first.take().expect("a look")
}

/// Rung without end, as by a peer that writes nothing else.
#[test]
fn a_receiver_that_is_rung_for_nothing_without_end_still_wakes_at_its_deadline() {
    let ipc_main = IpcMain::new().expect("a main");
    let renderer = ipc_main.attach().expect("a renderer");
    let main = ipc_main.all_web_contents().remove(0);
    let mut receiver: LaneReceiver<u64> = main.lane("rung", &config()).expect("our end");
    let sender: LaneSender<u64> = renderer.lane("rung", &config()).expect("the other end");
    let mut reader: LatestReader<u64> = main.lane("rung too", &config()).expect("our end");
    let writer: LatestWriter<u64> = renderer.lane("rung too", &config()).expect("the other end");
    let bells = [&sender.region, &writer.region]
        .map(|region| region.word32(LaneLayout::block(false) + words::BELL).expect("the bell"));
    let is_over = Arc::new(AtomicBool::new(false));
    let stop = is_over.clone();
    let rung = Arc::new(AtomicU32::new(0));
    let rings = rung.clone();
    let storm = std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            for bell in &bells {
                bell.fetch_add(1, Ordering::Release);
                crate::sys::futex_wake(bell, crate::sys::Scope::Shared, u32::MAX);
            }
            rings.fetch_add(1, Ordering::Relaxed);
        }
    });
    for round in 0..20 {
        let before = rung.load(Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_millis(2 + round % 3);
        assert_eq!(receiver.recv_until(&mut 0, deadline), Err(LaneError::TimedOut));
        let passed = Instant::now();
        assert!(passed >= deadline);
        let deadline = passed + Duration::from_millis(1);
        assert_eq!(reader.read_until(&mut 0, deadline), Err(LaneError::TimedOut));
        assert!(Instant::now() >= deadline);
        while rung.load(Ordering::Relaxed) == before {
            std::thread::yield_now();
        }
    }
    is_over.store(true, Ordering::Relaxed);
    storm.join().expect("no panic");
    assert!(sender.is_open() && writer.is_open());
}
