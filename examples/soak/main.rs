//! A long run of everything that the library does, with every message checked.
//!
//! ```text
//! cargo run --release --example soak -- --seconds 60 --seed 1 [--renderers 6] [--backing named] [--patience 60]
//! ```
//!
//! The program is the main process; renderers are the same program, started again, some spawned, some connected by name.
//! For as long as it is told it sends and calls at random, in every way that there is, both ways and between renderers:
//! `send`, `invoke` of sync and async handlers, `sendSync`, frames, `sendTo`, `sendToHost`, messages of up to some MiB.
//! Most renderers have lanes with main besides, which are opened and dropped again all the time: records each way, a duplex
//! lane used as two streams, exchanges with deadlines asked by either side, newest values each way; with all wake policies and
//! ways to send and take. Meanwhile renderers are killed (SIGKILL) and started again, stopped (SIGSTOP) and continued, closed
//! and connected again.
//!
//! It runs in acts of some seconds, each with a main of its own with other options: small rings and large ones, all ways to
//! wait, small and large queues, async handlers on the dispatcher and on an executor of the application. In about half of them
//! main has no dispatcher: a loop of the program's own polls it, as one does in some renderers and for the host. It sleeps in
//! `wait` or in `poll(2)` on the descriptor, without a timeout, or polls once a frame; with budgets of all kinds. There some
//! calls wait by `wait_polling`, inside of callbacks too.
//!
//! Checked of every message: that it is the next one of its sender (per sending thread and receiver), that its content is
//! what the seed, its number, sender and receiver say, that nothing comes after its sender was said to be gone. What was
//! flushed before a kill must have come. When an act ends, everybody stops and compares how far each has come: nothing may
//! be missing; and a few messages, while nothing else goes on, must wake whoever sleeps. Calls must be answered with the right
//! value or the right error, and end within `--patience` seconds, whatever happens to the other end.
//!
//! Checked of every record of a lane: that it is the next one, with gaps only where its sender has counted what found no room,
//! and of the right content; an answer is that to the last question, values are whole and never older than one before. When an
//! end is dropped in order, whoever reads gets all that was sent before and then the end; of a renderer that is killed main gets
//! all that it had noted as sent, and a wait for a lane of one that is killed or goes ends with it. What the library counts is
//! what was counted here.
//!
//! Afterwards descriptors, threads, child processes, mappings of links and lanes, files in /dev/shm and in the runtime
//! directory must be back where they were, and memory about where it was after the first act.
//!
//! All decisions come from the seed; what happens then depends on scheduling too. Whatever is wrong ends it with a text
//! that says what and with which seed, and exit code 1.

mod run;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let again = || std::process::Command::new(std::env::current_exe().expect("this program"));
    std::process::exit(run::main(&arguments, again));
}
