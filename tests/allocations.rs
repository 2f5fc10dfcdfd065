//! What a call allocates in the steady state, both sides together: nothing, for numbers. One test alone in its binary,
//! because the allocations of all threads are counted.
#![allow(missing_docs)]

mod support;

use ringmain::Wait;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use support::{Gate, builder, pair_of};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Rounds after which every buffer has its size, and both sides have parked as often as they do.
const WARM_UP: usize = 2000;
const ROUNDS: usize = 2000;

#[test]
fn calls_and_messages_of_numbers_allocate_nothing_on_either_side() {
    for wait in [Wait::Spin, Wait::Adaptive, Wait::Park] {
        let (ipc_main, ipc_renderer) = pair_of(builder().wait(wait));
        ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
        ipc_main.on("note", |_event, (_,): (i64,)| ());
        ipc_main.on("ask", |event: &ringmain::IpcMainEvent, (a,): (i64,)| event.set_return_value(a));
        let rounds = |count: usize| {
            for round in 0..count as i64 {
                ipc_renderer.send("note", (round,)).unwrap();
                let sum: i64 = ipc_renderer.invoke("add", (round, 1)).wait().unwrap();
                assert_eq!(sum, round + 1);
                let answer: i64 = ipc_renderer.send_sync("ask", (round,)).unwrap();
                assert_eq!(answer, round);
            }
        };
        // What only a busy machine does otherwise: messages that pile up, threads that wait beside each other.
        let gate = Gate::default();
        let waits = gate.clone();
        ipc_main.on("hold", move |_, ()| waits.wait());
        ipc_renderer.send("hold", ()).unwrap();
        gate.reached();
        (0..100_i64).for_each(|round| ipc_renderer.send("note", (round,)).unwrap());
        gate.open();
        std::thread::scope(|scope| {
            scope.spawn(|| rounds(200));
            rounds(200);
        });
        rounds(WARM_UP);
        let region = Region::new(COUNTED);
        rounds(ROUNDS);
        let change = region.change();
        assert_eq!(
            (change.allocations, change.reallocations),
            (0, 0),
            "{wait:?}: {} bytes in {ROUNDS} rounds of a message, a call and a synchronous message",
            change.bytes_allocated
        );
    }
}
