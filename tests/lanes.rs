//! Lanes through the public door: what arrives, what the ends learn of each other, what a mistake is told.
#![allow(missing_docs, unsafe_code)]

mod support;

use bytemuck::{Pod, Zeroable};
use ringmain::{
    ErrorKind, IpcMain, IpcRenderer, LaneConfig, LaneDuplex, LaneEnd, LaneError, LaneGroup, LaneReceiver, LaneSender,
    LatestReader, LatestWriter, WakePolicy, WebContents,
};
use std::time::{Duration, Instant};
use support::{PATIENCE, Refused, alone, bounded, pair, refuse, until};

#[test]
fn children() {
    support::play(&[
        ("keeps counters", keeps_counters),
        ("wants a helper again and again", wants_a_helper_again_and_again),
    ]);
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Note {
    frame: u32,
    key: u16,
    velocity: u16,
}

fn note(frame: u32) -> Note {
    Note { frame, key: frame as u16, velocity: 100 }
}

fn first(ipc_main: &IpcMain) -> WebContents {
    ipc_main.all_web_contents().remove(0)
}

/// Both ends of a lane, main's first.
fn both<M: LaneEnd, R: LaneEnd>(config: &LaneConfig) -> (M, R, IpcMain, IpcRenderer) {
    let (ipc_main, ipc_renderer) = pair();
    let ours = first(&ipc_main).lane("lane", config).expect("main's end");
    let theirs = ipc_renderer.lane("lane", config).expect("the renderer's end");
    (ours, theirs, ipc_main, ipc_renderer)
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

const NOW: Duration = Duration::ZERO;

#[test]
fn records_arrive_in_order_with_their_numbers_and_gaps() {
    let config = LaneConfig::new().capacity(4);
    let (mut sender, mut receiver, _main, _renderer) = both::<LaneSender<Note>, LaneReceiver<Note>>(&config);
    let mut got = Note::default();
    assert_eq!(receiver.try_recv(&mut got), Ok(None));
    for round in 0..100 {
        for at in 0..4 {
            sender.try_send(&note(round * 4 + at)).expect("room");
        }
        for at in 0..4 {
            let received = receiver.try_recv(&mut got).expect("open").expect("there");
            assert_eq!((received.number, received.lost, got), (u64::from(round * 4 + at), 0, note(round * 4 + at)));
        }
    }
    for at in 0..7 {
        assert_eq!(sender.try_send(&note(at)), if at < 4 { Ok(()) } else { Err(LaneError::Full) });
    }
    assert!(sender.is_full() && sender.room() == 0);
    let mut numbers = Vec::new();
    while let Some(received) = receiver.try_recv(&mut got).expect("open") {
        numbers.push((received.number, received.lost));
    }
    assert_eq!(numbers, [(400, 0), (401, 0), (402, 0), (403, 0)]);
    assert_eq!(sender.room(), 4);
    sender.try_send(&note(1)).expect("room");
    let received = receiver.try_recv(&mut got).expect("open").expect("there");
    assert_eq!((received.number, received.lost), (407, 3));
    assert_eq!((sender.stats().sent, sender.stats().dropped), (405, 3));
    assert_eq!((receiver.counters().stats().received, receiver.stats().lost), (405, 3));
}

#[test]
fn bytes_of_any_length_up_to_the_configured_one_arrive_and_a_short_buffer_loses_nothing() {
    let config = LaneConfig::new().capacity(3).max_record(1000).align(64);
    let (mut receiver, mut sender, _main, _renderer) = both::<LaneReceiver<[u8]>, LaneSender<[u8]>>(&config);
    assert_eq!(sender.try_send(&[7; 1001]), Err(LaneError::TooLong));
    let mut buffer = [0; 1000];
    for len in (0..=1000).chain([1000, 0, 1]) {
        let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
        sender.try_send(&bytes).expect("room");
        if len > 0 {
            assert_eq!(receiver.try_recv(&mut buffer[..len - 1]), Err(LaneError::TooLong));
        }
        let record = receiver.peek().expect("open").expect("there");
        assert_eq!((record.len(), record.is_empty()), (len, len == 0));
        assert!(record.as_ptr().addr().is_multiple_of(64));
        drop(record);
        buffer.fill(0xaa);
        let received = receiver.try_recv(&mut buffer).expect("open").expect("there");
        assert_eq!((received.len, &buffer[..len]), (len, &bytes[..]));
        assert!(buffer[len..].iter().all(|byte| *byte == 0xaa), "nothing is written behind the record");
    }
    assert_eq!(sender.stats().dropped, 0);
}

#[test]
fn a_batch_is_seen_all_at_once_or_not_at_all() {
    let config = LaneConfig::new().capacity(8);
    let (mut sender, mut receiver, _main, _renderer) = both::<LaneSender<Note>, LaneReceiver<Note>>(&config);
    let mut got = Note::default();
    for round in 0..20 {
        let mut batch = sender.batch();
        for at in 0..5 {
            batch.push(&note(at)).expect("room");
        }
        assert_eq!(batch.len(), 5);
        assert_eq!(receiver.try_recv(&mut got), Ok(None), "nothing before the commit");
        if round % 3 == 0 {
            drop(batch);
            assert_eq!(receiver.try_recv(&mut got), Ok(None), "nothing of one that is dropped");
            continue;
        }
        batch.commit();
        for at in 0..5 {
            let received = receiver.try_recv(&mut got).expect("open").expect("all are there");
            assert_eq!((got, received.lost), (note(at), 0));
        }
    }
    sender.batch().commit();
    assert_eq!(receiver.try_recv(&mut got), Ok(None));
    let mut batch = sender.batch();
    for at in 0..8 {
        batch.push(&note(at)).expect("room");
    }
    assert_eq!(batch.push(&note(8)), Err(LaneError::Full));
    batch.commit();
    let arrived = std::iter::from_fn(|| receiver.try_recv(&mut got).expect("open")).count();
    assert_eq!(arrived, 8);
}

#[test]
fn a_loan_is_filled_in_place_and_sent_when_it_is_committed() {
    let config = LaneConfig::new().capacity(2).max_record(8 << 20).align(128);
    let (mut sender, mut receiver, _main, _renderer) = both::<LaneSender<[u8]>, LaneReceiver<[u8]>>(&config);
    let mut loan = sender.loan().expect("room");
    assert_eq!(loan.capacity(), 8 << 20);
    assert!(loan.as_mut_ptr().addr().is_multiple_of(128));
    loan.write_at(3, b"abc").expect("room");
    assert_eq!(loan.write_at((8 << 20) - 2, b"abc"), Err(LaneError::TooLong));
    assert_eq!(loan.write_at(usize::MAX, b"abc"), Err(LaneError::TooLong));
    drop(loan);
    assert!(receiver.peek().expect("open").is_none(), "one that is dropped sends nothing");
    let loan = sender.loan().expect("room");
    assert_eq!(loan.commit((8 << 20) + 1), Err(LaneError::TooLong));
    let mut loan = sender.loan().expect("room");
    // SAFETY: the peer is this very test, which reads only.
    unsafe { loan.bytes_mut() }.fill(9);
    loan.commit(8 << 20).expect("fits");
    let record = receiver.peek().expect("open").expect("there");
    // SAFETY: as above.
    assert!(unsafe { record.bytes() }.iter().all(|byte| *byte == 9));
    let received = record.release();
    assert_eq!((received.len, received.number), (8 << 20, 0));
    assert!(receiver.peek().expect("open").is_none());

    let (mut sender, mut receiver, _main, _renderer) = both::<LaneSender<Note>, LaneReceiver<Note>>(&LaneConfig::new());
    let mut loan = sender.loan().expect("room");
    loan.write(&note(4));
    loan.commit();
    let mut got = Note::default();
    receiver.peek().expect("open").expect("there").copy_to(&mut got).expect("fits");
    assert_eq!(got, note(4));
}

#[test]
fn the_newest_value_wins_and_stays_readable() {
    let (mut writer, mut reader, _main, _renderer) =
        both::<LatestWriter<[f32; 4]>, LatestReader<[f32; 4]>>(&LaneConfig::new());
    let mut value = [-1.0; 4];
    assert_eq!(reader.read(&mut value), Ok(None));
    assert_eq!(value, [-1.0; 4], "untouched");
    for at in 0..10 {
        writer.write(&[at as f32; 4]).expect("open");
    }
    let received = reader.read(&mut value).expect("open").expect("new");
    assert_eq!((value, received.number, received.lost), ([9.0; 4], 9, 9));
    assert_eq!(reader.read(&mut value), Ok(None));
    assert_eq!(reader.copy_to(&mut value), Ok(16));
    assert_eq!((reader.stats().received, reader.stats().lost, writer.stats().sent), (1, 9, 10));
    drop(writer);
    assert_eq!(reader.read(&mut value), Err(LaneError::Closed));
    assert_eq!(reader.copy_to(&mut value), Ok(16), "the last value outlives its writer");
}

#[test]
fn the_last_value_before_the_end_is_read() {
    let (mut reader, mut writer, _main, _renderer) =
        both::<LatestReader<[u8]>, LatestWriter<[u8]>>(&LaneConfig::new().max_record(1 << 20));
    let mut loan = writer.loan().expect("open");
    loan.write_at(0, b"picture").expect("room");
    loan.commit(7).expect("fits");
    assert_eq!(writer.write(&[0; (1 << 20) + 1]), Err(LaneError::TooLong));
    drop(writer);
    let received = reader.take().expect("the last one").expect("new");
    assert_eq!(received.len, 7);
    // SAFETY: the writer is gone.
    assert_eq!(unsafe { reader.bytes() }, b"picture");
    assert_eq!(reader.take(), Err(LaneError::Closed));
    let mut short = [0; 3];
    assert_eq!(reader.copy_to(&mut short[..]), Err(LaneError::TooLong));
}

#[test]
fn an_exchange_is_answered_and_a_late_answer_is_dropped_by_its_number() {
    bounded("an exchange", || {
        let config = LaneConfig::new().capacity(4);
        let (mut host, mut plugin, _main, _renderer) =
            both::<LaneDuplex<[u64; 8], u64>, LaneDuplex<u64, [u64; 8]>>(&config);
        let answering = std::thread::spawn(move || {
            let mut request = [0; 8];
            let mut kept = None;
            loop {
                match plugin.recv_request_until(&mut request, soon()) {
                    Ok(_) => {}
                    Err(LaneError::Closed) => return,
                    Err(other) => panic!("{other}"),
                }
                // Every fourth answer comes with the next request only: too late.
                if request[0] % 4 == 3 {
                    kept = Some(request[1]);
                    continue;
                }
                if let Some(late) = kept.take() {
                    // As many were sent as were asked for, so its running number is that of the request before.
                    plugin.sender().try_send(&(late * 2)).expect("room");
                }
                plugin.send_response(&(request[1] * 2)).expect("room");
            }
        });
        for round in 0..200u64 {
            let mut answer = 0;
            let deadline = if round % 4 == 3 { Instant::now() + Duration::from_millis(2) } else { soon() };
            let answered = host.exchange(&[round, round + 7, 0, 0, 0, 0, 0, 0], &mut answer, deadline);
            if round % 4 == 3 {
                assert_eq!(answered, Err(LaneError::TimedOut));
            } else {
                answered.expect("an answer");
                assert_eq!(answer, (round + 7) * 2);
            }
        }
        assert_eq!(host.stats().late, 49, "all but the last, which nobody has sent yet");
        drop(host);
        answering.join().expect("the plug-in");
    });
}

#[test]
fn a_group_waits_for_all_and_says_who_has_not_answered() {
    bounded("a group", || {
        let (ipc_main, ipc_renderer) = pair();
        let web_contents = first(&ipc_main);
        const ROUNDS: u64 = 50;
        // Room for all of them: a plug-in that gets no core for some rounds is late, and not full.
        let config = LaneConfig::new().capacity(ROUNDS as usize);
        let mut group = LaneGroup::<u64, u64>::new();
        let mut plugins = Vec::new();
        for at in 0..4 {
            let name = format!("plug-in {at}");
            group.push(web_contents.lane(&name, &config).expect("main's end"));
            plugins.push(ipc_renderer.lane::<LaneDuplex<u64, u64>>(&name, &config).expect("the renderer's end"));
        }
        for (at, mut plugin) in plugins.into_iter().enumerate() {
            if at == 2 {
                drop(plugin);
                continue;
            }
            std::thread::spawn(move || {
                let mut request = 0;
                while plugin.recv_request_until(&mut request, soon()).is_ok() {
                    // The fourth answers nothing.
                    if at != 3 {
                        plugin.send_response(&(request + at as u64)).expect("room");
                    }
                }
            });
        }
        until("the third is known to be gone", || !group.lane(2).expect("there").is_open());
        assert_eq!(group.start(2, &5), Err(LaneError::Closed));
        assert_eq!(group.response(0), Err(LaneError::TimedOut), "nothing was asked");
        for round in 0..ROUNDS {
            for at in 0..4 {
                assert_eq!(group.start(at, &round), if at == 2 { Err(LaneError::Closed) } else { Ok(()) }, "{at}");
            }
            let answered = group.wait_all(
                Instant::now()
                    + if round == 0 { PATIENCE.min(Duration::from_millis(50)) } else { Duration::from_millis(20) },
            );
            assert!(answered <= 2);
            for at in 0..2 {
                if let Ok(answer) = group.response(at) {
                    assert_eq!(*answer, round + at as u64);
                }
            }
            assert_eq!(group.response(2), Err(LaneError::Closed));
            assert_eq!(group.response(3), Err(LaneError::TimedOut));
        }
        assert_eq!(group.response(9), Err(LaneError::Closed));
        assert_eq!((group.len(), group.is_empty()), (4, false));
    });
}

#[test]
fn a_wait_ends_with_a_record_the_deadline_the_other_end_or_the_link() {
    bounded("the waits", || {
        for wake in [WakePolicy::IfParked, WakePolicy::Relay, WakePolicy::Never] {
            let config = LaneConfig::new().wake(wake).spin(NOW);
            let (mut sender, mut receiver, _main, _renderer) = both::<LaneSender<u64>, LaneReceiver<u64>>(&config);
            let mut got = 0;
            assert_eq!(receiver.recv_until(&mut got, Instant::now()), Err(LaneError::TimedOut));
            let waiting = std::thread::spawn(move || {
                let mut sum = 0;
                loop {
                    match receiver.recv_until(&mut got, soon()) {
                        Ok(_) => sum += got,
                        Err(error) => return (error, sum),
                    }
                }
            });
            let mut sum = 0;
            for value in 0..100 {
                while sender.is_full() {
                    std::thread::yield_now();
                }
                sender.try_send(&value).expect("room");
                sum += value;
            }
            drop(sender);
            assert_eq!(waiting.join().expect("no panic"), (LaneError::Closed, sum), "{wake:?}");
        }
        let (_sender, mut receiver, ipc_main, _renderer) =
            both::<LaneSender<u64>, LaneReceiver<u64>>(&LaneConfig::new());
        let waiting = std::thread::spawn(move || (receiver.recv_until(&mut 0, soon()), receiver.is_open()));
        first(&ipc_main).close(PATIENCE).expect("closed");
        assert_eq!(waiting.join().expect("no panic"), (Err(LaneError::Closed), false));
    });
}

#[test]
fn what_was_sent_before_the_end_is_received_first() {
    let (mut sender, mut receiver, ipc_main, ipc_renderer) =
        both::<LaneSender<u64>, LaneReceiver<u64>>(&LaneConfig::new().capacity(4));
    for value in 1..=3 {
        sender.try_send(&value).expect("room");
    }
    first(&ipc_main).close(PATIENCE).expect("closed");
    until("both know", || !sender.is_open() && !receiver.is_open() && !ipc_renderer.is_connected());
    assert_eq!(sender.try_send(&4), Err(LaneError::Closed));
    assert_eq!(sender.loan().err(), Some(LaneError::Closed));
    let mut got = 0;
    for value in 1..=3 {
        receiver.try_recv(&mut got).expect("not closed yet").expect("there");
        assert_eq!(got, value);
    }
    assert_eq!(receiver.try_recv(&mut got), Err(LaneError::Closed));
    assert_eq!(receiver.recv_until(&mut got, soon()), Err(LaneError::Closed));
}

#[test]
fn a_sender_learns_that_its_receiver_was_dropped() {
    let (mut sender, receiver, _main, _renderer) = both::<LaneSender<u64>, LaneReceiver<u64>>(&LaneConfig::new());
    sender.try_send(&1).expect("open");
    drop(receiver);
    assert_eq!(sender.try_send(&2), Err(LaneError::Closed));
    let (mut writer, reader, _main, _renderer) = both::<LatestWriter<u64>, LatestReader<u64>>(&LaneConfig::new());
    drop(reader);
    assert_eq!(writer.write(&2), Err(LaneError::Closed));
}

#[test]
fn a_name_is_free_again_when_its_end_is_dropped_and_the_newest_lane_of_it_is_taken() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = first(&ipc_main);
    let config = LaneConfig::new();
    for round in 0..20u64 {
        let mut sender: LaneSender<u64> = web_contents.lane("again", &config).expect("main's end");
        let twice = web_contents.lane::<LaneSender<u64>>("again", &config).expect_err("twice");
        assert_eq!(twice.kind(), ErrorKind::NameInUse, "{twice}");
        sender.try_send(&round).expect("room");
        if round % 3 == 0 {
            continue; // dropped before the renderer has taken it
        }
        let mut receiver: LaneReceiver<u64> = loop {
            // The one before may be the one that has arrived.
            let mut receiver: LaneReceiver<u64> = ipc_renderer.lane("again", &config).expect("the renderer's end");
            if receiver.is_open() {
                break receiver;
            }
            let _ = receiver.try_recv(&mut 0);
        };
        let twice = ipc_renderer.lane::<LaneReceiver<u64>>("again", &LaneConfig::new().open_timeout(NOW));
        assert_eq!(twice.map(drop).unwrap_err().kind(), ErrorKind::NameInUse);
        let mut got = 0;
        assert!(receiver.try_recv(&mut got).expect("open").is_some() && got == round);
    }
}

#[test]
fn a_half_of_a_duplex_goes_on_though_main_dropped_the_other_before_the_renderer_came() {
    let (ipc_main, ipc_renderer) = pair();
    let (web_contents, config) = (first(&ipc_main), LaneConfig::new());
    let (mut sender, receiver) = web_contents.lane::<LaneDuplex<u64, u64>>("a", &config).unwrap().split();
    drop(receiver);
    let (_, mut receiver) = ipc_renderer.lane::<LaneDuplex<u64, u64>>("a", &config).unwrap().split();
    sender.try_send(&5).unwrap();
    let mut got = 0;
    assert!(receiver.try_recv(&mut got).unwrap().is_some() && got == 5);
    let (sender, mut receiver) = web_contents.lane::<LaneDuplex<u64, u64>>("b", &config).unwrap().split();
    drop(sender);
    let (mut sender, _) = ipc_renderer.lane::<LaneDuplex<u64, u64>>("b", &config).unwrap().split();
    sender.try_send(&6).unwrap();
    assert!(receiver.try_recv(&mut got).unwrap().is_some() && got == 6);
}

#[test]
fn an_offer_that_one_thread_cannot_take_is_seen_by_the_others_that_wait_for_it() {
    let (ipc_main, ipc_renderer) = pair();
    let (web_contents, config) = (first(&ipc_main), LaneConfig::new().open_timeout(4 * PATIENCE));
    let sender: LaneSender<u64> = web_contents.lane("x", &config).unwrap();
    let held: LaneReceiver<u64> = ipc_renderer.lane("x", &config).unwrap();
    drop(sender);
    let take = |_| {
        let (ipc_renderer, config) = (ipc_renderer.clone(), config.clone());
        let take = move || ipc_renderer.lane::<LaneReceiver<u64>>("x", &config).map(drop).unwrap_err().kind();
        std::thread::Builder::new().name("takes lane x".into()).spawn(take).unwrap()
    };
    let takers = [0, 1, 2].map(take);
    until("all of them sleep", || {
        let tasks = support::threads_named("takes lane x");
        let sleeps = |task: &String| {
            support::stat_of(&format!("/proc/self/task/{task}/stat")).is_some_and(|stat| stat[0] == "S")
        };
        tasks.len() == takers.len() && tasks.iter().all(sleeps)
    });
    let mut sender: LaneSender<u64> = web_contents.lane("x", &config).unwrap();
    let kinds = bounded("those who wait", move || takers.map(|taker| taker.join().unwrap()));
    assert_eq!(kinds, [ErrorKind::NameInUse; 3]);
    drop(held);
    let mut receiver: LaneReceiver<u64> = ipc_renderer.lane("x", &config).unwrap();
    sender.try_send(&7).unwrap();
    let mut got = 0;
    assert!(receiver.try_recv(&mut got).unwrap().is_some() && got == 7);
}

#[test]
fn lanes_that_main_drops_before_anybody_takes_them_do_not_pile_up() {
    let (ipc_main, ipc_renderer) = pair();
    let (web_contents, config) = (first(&ipc_main), LaneConfig::new());
    for n in 0..5000 {
        until("there is room for an offer", || match web_contents.lane::<LaneSender<u64>>(&format!("n{n}"), &config) {
            Ok(sender) => {
                drop(sender);
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                false
            }
        });
    }
    let mut sender: LaneSender<u64> = web_contents.lane("last", &config).unwrap();
    let mut receiver: LaneReceiver<u64> = ipc_renderer.lane("last", &config).unwrap();
    sender.try_send(&8).unwrap();
    let mut got = 0;
    assert!(receiver.try_recv(&mut got).unwrap().is_some() && got == 8);
}

#[test]
fn ends_that_do_not_fit_are_refused_with_the_reason_and_the_lane_is_still_there() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = first(&ipc_main);
    let config = LaneConfig::new();
    let _sender: LaneSender<Note> = web_contents.lane("notes", &config).expect("main's end");
    let refused = |result: Result<(), ringmain::Error>, text: &str| {
        let error = result.expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    refused(ipc_renderer.lane::<LaneReceiver<u32>>("notes", &config).map(drop), "type of 8 bytes");
    refused(ipc_renderer.lane::<LaneReceiver<[u8]>>("notes", &config).map(drop), "and bytes are asked for");
    refused(ipc_renderer.lane::<LaneSender<Note>>("notes", &config).map(drop), "main -> renderer");
    refused(ipc_renderer.lane::<LaneDuplex<Note, Note>>("notes", &config).map(drop), "renderer -> main");
    refused(ipc_renderer.lane::<LatestReader<Note>>("notes", &config).map(drop), "of kind Records");
    refused(ipc_renderer.lane::<LaneReceiver<Note>>("notes", &config.clone().align(128)).map(drop), "aligned to 16");
    let _receiver: LaneReceiver<Note> = ipc_renderer.lane("notes", &config).expect("still there");

    let none = ipc_renderer.lane::<LaneReceiver<Note>>("nobody", &LaneConfig::new().open_timeout(NOW));
    assert_eq!(none.expect_err("opened").kind(), ErrorKind::Timeout);
    for (name, config) in [
        ("", LaneConfig::new()),
        (&*"n".repeat(256), LaneConfig::new()),
        ("x", LaneConfig::new().align(8)),
        ("x", LaneConfig::new().align(48)),
        ("x", LaneConfig::new().align(256)),
        ("x", LaneConfig::new().capacity(0)),
        ("x", LaneConfig::new().max_record(0)),
        ("x", LaneConfig::new().max_record((1 << 30) + 1)),
        ("x", LaneConfig::new().capacity(usize::MAX)),
    ] {
        let error = web_contents.lane::<LaneSender<[u8]>>(name, &config).expect_err("opened");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    }
    let nothing = web_contents.lane::<LaneSender<()>>("x", &LaneConfig::new()).expect_err("records of nothing");
    assert_eq!(nothing.kind(), ErrorKind::InvalidConfig, "{nothing}");
}

#[test]
fn a_late_answer_before_the_right_one_is_no_reason_to_time_out() {
    let config = LaneConfig::new().capacity(8);
    let (mut host, mut plugin, _main, _renderer) = both::<LaneDuplex<u64, u64>, LaneDuplex<u64, u64>>(&config);
    let mut got = 0;
    for round in 0..20 {
        // Asked, and not waited for.
        host.send_request(&(2 * round)).expect("room");
        host.send_request(&(2 * round + 1)).expect("room");
        for _ in 0..2 {
            plugin.try_recv_request(&mut got).expect("open").expect("there");
            plugin.send_response(&(got + 100)).expect("room");
        }
        let answered = if round % 2 == 0 {
            host.recv_response_until(&mut got, Instant::now()).map(Some)
        } else {
            host.try_recv_response(&mut got)
        };
        assert!(matches!(answered, Ok(Some(_))), "{answered:?}");
        assert_eq!((got, host.stats().late), (2 * round + 101, round + 1));
    }
    assert_eq!(host.try_recv_response(&mut got), Ok(None));
    assert_eq!(host.receiver().stats().lost, 0);
}

#[test]
fn one_that_was_stopped_goes_on_with_the_newest_request() {
    let (mut host, mut plugin, _main, _renderer) =
        both::<LaneDuplex<u64, u64>, LaneDuplex<u64, u64>>(&LaneConfig::new().capacity(4));
    let mut got = 0;
    for request in 0..4 {
        host.send_request(&request).expect("room");
    }
    assert_eq!(host.send_request(&4), Err(LaneError::Full));
    let received = plugin.recv_newest_request_until(&mut got, Instant::now()).expect("there");
    assert_eq!((got, received.number, plugin.stats().late), (3, 3, 3));
    let mut loan = plugin.loan_response().expect("room");
    loan.write(&33);
    loan.commit();
    host.recv_response_until(&mut got, soon()).expect("the answer to the last one that was sent");
    assert_eq!(got, 33);
    let mut loan = host.loan_request().expect("room");
    loan.write(&7);
    loan.commit();
    plugin.recv_request_until(&mut got, soon()).expect("there");
    assert_eq!(got, 7);
    plugin.send_response(&8).expect("room");
    host.recv_response_until(&mut got, soon()).expect("its answer");
    assert_eq!(got, 8);
}

#[test]
fn the_answer_of_an_earlier_round_is_not_that_of_one_in_which_nothing_was_asked() {
    let (ipc_main, ipc_renderer) = pair();
    let mut group = LaneGroup::<u64, u64>::new();
    group.push(first(&ipc_main).lane("a", &LaneConfig::new()).expect("main's end"));
    let mut plugin: LaneDuplex<u64, u64> = ipc_renderer.lane("a", &LaneConfig::new()).expect("the renderer's end");
    let mut got = 0;
    group.start(0, &1).expect("room");
    plugin.recv_request_until(&mut got, soon()).expect("there");
    plugin.send_response(&77).expect("room");
    assert_eq!(group.wait_all(soon()), 1);
    assert_eq!(group.response(0), Ok(&77));
    assert_eq!(group.wait_all(soon()), 0);
    assert_eq!(group.response(0), Err(LaneError::TimedOut));
    drop(plugin);
    until("it is known", || !group.lane(0).expect("there").is_open());
    assert_eq!(group.start(0, &1), Err(LaneError::Closed));
    assert_eq!((group.wait_all(soon()), group.response(0)), (0, Err(LaneError::Closed)));
    group.wait_all(soon());
    assert_eq!(group.response(0), Err(LaneError::TimedOut));
}

#[test]
fn what_cannot_be_opened_yet_can_be_opened_later() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = first(&ipc_main);
    let config = LaneConfig::new();
    let sender: LaneSender<u64> = web_contents.lane("x", &config).expect("main's end");
    let old: LaneReceiver<u64> = ipc_renderer.lane("x", &config).expect("the renderer's end");
    drop(sender);
    let mut sender: LaneSender<u64> = web_contents.lane("x", &config).expect("main's next end");
    sender.try_send(&5).expect("room");
    let refused = ipc_renderer.lane::<LaneReceiver<u64>>("x", &config).expect_err("the old one lives");
    assert_eq!(refused.kind(), ErrorKind::NameInUse, "{refused}");
    drop(old);
    let mut receiver: LaneReceiver<u64> = ipc_renderer.lane("x", &config).expect("now it can");
    let mut got = 0;
    receiver.try_recv(&mut got).expect("open").expect("there");
    assert_eq!(got, 5);
}

#[test]
fn a_lane_that_main_has_dropped_empty_is_passed_over_and_one_with_records_is_not() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = first(&ipc_main);
    let config = LaneConfig::new().open_timeout(NOW);
    drop(web_contents.lane::<LaneSender<u64>>("x", &config).expect("main's end"));
    drop(web_contents.lane::<LatestWriter<u64>>("y", &config).expect("main's end"));
    drop(web_contents.lane::<LatestReader<u64>>("z", &config).expect("main's end"));
    let mut sender: LaneSender<u64> = web_contents.lane("full", &config).expect("main's end");
    sender.try_send(&5).expect("room");
    drop(sender);
    let mut receiver: LaneReceiver<u64> = ipc_renderer.lane("full", &LaneConfig::new()).expect("there is something");
    let mut got = 0;
    receiver.try_recv(&mut got).expect("not closed yet").expect("there");
    assert_eq!((got, receiver.try_recv(&mut got)), (5, Err(LaneError::Closed)));
    // All have arrived: they came before this one.
    let none = |result: Result<(), ringmain::Error>| assert_eq!(result.expect_err("dead").kind(), ErrorKind::Timeout);
    none(ipc_renderer.lane::<LaneReceiver<u64>>("x", &config).map(drop));
    none(ipc_renderer.lane::<LatestReader<u64>>("y", &config).map(drop));
    none(ipc_renderer.lane::<LatestWriter<u64>>("z", &config).map(drop));
}

#[test]
fn counters_that_outlive_their_end_keep_neither_its_name_nor_its_memory() {
    alone("keeps counters");
}

fn keeps_counters() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = first(&ipc_main);
    let config = LaneConfig::new().wake(WakePolicy::Relay).capacity(2).max_record(1 << 20);
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        maps.lines().filter(|line| line.contains("ringmain-lane")).count()
    };
    let before = mapped();
    let mut kept = Vec::new();
    for _ in 0..20 {
        let sender: LaneSender<[u8]> = web_contents.lane("x", &config).expect("the name is free");
        let receiver: LaneReceiver<[u8]> = ipc_renderer.lane("x", &config).expect("the renderer's end");
        kept.extend([sender.counters(), receiver.counters()]);
        assert!(kept.iter().rev().take(2).all(|counters| counters.is_open()), "{kept:?}");
    }
    until("the memory is given back", || mapped() == before);
    assert!(kept.iter().all(|counters| !counters.is_open()), "{kept:?}");
}

#[test]
fn a_helper_that_wakes_is_one_thread_however_often_it_is_wanted() {
    alone("wants a helper again and again");
}

fn wants_a_helper_again_and_again() {
    let (ipc_main, _ipc_renderer) = pair();
    let threads = || std::fs::read_dir("/proc/self/task").expect("threads").count();
    let web_contents = first(&ipc_main);
    let config = LaneConfig::new().wake(WakePolicy::Relay);
    drop(web_contents.lane::<LaneSender<u64>>("x", &config).expect("main's end"));
    let before = threads();
    for _ in 0..50 {
        drop(web_contents.lane::<LaneSender<u64>>("x", &config).expect("main's end"));
    }
    assert_eq!(threads(), before);
    ipc_main.shutdown();
    let refused = web_contents.lane::<LaneSender<u64>>("x", &config).expect_err("it was shut down");
    assert_eq!(refused.kind(), ErrorKind::Disconnected, "{refused}");
}

#[test]
fn an_abandoned_batch_leaves_no_trace_also_of_what_found_no_room() {
    let config = LaneConfig::new().capacity(2);
    let (mut sender, mut receiver, _main, _renderer) = both::<LaneSender<u64>, LaneReceiver<u64>>(&config);
    for pushed in [0, 1, 2, 4] {
        let mut batch = sender.batch();
        for at in 0..pushed {
            assert_eq!(batch.push(&at).is_ok(), at < 2);
        }
        drop(batch);
        assert_eq!((sender.stats().dropped, sender.stats().sent), (0, 0));
    }
    sender.try_send(&5).expect("room");
    let mut got = 0;
    let received = receiver.try_recv(&mut got).expect("open").expect("there");
    assert_eq!((got, received.number, received.lost), (5, 0, 0));
}

#[test]
fn a_batch_that_is_forgotten_is_sent_with_what_comes_next() {
    let config = LaneConfig::new().capacity(4);
    for loans in [false, true] {
        let (mut sender, mut receiver, _main, _renderer) = both::<LaneSender<Note>, LaneReceiver<Note>>(&config);
        let mut got = Note::default();
        let mut batch = sender.batch();
        batch.push(&note(0)).expect("room");
        batch.push(&note(1)).expect("room");
        std::mem::forget(batch);
        assert_eq!(receiver.try_recv(&mut got), Ok(None));
        if loans {
            let mut loan = sender.loan().expect("room");
            loan.write(&note(2));
            loan.commit();
        } else {
            sender.try_send(&note(2)).expect("room");
        }
        for at in 0..3 {
            let received = receiver.try_recv(&mut got).expect("open").expect("there");
            assert_eq!((received.number, received.lost, got), (at.into(), 0, note(at)));
        }
        assert_eq!((receiver.try_recv(&mut got), sender.stats().sent), (Ok(None), 3));
    }
}

#[test]
fn memory_is_locked_where_that_is_allowed_and_the_counters_say_so() {
    let (sender, receiver, _main, _renderer) =
        both::<LaneSender<u64>, LaneReceiver<u64>>(&LaneConfig::new().lock_memory(true));
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    if limit.is_none_or(|limit| limit >= 1 << 20) {
        assert_eq!((sender.stats().locked, receiver.stats().locked), (Some(true), Some(true)));
        assert!(locked_memory() > 0, "what the kernel says");
    } else {
        println!("a limit of {limit:?} bytes: whether that is enough is not certain");
    }
    let (sender, ..) = both::<LaneSender<u64>, LaneReceiver<u64>>(&LaneConfig::new());
    assert_eq!(sender.stats().locked, None);
}

/// KiB of this process that are locked.
fn locked_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn memory_that_may_not_be_locked_is_used_as_it_is_and_the_counters_say_so() {
    let refused = [libc::SYS_mlock, libc::SYS_mlock2].map(|call| Refused { call, with: None });
    for errno in [libc::EPERM, libc::ENOMEM, libc::ENOSYS] {
        let opens = std::thread::spawn(move || {
            refuse(&refused, errno);
            both::<LaneSender<u64>, LaneReceiver<u64>>(&LaneConfig::new().lock_memory(true))
        });
        let (mut sender, mut receiver, _main, _renderer) = opens.join().expect("both ends");
        assert_eq!((sender.stats().locked, receiver.stats().locked), (Some(false), Some(false)));
        let mut got = 0;
        sender.try_send(&7).expect("room");
        receiver.recv_until(&mut got, soon()).expect("a record");
        assert_eq!(got, 7);
    }
}

/// Compiles only if the type is not `Sync`.
macro_rules! is_send_and_not_sync {
    ($($end:ty),*) => {{
        trait IsSyncInOneWay<A> { fn here() {} }
        impl<T: ?Sized> IsSyncInOneWay<()> for T {}
        struct Both;
        impl<T: ?Sized + Sync> IsSyncInOneWay<Both> for T {}
        fn is_send<T: Send + std::fmt::Debug>() {}
        $(is_send::<$end>(); <$end as IsSyncInOneWay<_>>::here();)*
    }};
}

#[test]
fn ends_cross_threads_and_are_not_shared() {
    is_send_and_not_sync!(
        LaneSender<u64>, LaneSender<[u8]>, LaneReceiver<u64>, LaneReceiver<[u8]>, LaneDuplex<u64, [u8]>,
        LaneGroup<u64, u64>, LatestWriter<u64>, LatestWriter<[u8]>, LatestReader<u64>, LatestReader<[u8]>
    );
}

#[test]
fn a_request_that_finds_no_room_takes_nothing_from_the_one_before() {
    let config = LaneConfig::new().capacity(1);
    let (mut host, mut plugin, _main, _renderer) = both::<LaneDuplex<u64, u64>, LaneDuplex<u64, u64>>(&config);
    host.send_request(&1).expect("room");
    assert_eq!(host.loan_request().err(), Some(LaneError::Full));
    let (mut asked, mut answer) = (0, 0);
    plugin.recv_request_until(&mut asked, soon()).expect("a request");
    plugin.send_response(&(asked + 1)).expect("room");
    host.recv_response_until(&mut answer, soon()).expect("the answer");
    assert_eq!(answer, 2);
}

#[test]
fn answers_that_nobody_waits_for_any_more_take_no_room_from_the_next_one() {
    let config = LaneConfig::new().capacity(2);
    let (mut host, mut plugin, _main, _renderer) = both::<LaneDuplex<u64, u64>, LaneDuplex<u64, u64>>(&config);
    let (mut asked, mut answer) = (0, 0);
    for round in 0..20 {
        // Answered, and not waited for: it was late.
        host.send_request(&round).expect("room");
        plugin.try_recv_request(&mut asked).expect("open").expect("there");
        plugin.send_response(&round).expect("room for the answer to the present request");
    }
    assert_eq!(host.stats().late, 19);
    host.recv_response_until(&mut answer, soon()).expect("the last one");
    assert_eq!((answer, plugin.stats().dropped), (19, 0));
}

#[test]
fn a_request_that_is_not_sent_leaves_the_answer_to_the_one_before() {
    let config = LaneConfig::new().capacity(2).max_record(8);
    let (mut host, mut plugin, _main, _renderer) = both::<LaneDuplex<[u8], [u8]>, LaneDuplex<[u8], [u8]>>(&config);
    let (mut asked, mut answer) = ([0; 8], [0; 8]);
    host.send_request(b"one").expect("room");
    plugin.try_recv_request(&mut asked).expect("open").expect("there");
    plugin.send_response(b"answer").expect("room");
    assert_eq!(host.send_request(&[0; 9]), Err(LaneError::TooLong));
    drop(host.loan_request().expect("room"));
    let received = host.try_recv_response(&mut answer).expect("open").expect("still there");
    assert_eq!(&answer[..received.len], b"answer");
    // One that is committed takes its place.
    host.send_request(b"two").expect("room");
    plugin.try_recv_request(&mut asked).expect("open").expect("there");
    plugin.send_response(b"to two").expect("room");
    host.loan_request().expect("room").commit(0).expect("fits");
    assert_eq!(host.try_recv_response(&mut answer), Ok(None));
    plugin.try_recv_request(&mut asked).expect("open").expect("there");
    plugin.send_response(b"to three").expect("room");
    let received = host.try_recv_response(&mut answer).expect("open").expect("there");
    assert_eq!((&answer[..received.len], host.stats().late), (&b"to three"[..], 1));
}
