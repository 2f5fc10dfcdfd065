//! Beside every rival, in one run: see README.md.
//!
//! This binary is its own peer: run again with a role in its environment, it serves.

mod codec;
mod floors;
mod lanes;
mod measure;
mod pair;
mod report;
mod ringmain;
mod rivals;
mod stream;

use measure::{Group, Plan, Row, Visit};
use pair::{Peer, Scratch};
use report::{Around, Book};
use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "usage: ringmain-comparison [--quick] [--json FILE] [--only TEXT] [--unpinned]";

/// No run begins after so long a time: a full one ends within two minutes, a quick one within fifteen seconds.
const LAST_RUN: Duration = Duration::from_secs(110);
const LAST_QUICK_RUN: Duration = Duration::from_secs(8);
/// How long the floor beside a visit is measured.
const FLOOR: Duration = Duration::from_micros(1500);
/// Failures in a row after which a subject is not visited again.
const GIVE_UP: usize = 3;

/// Everything that is measured with one kind of peer.
struct Subject {
    name: &'static str,
    /// Where a failure is shown that happens before the first row.
    group: Group,
    /// Its floor is the futex.
    sleeps: bool,
    visit: fn(&mut Visit<'_>) -> Result<()>,
}

const SUBJECTS: [Subject; 19] = [
    subject("codec and memcpy", Group::Floor, false, floors::alone),
    subject(ringmain::BARE, Group::RawSpinning, false, ringmain::bare),
    subject(lanes::LANE, Group::RawSpinning, false, lanes::spinning),
    subject(ringmain::OURS, Group::ValueSpinning, false, ringmain::spinning),
    subject(ringmain::ONE_CORE, Group::ValueSpinning, false, ringmain::one_core),
    subject("tachyon", Group::ValueSpinning, false, rivals::tachyon::visit),
    subject("iceoryx2", Group::ValueSpinning, false, rivals::iceoryx2::spinning),
    subject("ringmain, adaptive", Group::ValueSpinning, false, ringmain::adaptive),
    subject("ringfire", Group::ValueSpinning, true, rivals::ringfire::visit),
    subject("Unix socket, polled", Group::ValueSpinning, false, rivals::socket::polled),
    subject(ringmain::OURS, Group::ValueSleeping, true, ringmain::parked),
    subject(ringmain::OURS, Group::TypedSleeping, true, ringmain::parked_typed),
    subject(lanes::LANE, Group::RawSleeping, true, lanes::sleeping),
    subject("ringmain, LaneGroup", Group::Exchanges, true, lanes::group),
    subject("iceoryx2 + event", Group::ValueSleeping, true, rivals::iceoryx2::with_event),
    subject("Unix socket", Group::ValueSleeping, true, rivals::socket::blocking),
    subject("ipc-channel", Group::ValueSleeping, true, rivals::ipc_channel::visit),
    subject("ipc-channel, IpcSharedMemory", Group::ValueSleeping, true, rivals::ipc_channel::memory),
    // The rows of the two floors that are measured beside everybody.
    subject(floors::CACHE_LINE, Group::Floor, true, |_| Ok(())),
];

const fn subject(name: &'static str, group: Group, sleeps: bool, visit: fn(&mut Visit<'_>) -> Result<()>) -> Subject {
    Subject { name, group, sleeps, visit }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

struct Options {
    quick: bool,
    json: Option<String>,
    /// Subjects whose names contain this, and the floors.
    only: Option<String>,
    unpinned: bool,
}

fn options() -> Result<Options> {
    let mut options = Options { quick: false, json: None, only: None, unpinned: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--unpinned" => options.unpinned = true,
            "--json" => options.json = Some(args.next().ok_or(USAGE)?),
            "--only" => options.only = Some(args.next().ok_or(USAGE)?),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}

/// Has the allocator keep what is freed. Left alone, glibc gives the heap's end back to the kernel after every string of
/// 64 KiB and faults it in again for the next one, until the first larger block was freed: a floor that depends on what
/// was measured before it is none.
fn settle_allocator() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(16 << 20)));
}

fn main() {
    settle_allocator();
    let result = match Peer::here() {
        Some(peer) => serve(peer),
        None => options().and_then(|options| compare(&options)),
    };
    if let Err(error) = result {
        eprintln!("ringmain-comparison: {error}");
        std::process::exit(1);
    }
}

/// The other process. Its failure goes to the one that waits for its first line.
fn serve(peer: Peer) -> Result<()> {
    let role = peer.role.clone();
    let (kind, how) = role.split_once(' ').unwrap_or((&role, ""));
    let result = match kind {
        "floors" => floors::peer(&peer, how),
        "lanes" => lanes::peer(peer, how),
        "ringmain" => ringmain::peer(peer, how),
        "iceoryx2" => rivals::iceoryx2::peer(&peer, how),
        "ringfire" => rivals::ringfire::peer(&peer, how),
        "socket" => rivals::socket::peer(&peer, how == "polled"),
        "ipc-channel" => rivals::ipc_channel::peer(&peer, how),
        "tachyon" => rivals::tachyon::peer(&peer, how),
        _ => Err(format!("no such role: {role}").into()),
    };
    if let Err(error) = &result {
        println!("{error}");
    }
    result
}

fn compare(options: &Options) -> Result<()> {
    let started = Instant::now();
    let (plan, last) = if options.quick { (Plan::QUICK, LAST_QUICK_RUN) } else { (Plan::FULL, LAST_RUN) };
    let cores = pair::cores().filter(|_| !options.unpinned);
    let (own_core, peer_core) = cores.unzip();
    own_core.into_iter().for_each(pair::pin);
    // SAFETY: the handler stores into an atomic and nothing else.
    unsafe { libc::signal(libc::SIGINT, interrupt as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    let scratch = Scratch::new()?;
    // Ours and the rivals' temporary files go where they are removed.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("TMPDIR", scratch.path()) };
    pair::start_watchdog();
    let before = load();
    let mut book = Book::default();
    let mut failures = [0; SUBJECTS.len()];
    let mut done = 0;
    {
        let mut floors = floors::Floors::start(scratch.path(), peer_core)?;
        for run in 0..plan.runs {
            if INTERRUPTED.load(Ordering::Relaxed) || (run > 0 && started.elapsed() >= last) {
                break;
            }
            if std::io::stderr().is_terminal() {
                eprint!("run {} of {} …\r", run + 1, plan.runs);
            }
            for turn in 0..SUBJECTS.len() {
                // The same neighbours would have the same influence in every run.
                let index = (turn + run * 4) % SUBJECTS.len();
                let subject = &SUBJECTS[index];
                let wanted = subject.group == Group::Floor
                    || options.only.as_ref().is_none_or(|only| subject.name.contains(only.as_str()));
                if !wanted || failures[index] >= GIVE_UP || INTERRUPTED.load(Ordering::Relaxed) {
                    continue;
                }
                let visit =
                    Visit { plan, scratch: scratch.path(), own_core, peer_core, measured: Vec::new(), current: None };
                let failed = one(&mut floors, &mut book, run, subject, visit)?;
                failures[index] = if failed { failures[index] + 1 } else { 0 };
            }
            done = run + 1;
        }
    }
    rivals::iceoryx2::clean(scratch.path());
    drop(scratch);
    let pinned = cores.map_or("nothing is pinned".into(), |(own, peer)| {
        format!("this process on core {own}, the peer on core {peer}")
    });
    println!(
        "{} runs, {:.0} s; {pinned}; load before {before}, after {}; {}",
        done,
        started.elapsed().as_secs_f64(),
        load(),
        processor()
    );
    println!("{}", book.table()?);
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&book.json())? + "\n")?;
    }
    Ok(())
}

/// One subject between two measurements of the floor; whether it failed.
fn one(
    floors: &mut floors::Floors,
    book: &mut Book,
    run: usize,
    subject: &Subject,
    mut visit: Visit<'_>,
) -> Result<bool> {
    let futex = |floors: &mut floors::Floors| if subject.sleeps { floors.futex_now() } else { Ok(None) };
    let (line, slept) = (floors.line_now(FLOOR)?, futex(floors)?);
    let result = catch_unwind(AssertUnwindSafe(|| match subject.name {
        floors::CACHE_LINE => floors.visit(&mut visit),
        _ => (subject.visit)(&mut visit),
    }));
    let (line, slept) = ([line, floors.line_now(FLOOR)?], [slept, futex(floors)?]);
    let row = visit.current.unwrap_or(Row { name: subject.name, group: subject.group, bytes: 0 });
    book.add(run, Around { line, futex: slept }, visit.measured);
    let reason = match result {
        Ok(Ok(())) => return Ok(false),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it panicked".into(),
    };
    book.fail(row, reason);
    Ok(true)
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().into()
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name"));
    name.map_or("unknown processor".into(), |name| name.trim_start_matches([' ', '\t', ':']).into())
}
