//! A long run of everything that the library does, with every message checked.
//!
//! ```text
//! cargo run --release --example soak -- --seconds 60 --seed 1 [--renderers 6] [--backing named] [--patience 60]
//! ```
//!
//! The program is the main process; renderers are the same program, started again, some spawned, some connected by name.
//! For as long as it is told it sends and calls at random, in every way that there is, both ways and between renderers:
//! `send`, `invoke` of sync and async handlers, `sendSync`, frames, `sendTo`, `sendToHost`, messages of up to some MiB.
//! Meanwhile renderers are killed (SIGKILL) and started again, stopped (SIGSTOP) and continued, closed and connected again.
//! It runs in acts of some seconds, each with a main of its own with other options: small rings and large ones, all ways to
//! wait, small and large queues, async handlers on the dispatcher and on an executor of the application.
//!
//! Checked of every message: that it is the next one of its sender (per sending thread and receiver), that its content is
//! what the seed, its number, sender and receiver say, that nothing comes after its sender was said to be gone. What was
//! flushed before a kill must have come. When an act ends, everybody stops and compares how far each has come: nothing may
//! be missing. Calls must be answered with the right value or the right error, and end within `--patience` seconds, whatever
//! happens to the other end. Afterwards descriptors, threads, child processes, mappings of links, files in /dev/shm and in
//! the runtime directory must be back where they were, and memory about where it was after the first act.
//!
//! All decisions come from the seed; what happens then depends on scheduling too. Whatever is wrong ends it with a text
//! that says what and with which seed, and exit code 1.

mod run;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let again = || std::process::Command::new(std::env::current_exe().expect("this program"));
    std::process::exit(run::main(&arguments, again));
}
