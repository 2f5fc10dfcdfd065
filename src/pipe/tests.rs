use super::*;
use crate::ring::max_record;
use crate::wake::{DEFAULT_WAKE_COST_NS, Wait};
use std::collections::HashMap;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc;
use std::thread;

const LONG: Duration = Duration::from_secs(30);

struct Ends {
    main: Arc<Pipe>,
    renderer: Arc<Pipe>,
    budget: Arc<Budget>,
    region: Arc<Region>,
    layout: Layout,
}

/// Both ends of a pipe in this process; both dispatchers sleep in futexes.
fn pipe(ring_bytes: usize, queue_limit: usize, max_message: usize, process_limit: usize) -> Ends {
    let layout = Layout::new(ring_bytes, 3);
    let region = Region::in_process(layout.region);
    let budget = Budget::new(process_limit);
    let end = |is_main| {
        let limits = [queue_limit, max_message];
        Arc::new(Pipe::new(Parts::in_process(&region, layout, is_main, Sleep::probe(), &budget, limits)).unwrap())
    };
    Ends { main: end(true), renderer: end(false), budget, region, layout }
}

fn small() -> Ends {
    pipe(1024, 16 << 20, 1 << 20, 64 << 20)
}

fn message(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 31 + at) as u8).collect()
}

fn send(pipe: &Pipe, bytes: &[u8]) -> Result<(), SendError> {
    pipe.send(&mut bytes.to_vec(), SendMode::default())
}

/// Reads what is there, as a dispatcher does.
fn read_all(pipe: &Pipe) -> Result<Vec<Vec<u8>>, Violation> {
    let mut read = Vec::new();
    let mut buffer = Vec::new();
    let mut rx = pipe.try_lead().expect("the role is free");
    let end = loop {
        match pipe.read(&mut rx, &mut buffer) {
            Ok(Read::Message) => read.push(buffer.clone()),
            Ok(Read::Part) => {}
            Ok(Read::Nothing | Read::NoBudget) => break Ok(()),
            Err(violation) => break Err(violation),
        }
    };
    pipe.step_aside(rx);
    end.map(|()| read)
}

fn spin() -> Spin {
    Spin::new(Wait::Adaptive, Arc::new(AtomicU32::new(DEFAULT_WAKE_COST_NS)))
}

#[test]
fn messages_of_every_length_around_the_boundaries_arrive_in_order() {
    let Ends { main, renderer, budget, layout, .. } = small();
    let ring = layout.to_main.words * 8;
    let around = |boundary: usize| boundary.saturating_sub(9)..boundary + 10;
    let lengths: Vec<usize> = [0, ring / 4, ring / 2, max_record(layout.to_main.words), ring, 4 * ring, 64 * 1024]
        .into_iter()
        .flat_map(around)
        .collect();
    for (number, len) in lengths.iter().enumerate() {
        send(&main, &message(number, *len)).unwrap();
        let mut got = Vec::new();
        // Writer and reader take turns, as two processes would.
        for _ in 0..100_000 {
            got.extend(read_all(&renderer).unwrap());
            if !got.is_empty() {
                break;
            }
            main.drain_queue().unwrap();
        }
        assert!(got == [message(number, *len)], "{len} bytes");
    }
    assert_eq!(main.queued(), 0);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_queue_refuses_what_comes_when_its_limit_waits_and_an_empty_one_takes_any_message() {
    let Ends { main, renderer, budget, .. } = pipe(1024, 10_000, 1 << 20, 64 << 20);
    send(&main, &message(0, 1 << 20)).expect("an empty queue takes any legal message");
    assert!(main.queued() > 10_000);
    let queued = main.queued();
    assert_eq!(send(&main, b"x"), Err(SendError::Full { queued, limit: 10_000 }));
    main.send(&mut b"beyond".to_vec(), SendMode { beyond_limit: true, quiet: false, routed: false }).unwrap();
    let mut got = Vec::new();
    while got.len() < 2 {
        got.extend(read_all(&renderer).unwrap());
        main.drain_queue().unwrap();
    }
    assert!(got[0] == message(0, 1 << 20));
    assert_eq!(got[1], b"beyond");
    send(&main, b"after").unwrap();
    assert_eq!(read_all(&renderer).unwrap(), [b"after"]);
    assert_eq!(budget.used(), 0);
}

/// Whoever has looked whether the peer is gone may come to the queue when it has been emptied for good.
#[test]
fn what_is_sent_while_the_link_ends_is_refused_and_keeps_nothing_of_the_budget() {
    for looked in [false, true] {
        let Ends { main, budget, .. } = small();
        for number in 0..4 {
            send(&main, &message(number, 100_000)).unwrap();
        }
        main.set_gone();
        main.discard();
        let refused = match looked {
            true => main.send_queued(&mut main.tx.lock(), &mut message(4, 100_000), SendMode::default()),
            false => send(&main, &message(4, 100_000)),
        };
        assert_eq!(refused, Err(SendError::Gone));
        assert_eq!((main.queued(), budget.used()), (0, 0));
    }
}

#[test]
fn messages_of_other_peers_take_a_quarter_of_a_queue_and_the_rest_stays_for_ours() {
    const ROUTED: SendMode = SendMode { routed: true, quiet: false, beyond_limit: false };
    let Ends { main, renderer, budget, .. } = pipe(1024, 10_000, 1 << 20, 64 << 20);
    let routed = |number: usize, len: usize| main.send(&mut message(number, len), ROUTED);
    routed(0, 2000).expect("an empty share takes any legal message");
    let first = main.queued();
    routed(1, 2000).expect("what waits is less than the share");
    let used = first + 2000;
    assert_eq!(main.queued(), used);
    assert_eq!(routed(2, 1), Err(SendError::ShareFull { used, limit: 2500 }), "4000 less what the ring took");
    send(&main, &message(3, 3000)).expect("the rest of the queue is ours");
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(read_all(&renderer).unwrap());
        main.drain_queue().unwrap();
    }
    assert!(got == [message(0, 2000), message(1, 2000), message(3, 3000)]);
    routed(4, 2000).expect("what was read makes room in the share again");
    drop((main, renderer));
    assert_eq!(budget.used(), 0);
}

#[test]
fn messages_of_other_peers_leave_half_of_the_process_limit_alone() {
    let budget = Budget::new(1000);
    budget.take_for(501, true).unwrap();
    assert_eq!(budget.take_for(1, true), Err(SendError::ShareFull { used: 501, limit: 500 }));
    budget.take_for(499, false).unwrap();
    assert_eq!(budget.take_for(1, false), Err(SendError::ProcessFull { used: 1000, limit: 1000 }));
}

#[test]
fn the_limit_of_the_process_refuses_too_and_is_given_back_when_a_pipe_is_dropped() {
    let Ends { main, renderer, budget, .. } = pipe(1024, 1 << 20, 1 << 20, 5000);
    send(&main, &message(0, 2000)).unwrap();
    send(&main, &message(0, 1000)).unwrap();
    let used = budget.used();
    assert_eq!(send(&main, &message(0, 4000)), Err(SendError::ProcessFull { used, limit: 5000 }));
    // Half a message was read: its whole length is reserved.
    read_all(&renderer).unwrap();
    assert!(budget.used() > used);
    drop((main, renderer));
    assert_eq!(budget.used(), 0);
}

#[test]
fn an_announced_message_takes_only_what_has_arrived_and_a_discarded_end_gives_all_of_it_back() {
    let Ends { main, renderer, budget, .. } = pipe(1024, 1 << 20, 1 << 20, 2 << 20);
    send(&main, &message(0, 1 << 20)).unwrap();
    read_all(&renderer).unwrap();
    let waits = main.queued();
    assert!(budget.used() < waits + 2048, "{} for a whole mebibyte announced", budget.used() - waits);
    assert!(budget.used() > waits);
    renderer.set_gone();
    renderer.discard();
    assert_eq!(budget.used(), waits);
    main.set_gone();
    main.discard();
    assert_eq!(budget.used(), 0);
}

#[test]
fn what_is_discarded_while_somebody_holds_the_role_is_given_back_when_that_is_passed_on() {
    let Ends { main, renderer, budget, region, .. } = pipe(1024, 1 << 20, 1 << 20, 2 << 20);
    send(&main, &message(0, 1 << 20)).unwrap();
    read_all(&renderer).unwrap();
    let waits = main.queued();
    assert!(budget.used() > waits);
    // As a caller that sleeps.
    let rx = renderer.try_lead().expect("free");
    renderer.set_gone();
    renderer.discard();
    assert!(budget.used() > waits, "it may be read now");
    renderer.step_aside(rx);
    assert_eq!(budget.used(), waits);
    drop(region);
}

#[test]
fn a_large_message_waits_for_the_budget_and_arrives_when_there_is_room() {
    let Ends { main, renderer, budget, .. } = pipe(1024, 1 << 20, 1 << 20, 10_000);
    send(&main, &message(1, 2000)).unwrap();
    assert!(budget.take(8_000), "somebody else uses it up");
    assert!(read_all(&renderer).unwrap().is_empty());
    budget.give_back(8_000);
    let mut got = Vec::new();
    while got.is_empty() {
        got.extend(read_all(&renderer).unwrap());
        main.drain_queue().unwrap();
    }
    assert!(got == [message(1, 2000)]);
}

#[test]
fn a_pipe_whose_peer_is_gone_takes_nothing_and_gives_what_is_left() {
    let Ends { main, renderer, .. } = small();
    send(&main, b"last").unwrap();
    renderer.set_gone();
    assert_eq!(send(&renderer, b"x"), Err(SendError::Gone));
    assert_eq!(read_all(&renderer).unwrap(), [b"last"]);
}

/// Writes records by hand into the ring that the renderer writes.
fn by_hand(ends: &Ends) -> Writer {
    let place = ends.layout.to_main;
    let head = ends.layout.block(false) + direction::HEAD;
    Writer::new(ends.region.words(place.offset, place.words).unwrap(), ends.region.word64(head).unwrap())
}

#[test]
fn each_broken_rule_of_chunks_is_a_violation_with_its_numbers() {
    let first = |whole: u64, len: usize| {
        let mut bytes = whole.to_le_bytes().to_vec();
        bytes.resize(8 + len, 7);
        (Kind::First, bytes)
    };
    let more = |len: usize| (Kind::More, vec![7; len]);
    let whole = |len: usize| (Kind::Whole, vec![7; len]);
    let table = [
        (vec![more(8)], "a chunk arrived that belongs to no message"),
        (vec![first(100, 50), first(100, 50)], "a message began while another had 50 of its 100 bytes"),
        (vec![first(100, 50), whole(8)], "a message began while another had 50 of its 100 bytes"),
        (vec![first(1001, 50)], "a message of 1001 bytes began, 1000 are agreed"),
        (vec![first(u64::MAX, 50)], "a message of 18446744073709551615 bytes began, 1000 are agreed"),
        (vec![first(100, 100)], "a chunk of 100 bytes arrived for a message that has 0 of 100"),
        (vec![first(100, 0)], "a chunk of 0 bytes arrived for a message that has 0 of 0"),
        (vec![(Kind::First, vec![7; 4])], "a chunk of 0 bytes arrived for a message that has 0 of 0"),
        (vec![first(100, 50), more(0)], "a chunk of 0 bytes arrived for a message that has 50 of 100"),
        (vec![first(100, 50), more(51)], "a chunk of 51 bytes arrived for a message that has 50 of 100"),
    ];
    for (records, expected) in table {
        let ends = pipe(1024, 1 << 20, 1000, 1 << 20);
        let mut writer = by_hand(&ends);
        for (kind, bytes) in records {
            let mut record = writer.reserve(bytes.len()).unwrap();
            record.write(0, &bytes);
            record.commit(kind);
        }
        assert_eq!(read_all(&ends.main).unwrap_err().to_string(), expected);
        assert!(ends.main.role_is_free());
    }
    let ends = pipe(1 << 20, 1 << 20, 1000, 1 << 20);
    let mut writer = by_hand(&ends);
    let mut record = writer.reserve(1001).unwrap();
    record.write(0, &[7; 1001]);
    record.commit(Kind::Whole);
    assert!(matches!(read_all(&ends.main), Err(Violation::TooLong { len: 1001, limit: 1000 })));
}

#[test]
fn an_impossible_head_is_told_to_the_sender() {
    let ends = small();
    let head = ends.region.word64(ends.layout.block(true) + direction::HEAD).unwrap();
    head.store(u64::MAX, Ordering::Relaxed);
    let error = (0..100).find_map(|_| send(&ends.main, &[0; 200]).err());
    assert!(matches!(error, Some(SendError::Corrupt(_))), "{error:?}");
}

/// A process: a dispatcher thread over one end, as the driver has it, that hands messages to `handle`.
fn dispatcher(pipe: Arc<Pipe>, mut handle: impl FnMut(&Pipe, Vec<u8>) + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let (sleep, bell) = (Sleep::probe(), pipe.dispatcher.clone());
        let mut buffer = Vec::new();
        loop {
            bell.clear();
            let (word, expected) = pipe.dispatcher_word();
            pipe.drain_queue().unwrap();
            let mut read = Vec::new();
            if let Some(mut rx) = pipe.try_lead() {
                while pipe.read(&mut rx, &mut buffer).unwrap() == Read::Message {
                    read.push(std::mem::take(&mut buffer));
                }
                pipe.step_aside(rx);
            }
            if !read.is_empty() {
                read.into_iter().for_each(|message| handle(&pipe, message));
                continue;
            }
            if pipe.is_gone() {
                return;
            }
            if pipe.dispatcher_may_sleep(true).unwrap() && bell.prepare() {
                sleep.on(word, expected, &bell, Some(Instant::now() + LONG));
            }
        }
    })
}

#[test]
fn both_rings_and_queues_full_at_once_neither_lock_up_nor_lose_order() {
    const MESSAGES: usize = 3000;
    let Ends { main, renderer, budget, .. } = small();
    let (told, tells) = mpsc::channel();
    let mut threads = Vec::new();
    for end in [&main, &renderer] {
        let told = told.clone();
        let mut next = 0;
        threads.push(dispatcher(end.clone(), move |_, bytes| {
            assert!(bytes == message(next, (next * 37) % 3000), "message {next}");
            next += 1;
            if next == MESSAGES {
                told.send(()).unwrap();
            }
        }));
    }
    let senders: Vec<_> = [&main, &renderer]
        .into_iter()
        .cloned()
        .map(|end| {
            thread::spawn(move || {
                for number in 0..MESSAGES {
                    send(&end, &message(number, (number * 37) % 3000)).unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    for _ in 0..2 {
        tells.recv_timeout(LONG).expect("all messages");
    }
    main.set_gone();
    renderer.set_gone();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(budget.used(), 0);
}

/// A caller that waits for the answer with its number; answers of others go to their slots.
struct Caller<'a> {
    slots: &'a std::sync::Mutex<HashMap<u64, Option<Arc<Bell>>>>,
    id: u64,
}

impl Waiter for Caller<'_> {
    fn is_done(&mut self) -> bool {
        !self.slots.lock().unwrap().contains_key(&self.id)
    }

    fn route(&mut self, message: &mut Vec<u8>) -> Routed {
        let id = u64::from_le_bytes(message[..8].try_into().unwrap());
        let bell = self.slots.lock().unwrap().remove(&id).expect("each is answered once");
        if let Some(bell) = bell {
            bell.ring();
        }
        Routed::Moved
    }

    fn may_read(&mut self) -> bool {
        true
    }

    fn settle(&mut self) {}

    fn sleeps(&mut self, _bell: &Arc<Bell>) {}
}

#[test]
fn many_threads_call_through_one_pipe_and_each_gets_its_answer() {
    const THREADS: u64 = 8;
    const CALLS: u64 = 1500;
    for mode in [Wait::Adaptive, Wait::Park] {
        let Ends { main, renderer, budget, .. } = small();
        // The other process echoes.
        let echo = dispatcher(main.clone(), |pipe, mut bytes| {
            pipe.send(&mut bytes, SendMode { quiet: true, beyond_limit: true, routed: false }).unwrap();
        });
        // Ours has a dispatcher too, which is handed what callers leave in the ring.
        let slots: Arc<std::sync::Mutex<HashMap<u64, Option<Arc<Bell>>>>> = Arc::default();
        let own = {
            let slots = slots.clone();
            dispatcher(renderer.clone(), move |_, mut bytes| {
                Caller { slots: &slots, id: 0 }.route(&mut bytes);
            })
        };
        let callers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (renderer, slots) = (renderer.clone(), slots.clone());
                thread::spawn(move || {
                    let (bell, mut buffer) = (Bell::new(), Vec::new());
                    let spin = Spin::new(mode, Arc::new(AtomicU32::new(DEFAULT_WAKE_COST_NS)));
                    for call in 0..CALLS {
                        let id = thread * CALLS + call + 1;
                        slots.lock().unwrap().insert(id, Some(bell.clone()));
                        let mut bytes = id.to_le_bytes().to_vec();
                        bytes.resize(8 + (id as usize * 13) % 1200, 1);
                        renderer.send(&mut bytes, SendMode::default()).unwrap();
                        let mut waiter = Caller { slots: &slots, id };
                        let until = Some(Instant::now() + LONG);
                        let waited = renderer.wait_until(&mut waiter, &bell, &spin, until, &mut buffer);
                        assert_eq!(waited, Waited::Done, "call {id}");
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        assert!(renderer.callers.lock().is_empty());
        main.set_gone();
        renderer.set_gone();
        echo.join().unwrap();
        own.join().unwrap();
        assert!(renderer.role_is_free());
        assert_eq!(budget.used(), 0);
    }
}

#[test]
fn a_caller_gets_what_is_left_and_then_learns_that_the_peer_is_gone() {
    let Ends { main, renderer, .. } = small();
    let slots: std::sync::Mutex<HashMap<u64, Option<Arc<Bell>>>> =
        std::sync::Mutex::new(HashMap::from([(1, None), (2, None)]));
    send(&main, &1u64.to_le_bytes()).unwrap();
    renderer.set_gone();
    let (bell, mut buffer) = (Bell::new(), Vec::new());
    let mut wait = |id| renderer.wait_until(&mut Caller { slots: &slots, id }, &bell, &spin(), None, &mut buffer);
    assert_eq!(wait(1), Waited::Done);
    assert_eq!(wait(2), Waited::Gone);
}

#[test]
fn a_caller_whose_time_is_over_leaves_and_the_dispatcher_is_announced() {
    let Ends { main, renderer, .. } = small();
    let slots: std::sync::Mutex<HashMap<u64, Option<Arc<Bell>>>> = std::sync::Mutex::new(HashMap::from([(1, None)]));
    let (bell, mut buffer) = (Bell::new(), Vec::new());
    let until = Some(Instant::now() + Duration::from_millis(2));
    let mut waiter = Caller { slots: &slots, id: 1 };
    assert_eq!(renderer.wait_until(&mut waiter, &bell, &spin(), until, &mut buffer), Waited::TimedOut);
    assert_eq!(renderer.own.announced() & 3, wake::DISPATCHER);
    assert!(renderer.callers.lock().is_empty());
    // So the next message rings it.
    let before = renderer.own.dispatcher.load(Ordering::Relaxed);
    send(&main, b"hello").unwrap();
    assert_eq!(renderer.own.dispatcher.load(Ordering::Relaxed), before + 1);
}

/// A caller that only ever waits for its flag, asleep as soon as it may.
fn waits(pipe: &Pipe, bell: &Arc<Bell>, until: Option<Instant>, is_done: impl Fn() -> bool) -> Waited {
    struct Flag<F>(F);
    impl<F: Fn() -> bool> Waiter for Flag<F> {
        fn is_done(&mut self) -> bool {
            (self.0)()
        }
        fn route(&mut self, _: &mut Vec<u8>) -> Routed {
            Routed::Moved
        }
        fn may_read(&mut self) -> bool {
            true
        }
        fn settle(&mut self) {}

        fn sleeps(&mut self, _bell: &Arc<Bell>) {}
    }
    let spin = Spin::new(Wait::Park, Arc::new(AtomicU32::new(0)));
    pipe.wait_until(&mut Flag(is_done), bell, &spin, until, &mut Vec::new())
}

fn wait_for(mut what: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !what() {
        assert!(Instant::now() < until, "it never came to that");
        thread::yield_now();
    }
}

#[test]
fn a_message_without_bytes_that_found_no_room_is_drained_too() {
    let Ends { main, renderer, .. } = small();
    let mut sent = 0;
    while main.queued() == 0 && sent < 10_000 {
        send(&main, b"").unwrap();
        sent += 1;
    }
    assert!(main.queued() > 0, "a queue that is not empty says so, even if no byte waits");
    let mut got = read_all(&renderer).unwrap();
    assert!(main.drain_queue().unwrap());
    got.extend(read_all(&renderer).unwrap());
    assert_eq!(got, vec![Vec::<u8>::new(); sent]);
    assert_eq!(main.queued(), 0);
}

#[test]
fn a_ring_full_of_quiet_replies_wakes_its_reader() {
    let Ends { main, renderer, .. } = small();
    assert_eq!(renderer.dispatcher_may_sleep(true), Ok(true));
    let (_, before) = renderer.dispatcher_word();
    while main.queued() == 0 {
        assert_eq!(renderer.dispatcher_word().1, before, "not rung for what its callers wait for awake");
        main.send(&mut vec![1; 100], SendMode { quiet: true, beyond_limit: false, routed: false }).unwrap();
    }
    assert_eq!(renderer.dispatcher_word().1, before + 1, "rung, because the ring is full");
}

#[test]
fn who_follows_and_waits_for_room_is_told_when_the_leader_has_drained() {
    let Ends { main, renderer, .. } = small();
    let bells = [Bell::new(), Bell::new()];
    let done = Arc::new(AtomicBool::new(false));
    let leading = {
        let (renderer, bell, done) = (renderer.clone(), bells[0].clone(), done.clone());
        thread::spawn(move || waits(&renderer, &bell, Some(Instant::now() + LONG), || done.load(Ordering::Acquire)))
    };
    wait_for(|| renderer.callers.lock().len() == 1);
    send(&renderer, &message(1, 10_000)).unwrap();
    let flushing = {
        let (renderer, bell) = (renderer.clone(), bells[1].clone());
        thread::spawn(move || {
            renderer.begin_to_wait_for_room();
            let waited = waits(&renderer, &bell, Some(Instant::now() + LONG), || renderer.queued() == 0);
            renderer.end_to_wait_for_room();
            waited
        })
    };
    wait_for(|| renderer.callers.lock().len() == 2);
    let mut got = Vec::new();
    wait_for(|| {
        got.extend(read_all(&main).unwrap());
        !got.is_empty()
    });
    assert_eq!(got, [message(1, 10_000)]);
    assert_eq!(flushing.join().unwrap(), Waited::Done);
    assert!(!leading.is_finished());
    done.store(true, Ordering::Release);
    bells[0].ring();
    assert_eq!(leading.join().unwrap(), Waited::Done);
}

#[test]
fn the_peers_death_ends_every_sleep_of_the_leader_and_of_those_who_follow() {
    let Ends { renderer, .. } = small();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let renderer = renderer.clone();
            thread::spawn(move || waits(&renderer, &Bell::new(), Some(Instant::now() + LONG), || false))
        })
        .collect();
    wait_for(|| renderer.callers.lock().len() == 4);
    renderer.set_gone();
    for thread in waiting {
        assert_eq!(thread.join().unwrap(), Waited::Gone);
    }
    assert!(renderer.callers.lock().is_empty());
    assert!(renderer.role_is_free());
}

#[test]
fn a_leader_that_leaves_an_unreadable_message_behind_rings_the_dispatcher() {
    let Ends { main, renderer, budget, .. } = pipe(1024, 1 << 20, 1 << 20, 10_000);
    send(&main, &message(1, 2000)).unwrap();
    assert!(budget.take(8_000), "somebody else uses it up");
    assert_eq!(renderer.dispatcher_may_sleep(false), Ok(true));
    renderer.dispatcher.clear();
    let until = Some(Instant::now() + Duration::from_millis(2));
    assert_eq!(waits(&renderer, &Bell::new(), until, || false), Waited::TimedOut);
    assert!(renderer.dispatcher.is_rung(), "the peer rings no second time for what lies there");
    budget.give_back(8_000);
}

#[test]
fn a_peer_that_wakes_a_caller_over_and_over_for_nothing_breaks_the_rules() {
    for changes in [1, 0] {
        let Ends { renderer, region, layout, .. } = small();
        let slots: std::sync::Mutex<HashMap<u64, Option<Arc<Bell>>>> =
            std::sync::Mutex::new(HashMap::from([(1, None)]));
        let word = region.word32(layout.block(true) + direction::CALLER).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let storm = {
            let stop = stop.clone();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    word.fetch_add(changes, Ordering::Relaxed);
                    crate::sys::futex_wake(&word, crate::sys::Scope::Shared, 1);
                }
            })
        };
        let (bell, mut buffer) = (Bell::new(), Vec::new());
        let spin = Spin::new(Wait::Park, Arc::new(AtomicU32::new(0)));
        let until = Some(Instant::now() + 10 * LONG);
        let waited = renderer.wait_until(&mut Caller { slots: &slots, id: 1 }, &bell, &spin, until, &mut buffer);
        stop.store(true, Ordering::Relaxed);
        storm.join().unwrap();
        assert_eq!(waited, Waited::Violation(Violation::RungForNothing), "the word changes by {changes}");
    }
}

#[test]
fn a_caller_may_be_rung_for_each_of_many_chunks() {
    let ends = small();
    let (mut writer, main) = (by_hand(&ends), ends.main.clone());
    let got = Arc::new(AtomicBool::new(false));
    let is_got = got.clone();
    let waiting = thread::spawn(move || {
        waits(&main, &Bell::new(), Some(Instant::now() + 10 * LONG), || is_got.load(Ordering::Acquire))
    });
    let sleeper = ends.region.word32(ends.layout.block(false) + direction::SLEEPER).unwrap();
    let caller = ends.region.word32(ends.layout.block(false) + direction::CALLER).unwrap();
    let chunks = RINGS_FOR_NOTHING + 10;
    let first = [(8 * u64::from(chunks)).to_le_bytes(), [7; 8]].concat();
    for chunk in 0..chunks {
        wait_for(|| waiting.is_finished() || sleeper.swap(0, Ordering::AcqRel) == wake::CALLER);
        assert!(!waiting.is_finished(), "it gave up after {chunk} of {chunks} chunks");
        let (kind, bytes) = if chunk == 0 { (Kind::First, &first[..]) } else { (Kind::More, &first[8..]) };
        let mut record = writer.reserve(bytes.len()).unwrap();
        record.write(0, bytes);
        record.commit(kind);
        caller.fetch_add(1, Ordering::Release);
        crate::sys::futex_wake(&caller, crate::sys::Scope::Shared, 1);
    }
    got.store(true, Ordering::Release);
    ends.main.ring_callers();
    assert_eq!(waiting.join().unwrap(), Waited::Done);
}

#[test]
fn a_large_message_that_comes_byte_by_byte_is_read_in_parts() {
    let ends = pipe(128 << 10, 1 << 20, 1 << 20, 1 << 20);
    let mut writer = by_hand(&ends);
    let whole = 4 * CHUNKS_AT_ONCE as usize + 8;
    let mut put = |kind, bytes: &[u8]| {
        let mut record = writer.reserve(bytes.len()).unwrap();
        record.write(0, bytes);
        record.commit(kind);
    };
    put(Kind::First, &[&(whole as u64).to_le_bytes()[..], &[7; 8]].concat());
    (8..whole).for_each(|_| put(Kind::More, &[7]));
    let mut rx = ends.main.try_lead().unwrap();
    let mut buffer = Vec::new();
    for part in 1..4 {
        assert_eq!(ends.main.read(&mut rx, &mut buffer), Ok(Read::Part));
        assert_eq!(rx.assembly.len(), 8 + part * CHUNKS_AT_ONCE as usize);
    }
    assert_eq!(ends.main.read(&mut rx, &mut buffer), Ok(Read::Message));
    assert_eq!(buffer, vec![7; whole]);
    assert_eq!(ends.budget.used(), 0);
}

#[test]
fn who_waits_for_a_peer_that_is_gone_reads_what_lay_there_and_not_what_is_added_for_ever() {
    // Somebody else has the memory: each message that is read is followed by another one.
    struct Endless<'a>(Writer, &'a mut u64);
    impl Waiter for Endless<'_> {
        fn is_done(&mut self) -> bool {
            false
        }
        fn route(&mut self, _: &mut Vec<u8>) -> Routed {
            *self.1 += 1;
            assert!(*self.1 < 10_000, "it reads without end");
            self.0.reserve(8).unwrap().commit(Kind::Whole);
            Routed::Moved
        }
        fn may_read(&mut self) -> bool {
            true
        }
        fn settle(&mut self) {}

        fn sleeps(&mut self, _bell: &Arc<Bell>) {}
    }
    let ends = small();
    let mut writer = by_hand(&ends);
    let in_ring = ends.layout.to_main.words as u64 / 4;
    (0..in_ring).for_each(|_| writer.reserve(8).unwrap().commit(Kind::Whole));
    ends.main.set_gone();
    let mut read = 0;
    let mut endless = Endless(writer, &mut read);
    let waited = ends.main.wait_until(&mut endless, &Bell::new(), &spin(), None, &mut Vec::new());
    assert_eq!(waited, Waited::Gone);
    assert!(read >= in_ring, "all that lay there is read");
}

// ---- words that change while they are read ------------------------------------------------------------------------

/// What lies in the ring: whole messages below and above what is copied in one block, padding, a message in chunks.
const RECORDS: [(Kind, usize); 8] = [
    (Kind::Whole, 24),
    (Kind::Whole, 300),
    (Kind::First, 8 + 100),
    (Kind::More, 100),
    (Kind::More, 100),
    (Kind::Whole, 0),
    // Does not fit up to the end.
    (Kind::Whole, 400),
    (Kind::Whole, 30),
];

/// Lengths that whoever reads these records gets.
const LENGTHS: [usize; 6] = [24, 300, 300, 0, 400, 30];

struct Prepared {
    ends: Ends,
    /// Positions of the record words, the padding's included, and of the word behind the last record.
    records: Vec<u64>,
}

fn prepared() -> Prepared {
    let ends = pipe(2048, 1 << 20, 1000, 1 << 20);
    let mut writer = by_hand(&ends);
    let ring = ends.layout.to_main.words as u64;
    // Begins in the midst of the ring, so that it runs over its end.
    let (mut records, mut position) = (Vec::new(), 150);
    for _ in 0..2 {
        writer.reserve(592).unwrap().commit(Kind::Whole);
    }
    assert_eq!(read_all(&ends.main).unwrap().len(), 2);
    for (kind, len) in RECORDS {
        let mut bytes = vec![7; len];
        if kind == Kind::First {
            bytes[..8].copy_from_slice(&300_u64.to_le_bytes());
        }
        let words = 1 + len.div_ceil(8) as u64;
        if position % ring + words > ring {
            records.push(position);
            position = position.next_multiple_of(ring);
        }
        records.push(position);
        position += words;
        let mut record = writer.reserve(len).unwrap();
        record.write(0, &bytes);
        record.commit(kind);
    }
    records.push(position);
    Prepared { ends, records }
}

fn lengths(read: &[Vec<u8>]) -> Vec<usize> {
    read.iter().map(Vec::len).collect()
}

#[test]
fn each_word_of_the_peers_records_is_read_once() {
    let Prepared { ends, records } = prepared();
    assert_eq!(records.len(), RECORDS.len() + 2, "padding is among them");
    let place = ends.layout.to_main;
    let ring = ends.region.words(place.offset, place.words).unwrap();
    let base = ring.at(0) as *const _ as usize;
    let seen = Arc::new(std::sync::Mutex::new(vec![0; place.words]));
    let counts = seen.clone();
    let act = move |address: usize, bytes: usize| {
        let first = address.wrapping_sub(base) / 8;
        counts.lock().unwrap().iter_mut().skip(first).take(bytes.div_ceil(8)).for_each(|count| *count += 1);
    };
    let read = crate::region::meanwhile::while_it(act, || read_all(&ends.main)).unwrap();
    assert_eq!(lengths(&read), LENGTHS);
    let end = records.last().unwrap() % place.words as u64;
    for (word, count) in seen.lock().unwrap().iter().enumerate() {
        // Where the next record will be there is nothing yet; behind the padding's word nothing is looked at.
        assert!(*count <= 1 || word as u64 == end, "word {word} was read {count} times");
    }
}

/// Before each single access in turn each record word, and each word behind one, becomes each of these.
#[test]
fn a_word_that_changes_before_any_access_gives_messages_of_the_length_that_was_checked_or_a_violation() {
    let lens = [0, 1, 8, 24, 30, 99, 100, 101, 300, 301, 400, 1000, 1001, 1016, 1017, 4096, 0x00ff_ffff_ffff_ffff];
    let mut values: Vec<u64> = vec![0, 300, u64::MAX, 1 << 63];
    values.extend([0_u64, 1, 2, 3, 4, 5, 255].iter().flat_map(|kind| lens.map(|len| kind << 56 | len)));
    let accesses = {
        let Prepared { ends, .. } = prepared();
        let count = Arc::new(AtomicU32::new(0));
        let counts = count.clone();
        let act = move |_, _| {
            counts.fetch_add(1, Ordering::Relaxed);
        };
        crate::region::meanwhile::while_it(act, || read_all(&ends.main)).unwrap();
        count.load(Ordering::Relaxed)
    };
    assert!(accesses > 50, "{accesses}");
    let (mut violations, mut messages) = (0, 0);
    // The block copies are one access; a fifth of the values will do for each.
    for at in 0..accesses {
        for value in values.iter().skip(at as usize % 5).step_by(5).copied() {
            for target in 0..=RECORDS.len() + 1 {
                let Prepared { ends, records } = prepared();
                let place = ends.layout.to_main;
                let ring = ends.region.words(place.offset, place.words).unwrap();
                let word = records[target] + u64::from(value % 2 == 0 && value >> 56 == 0);
                let mut access = 0;
                let act = move |_, _| {
                    if access == at {
                        ring.at(word).store(value, Ordering::Relaxed);
                    }
                    access += 1;
                };
                // As often as a driver would look: each look at what a peer left must end.
                let mut read = Vec::new();
                let result = crate::region::meanwhile::while_it(act, || {
                    let mut rx = ends.main.try_lead().unwrap();
                    let result = loop {
                        let mut buffer = Vec::new();
                        match ends.main.read(&mut rx, &mut buffer) {
                            Ok(Read::Message) => read.push(buffer),
                            Ok(Read::Part) => {}
                            Ok(Read::Nothing | Read::NoBudget) => break Ok(()),
                            Err(violation) => break Err(violation),
                        }
                    };
                    assert!(rx.assembly.len() <= rx.whole.max(1000), "no more than was said first");
                    ends.main.step_aside(rx);
                    result
                });
                let flipped = (value & 0x00ff_ffff_ffff_ffff) as usize;
                for len in lengths(&read) {
                    let is_known = LENGTHS.contains(&len) || len == flipped;
                    assert!(is_known && len <= 1016, "{len} bytes, though the word became {value:#x} before {at}");
                }
                violations += usize::from(result.is_err());
                messages += read.len();
            }
        }
    }
    assert!(violations > 1000 && messages > 1000, "{violations} violations, {messages} messages");
}

#[test]
fn a_head_that_changes_before_any_access_is_taken_or_corrupt() {
    let around: Vec<u64> = (0..400).step_by(4).chain([1, 399, u64::MAX - 1, u64::MAX, 1 << 32, 1 << 63]).collect();
    let fresh = || pipe(1024, 1 << 20, 1000, 1 << 20);
    let send_all = |ends: &Ends| (0..12).map(|number| send(&ends.main, &message(number, 200))).collect::<Vec<_>>();
    let accesses = {
        let (ends, count) = (fresh(), Arc::new(AtomicU32::new(0)));
        let counts = count.clone();
        let act = move |_, _| _ = counts.fetch_add(1, Ordering::Relaxed);
        crate::region::meanwhile::while_it(act, || send_all(&ends));
        count.load(Ordering::Relaxed)
    };
    assert!(accesses > 50, "{accesses}");
    let (mut corrupt, mut taken) = (0, 0);
    for value in around {
        // A third of the accesses will do for each.
        for at in (0..accesses).skip(value as usize / 4 % 3).step_by(3) {
            let ends = fresh();
            let head = ends.region.word64(ends.layout.block(true) + direction::HEAD).unwrap();
            let others = [direction::SLEEPER, direction::WANTS_ROOM]
                .map(|word| ends.region.word32(ends.layout.block(true) + word).unwrap());
            let mut access = 0;
            let act = move |_, _| {
                if access == at {
                    head.store(value, Ordering::Relaxed);
                    others.iter().for_each(|word| word.store(value as u32, Ordering::Relaxed));
                }
                access += 1;
            };
            for sent in crate::region::meanwhile::while_it(act, || send_all(&ends)) {
                match sent {
                    Ok(()) => taken += 1,
                    Err(SendError::Corrupt(_)) => corrupt += 1,
                    Err(other) => panic!("{other:?}"),
                }
            }
            let tx = ends.main.tx.lock();
            assert!(
                tx.writer.accepts_its_own_head(),
                "the head {value} of access {at} was not the one that was checked"
            );
        }
    }
    assert!(corrupt > 1000 && taken > 1000, "{corrupt} corrupt, {taken} taken");
}

/// A thread that waits at this end until it is told to be done.
fn caller_until_done(end: &Arc<Pipe>) -> (Arc<AtomicBool>, thread::JoinHandle<Waited>) {
    let done = Arc::new(AtomicBool::new(false));
    let (end, is_done) = (end.clone(), done.clone());
    let caller = thread::spawn(move || {
        waits(&end, &Bell::new(), Some(Instant::now() + 10 * LONG), || is_done.load(Ordering::Acquire))
    });
    (done, caller)
}

/// A peer that writes a large message slowly rings whoever sleeps for each part; it is whole only at the end.
#[test]
fn a_caller_that_is_rung_for_the_parts_of_a_large_message_is_not_rung_for_nothing() {
    let Ends { main, renderer, .. } = small();
    let (done, caller) = caller_until_done(&renderer);
    let parts = u64::from(2 * RINGS_FOR_NOTHING);
    for part in 0..parts {
        wait_for(|| renderer.own.announced() == wake::CALLER || caller.is_finished());
        if caller.is_finished() {
            break;
        }
        done.store(part + 1 == parts, Ordering::Release);
        let mut tx = main.tx.lock();
        let (kind, prefix) = if part == 0 { (Kind::First, 8) } else { (Kind::More, 0) };
        let mut record = tx.writer.reserve(prefix + 1).unwrap();
        record.write(prefix, &[7]);
        if part == 0 {
            record.write(0, &parts.to_le_bytes());
        }
        record.commit(kind);
        if let Some(ring) = main.peer.after_publish(false) {
            main.peer.ring(ring);
        }
    }
    assert_eq!(caller.join().unwrap(), Waited::Done);
}

/// While the dispatcher's inbox is full nobody reads. A peer rings for what it publishes meanwhile, and nobody may say that it is
/// for nothing.
#[test]
fn a_caller_that_may_not_read_is_not_rung_for_nothing() {
    struct Full(Arc<AtomicBool>);
    impl Waiter for Full {
        fn is_done(&mut self) -> bool {
            self.0.load(Ordering::Acquire)
        }
        fn route(&mut self, _: &mut Vec<u8>) -> Routed {
            Routed::Moved
        }
        fn may_read(&mut self) -> bool {
            false
        }
        fn settle(&mut self) {}
        fn sleeps(&mut self, _bell: &Arc<Bell>) {}
    }
    let Ends { main, renderer, .. } = small();
    while main.queued() == 0 {
        send(&main, &message(1, 100)).unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let (mut waiter, end) = (Full(done.clone()), renderer.clone());
    let caller = thread::spawn(move || {
        let spin = Spin::new(Wait::Park, Arc::new(AtomicU32::new(0)));
        end.wait_until(&mut waiter, &Bell::new(), &spin, Some(Instant::now() + 10 * LONG), &mut Vec::new())
    });
    let before = renderer.own.caller.load(Ordering::Relaxed);
    for _ in 0..4 * RINGS_FOR_NOTHING {
        wait_for(|| renderer.own.announced() == wake::CALLER || caller.is_finished());
        if caller.is_finished() {
            break;
        }
        if let Some(ring) = main.peer.take() {
            main.peer.ring(ring);
        }
    }
    let rings = renderer.own.caller.load(Ordering::Relaxed).wrapping_sub(before);
    done.store(true, Ordering::Release);
    renderer.ring_callers();
    assert_eq!(caller.join().unwrap(), Waited::Done);
    assert!(rings > 2 * RINGS_FOR_NOTHING, "{rings} rings");
}

/// It rings for the room that it makes, of which the thread that waits finds nothing if another one has written meanwhile.
#[test]
fn a_caller_that_is_rung_for_room_which_another_thread_has_used_is_not_rung_for_nothing() {
    let Ends { main, renderer, .. } = small();
    let (done, caller) = caller_until_done(&renderer);
    let rings = 4 * RINGS_FOR_NOTHING;
    for ring in 0..rings {
        wait_for(|| renderer.own.announced() == wake::CALLER || caller.is_finished());
        if caller.is_finished() {
            break;
        }
        send(&renderer, b"another thread's").unwrap();
        assert_eq!(read_all(&main).unwrap().len(), 1);
        done.store(ring + 1 == rings, Ordering::Release);
        if let Some(ring) = main.peer.take() {
            main.peer.ring(ring);
        }
    }
    assert_eq!(caller.join().unwrap(), Waited::Done);
}

/// A dispatcher that is woken for other links looks for room each time, as one that is awake, and then as one that sleeps.
#[test]
fn an_end_without_room_rings_once_for_what_it_has_written_and_again_for_more() {
    let Ends { main, renderer, .. } = small();
    // Over there somebody sleeps, or is woken, may not read, and sleeps again.
    let sleeps = || renderer.own.announce(wake::DISPATCHER | wake::QUIET);
    let rings = || renderer.own.dispatcher.load(Ordering::Relaxed);
    let rung_before = rings();
    for round in 1..=3 {
        sleeps();
        while main.queued() == 0 {
            main.send(&mut message(1, 100), SendMode { quiet: true, ..SendMode::default() }).unwrap();
        }
        assert_eq!(rings() - rung_before, round);
        for _ in 0..10 {
            sleeps();
            main.drain_queue().unwrap();
            main.drain_queue_and(Wish::Ring).unwrap();
        }
        assert_eq!(rings() - rung_before, round);
        read_all(&renderer).unwrap();
        main.drain_queue().unwrap();
    }
}

/// Whoever drains may be busy with something else afterwards, so the wish of the caller that sleeps stays what it is.
#[test]
fn one_that_is_awake_leaves_the_wish_of_a_sleeping_caller_alone() {
    let Ends { main, renderer, .. } = small();
    while main.queued() == 0 {
        send(&main, &message(1, 100)).unwrap();
    }
    let (done, caller) = caller_until_done(&main);
    wait_for(|| main.own.announced() == wake::CALLER && main.peer.is_wanting(Wish::Ring));
    main.drain_queue().unwrap();
    assert!(main.peer.is_wanting(Wish::Ring));
    // Nobody else drains.
    read_all(&renderer).unwrap();
    wait_for(|| main.queued() == 0);
    done.store(true, Ordering::Release);
    main.ring_callers();
    assert_eq!(caller.join().unwrap(), Waited::Done);
    main.drain_queue().unwrap();
}

/// What uses the budget up are other links, whose readers ring nobody of this one.
#[test]
fn a_caller_that_may_not_read_for_want_of_budget_looks_again_by_itself() {
    struct Reads(Arc<Budget>, bool);
    impl Waiter for Reads {
        fn is_done(&mut self) -> bool {
            self.1
        }
        fn route(&mut self, _: &mut Vec<u8>) -> Routed {
            self.1 = true;
            Routed::Moved
        }
        fn may_read(&mut self) -> bool {
            self.0.used() < self.0.limit()
        }
        fn settle(&mut self) {}
        fn sleeps(&mut self, _bell: &Arc<Bell>) {}
    }
    let Ends { main, renderer, budget, .. } = small();
    send(&main, b"a reply").unwrap();
    budget.force(budget.limit());
    let (mut waiter, end) = (Reads(budget.clone(), false), renderer.clone());
    let (tell, told) = std::sync::mpsc::channel();
    let caller = thread::spawn(move || {
        let spin = Spin::new(Wait::Park, Arc::new(AtomicU32::new(0)));
        tell.send(end.wait_until(&mut waiter, &Bell::new(), &spin, None, &mut Vec::new()))
    });
    wait_for(|| renderer.own.announced() == wake::CALLER);
    budget.give_back(budget.limit());
    let waited = told.recv_timeout(LONG);
    // So that it ends in any case.
    renderer.ring_callers();
    caller.join().unwrap().unwrap();
    assert_eq!(waited, Ok(Waited::Done));
}
