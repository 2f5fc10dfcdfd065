//! The soak of `examples/soak` finds what is wrong: a checker that cannot fail is worth nothing. Here it is run with faults
//! made on purpose, each of which must be found and named.
#![allow(missing_docs)]

#[path = "../examples/soak/run/mod.rs"]
mod run;
mod support;

use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use support::{LONG, TempDir, env, lives, names_in, signal, stat, until};

const ARGUMENTS: &str = "RINGMAIN_TEST_SOAK";

#[test]
fn children() {
    support::play(&[("soak", soak)]);
}

/// The main process of a soak, and its renderers.
fn again() -> Command {
    support::child("soak")
}

fn soak() {
    let arguments: Vec<String> = env(ARGUMENTS).split_ascii_whitespace().map(str::to_string).collect();
    std::process::exit(run::main(&arguments, again));
}

/// A soak that is killed when the test ends, however it ends; its renderers with it.
struct Soak {
    process: Child,
    directory: TempDir,
}

impl Soak {
    fn start(arguments: &str) -> Self {
        let backing = std::env::var("RINGMAIN_TEST_BACKING").unwrap_or("sealed".into());
        let directory = TempDir::new();
        let mut command = again();
        command.env(ARGUMENTS, format!("--renderers 4 --backing {backing} {arguments}")).env("TMPDIR", &*directory);
        let process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a soak");
        Self { process, directory }
    }

    /// Its exit code, and what it says.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut stderr = self.process.stderr.take().expect("a pipe");
        let mut progress = String::new();
        // It ends by itself: nothing in it waits for ever.
        let reader = std::thread::spawn(move || {
            let _ = stderr.read_to_string(&mut progress);
            progress
        });
        let mut said = String::new();
        let mut stdout = self.process.stdout.take().expect("a pipe");
        let said = support::bounded_by(LONG, "the soak", move || {
            let _ = stdout.read_to_string(&mut said);
            said
        });
        let status = self.process.wait().expect("its status");
        let progress = reader.join().expect("no panic");
        assert_eq!(self.directory.names(), [] as [&str; 0], "left in the directory for temporary files");
        (status.code(), format!("{said}{progress}"))
    }

    /// Waits until it has shown how far it is; the processes that it has started then.
    fn renderers(&mut self) -> Vec<u32> {
        let mut lines = BufReader::new(self.process.stderr.take().expect("a pipe"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        assert!(line.contains("renderers"), "{line}");
        // Read on, or it would wait.
        std::thread::spawn(move || lines.read_to_string(&mut line));
        let own = self.process.id().to_string();
        let is_its = |pid: &u32| stat(*pid).is_some_and(|fields| fields[1] == own);
        let processes = || names_in("/proc".as_ref()).into_iter().filter_map(|name| name.parse().ok());
        let mut renderers = Vec::new();
        // On a busy machine the line comes before the first of them.
        until("a renderer runs", || {
            renderers = processes().filter(is_its).collect::<Vec<u32>>();
            !renderers.is_empty()
        });
        renderers
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Seeds that are tried: on a busy machine a short run may end, or kill who was to do it, before the fault is made.
const SEEDS: u32 = 6;

/// What the first run says that finds something wrong, and its seed.
fn first_find(arguments: &str) -> (String, u32) {
    let mut last = String::new();
    for seed in 1..=SEEDS {
        let (code, said) = Soak::start(&format!("{arguments} --seed {seed}")).ended();
        match code {
            Some(0) => last = said,
            Some(1) => return (said, seed),
            code => panic!("{arguments}: {code:?}: {said}"),
        }
    }
    panic!("{arguments}: not found in {SEEDS} runs: {last}");
}

/// Each of these is found, and the text says what it is.
fn finds(table: &[(&str, &[&str])]) {
    for (sabotage, texts) in table {
        let (said, seed) = first_find(&format!("--seconds 2 --patience 20 --sabotage {sabotage}"));
        let wrong = said.lines().find(|line| line.contains("WRONG: ")).unwrap_or_else(|| panic!("{said}"));
        assert!(texts.iter().any(|text| wrong.contains(text)), "{sabotage} was taken for something else: {wrong}");
        assert!(said.contains(&format!("--seed {seed} ")), "it does not say how to repeat it: {said}");
    }
}

const WAYS: [&str; 6] = ["main", "renderer", "other-renderer", "host", "lane-to-main", "lane-to-renderer"];

/// The same fault on each of the ways that a message can go, or the record of a lane.
fn finds_on_every_way(sabotage: fn(&str) -> String, texts: &[&str]) {
    for way in WAYS {
        finds(&[(&sabotage(way), texts)]);
    }
}

#[test]
fn a_run_without_faults_finds_none() {
    let (code, said) = Soak::start("--seconds 4").ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing wrong"), "{said}");
}

#[test]
fn a_message_that_is_lost_is_found_on_every_way() {
    finds(&[
        ("drop-main", &["are missing", "messages of lane"]),
        ("drop-renderer", &["are missing", "messages of lane"]),
        ("drop-other-renderer", &["messages to renderer"]),
        ("drop-host", &["messages to its host"]),
        // If it was the last one, it is missed at the lane's end.
        ("drop-lane-to-main", &["are missing", "records were sent"]),
        ("drop-lane-to-renderer", &["are missing", "main sent"]),
    ]);
}

/// It was the last one before the lane was dropped in order, so no later one shows the gap.
#[test]
fn a_record_that_is_lost_at_the_end_of_a_lane_is_found() {
    finds(&[("lane-end", &["records were sent", "main sent"])]);
}

#[test]
fn a_wrong_answer_and_a_wrong_value_by_a_lane_are_found() {
    finds(&[
        ("lane-answer", &["of lane 'asks' (opening", "of lane 'asked' (opening"]),
        ("latest", &["of lane 'newest to main'", "of lane 'newest to renderer'"]),
    ]);
}

#[test]
fn a_message_that_comes_twice_is_found_on_every_way() {
    for way in WAYS {
        // Where a share is full, it or its copy may have been dropped: then there was one too many.
        let texts: &[_] = match way {
            "other-renderer" => &["came twice or too late", "messages to renderer"],
            "host" => &["came twice or too late", "messages to its host"],
            _ => &["came twice or too late"],
        };
        finds(&[(&format!("duplicate-{way}"), texts)]);
    }
}

#[test]
fn messages_that_change_places_are_found_on_every_way() {
    finds_on_every_way(|way| format!("reorder-{way}"), &["are missing", "came twice or too late"]);
}

#[test]
fn a_message_that_is_changed_is_found_on_every_way() {
    finds_on_every_way(|way| format!("corrupt-{way}"), &["another body"]);
}

#[test]
fn a_wrong_answer_and_one_that_never_comes_are_found() {
    finds(&[
        ("answer", &["the answer is another one"]),
        // On the way, if main's handler calls a renderer.
        ("future", &["InvokeAsync failed", "InvokeRelay failed"]),
    ]);
    let (said, _) = first_find("--seconds 4 --patience 10 --sabotage silence");
    // It is the call of a thread, or that of a listener: then whoever called that renderer waits as well.
    assert!(said.contains("SendSync failed") || said.contains("no answer came in time"), "{said}");
}

#[test]
fn what_is_left_behind_is_found() {
    finds(&[
        ("lane", &["mapping of a link or lane /memfd:ringmain-lane"]),
        ("descriptor", &["descriptor /dev/null"]),
        ("thread", &["left behind: thread"]),
        ("memory", &["are tolerated"]),
        ("process", &["child process"]),
        ("file", &["file in the runtime directory left"]),
    ]);
}

#[test]
fn every_kind_of_sabotage_is_tried_here() {
    let text = include_str!("soak.rs");
    for word in run::sabotages() {
        let (fault, _) = word.split_once('-').unwrap_or((&word, ""));
        assert!(
            text.contains(&format!("{fault}-{{way}}"))
                || text.contains(&format!("(\"{word}\""))
                || text.contains(&format!("--sabotage {word}\"")),
            "{word}"
        );
    }
}

#[test]
fn an_interrupted_run_ends_in_order_and_leaves_nothing() {
    let mut soak = Soak::start("--seconds 60");
    let renderers = soak.renderers();
    signal(soak.process.id(), Signal::INT);
    let mut stdout = soak.process.stdout.take().expect("a pipe");
    let mut said = String::new();
    stdout.read_to_string(&mut said).expect("what it says");
    assert_eq!(soak.process.wait().expect("its status").code(), Some(130), "{said}");
    until("its renderers have ended", || !renderers.iter().any(|pid| lives(*pid)));
    assert_eq!(soak.directory.names(), [] as [&str; 0]);
}

/// Stopped renderers among them, which see nothing of it.
#[test]
fn renderers_do_not_outlive_a_soak_that_is_killed() {
    let mut soak = Soak::start("--seconds 60");
    let renderers = soak.renderers();
    // One that has not asked the kernel yet to be ended with its parent would stay stopped for ever; it asks before it has
    // threads.
    let has_threads = |pid: &&u32| std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() > 2);
    until("a renderer has threads", || renderers.iter().any(|pid| has_threads(&pid) || !lives(*pid)));
    for pid in renderers.iter().filter(has_threads) {
        // It may have been killed by the soak.
        let pid = rustix::process::Pid::from_raw(*pid as i32).expect("a number");
        let _ = rustix::process::kill_process(pid, Signal::STOP);
    }
    soak.process.kill().expect("killed");
    soak.process.wait().expect("its status");
    until("its renderers have ended", || !renderers.iter().any(|pid| lives(*pid)));
}
