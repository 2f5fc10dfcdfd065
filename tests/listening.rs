//! Names: who listens, who may connect, and what is left of a name.
#![allow(missing_docs)]

mod support;

use ringmain::{Backing, ErrorKind, GoneReason, IpcMain, IpcRenderer};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use support::{
    PATIENCE, Program, TempDir, builder, child, env, gone, line, next, received, told, until, until_disconnected,
};

#[test]
fn children() {
    support::play(&[
        ("listens", listens),
        ("connects", connects),
        ("is refused", is_refused),
        ("another user", another_user),
    ]);
}

fn with(role: &str, directory: &Path, name: &str) -> Command {
    let mut command = child(role);
    command.env("TEST_DIRECTORY", directory).env("TEST_NAME", name);
    command
}

/// A main in a process of its own, which listens until its input ends.
fn listens() {
    let ipc_main = main_in(Path::new(&env("TEST_DIRECTORY")));
    ipc_main.listen(&env("TEST_NAME")).unwrap();
    println!("listening");
    assert_eq!(line(), "");
}

fn listening(directory: &Path, name: &str) -> Program {
    let mut program = Program::start(with("listens", directory, name));
    program.until_it_says("listening");
    program
}

fn main_in(directory: &Path) -> IpcMain {
    let ipc_main = builder().runtime_dir(directory).build().unwrap();
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_main
}

fn connect(directory: &Path, name: &str) -> ringmain::Result<IpcRenderer> {
    IpcRenderer::builder().runtime_dir(directory).connect_to(name)
}

fn answers(ipc_renderer: &IpcRenderer) {
    let sum: i64 = ipc_renderer.invoke("add", (2, 3)).timeout(PATIENCE).wait().unwrap();
    assert_eq!(sum, 5);
}

fn connects() {
    let ipc_renderer = connect(Path::new(&env("TEST_DIRECTORY")), &env("TEST_NAME")).unwrap();
    answers(&ipc_renderer);
    ipc_renderer.send("here", (std::process::id(),)).unwrap();
    until_disconnected(&ipc_renderer);
}

fn is_refused() {
    let error = connect(Path::new(&env("TEST_DIRECTORY")), &env("TEST_NAME")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("refuses this process"), "{error}");
}

const NOTHING: [&str; 0] = [];

#[test]
fn nobody_listens_under_a_name_that_was_never_used() {
    let directory = TempDir::new();
    let error = connect(&directory, "nobody").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotListening);
    assert!(error.is_transient());
    let text = error.to_string();
    assert!(text.contains("'nobody'") && text.contains("there is no"), "{text}");
    assert_eq!(directory.names(), NOTHING);
}

#[test]
fn unrelated_processes_connect_by_name_and_are_told_to_main_with_their_pids() {
    let directory = TempDir::new();
    let ipc_main = main_in(&directory);
    let here = received::<(u32,)>(&ipc_main, "here");
    let gone = gone(&ipc_main);
    let (connected, connections) = channel();
    ipc_main.on_renderer_connected(move |web_contents| {
        connected.send((web_contents.id(), web_contents.process().id())).unwrap();
    });
    let path = ipc_main.listen("one").unwrap();
    ipc_main.listen("two").unwrap();
    assert_eq!(path, directory.join("one.sock"));
    assert_eq!(directory.names(), ["one.lock", "one.sock", "two.lock", "two.sock"]);
    let mut programs = ["one", "two", "one"].map(|name| Program::start(with("connects", &directory, name)));
    for _ in &programs {
        let (from, (pid,)) = next(&here, "a renderer");
        assert_eq!(from.process().id(), pid);
        let (_, connected) = next(&connections, "the hook");
        assert!(programs.iter().any(|program| program.id() == connected));
    }
    programs[0].kill();
    assert_eq!(next(&gone, "its end").1, GoneReason::Exited { code: None });
    drop(ipc_main);
    for program in &mut programs[1..] {
        assert!(program.ended(PATIENCE).success());
    }
    assert_eq!(directory.names(), NOTHING, "an orderly shutdown leaves no file");
}

#[test]
fn a_name_that_another_main_uses_is_refused_whoever_that_is() {
    let directory = TempDir::new();
    let in_use = |ipc_main: &IpcMain, name: &str| {
        let error = ipc_main.listen(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameInUse);
        assert!(error.to_string().contains(name), "{error}");
    };
    let other = listening(&directory, "theirs");
    let (first, second) = (main_in(&directory), main_in(&directory));
    in_use(&first, "theirs");
    first.listen("ours").unwrap();
    in_use(&second, "ours");
    in_use(&first, "ours");
    // Nothing of that has hurt those who listen.
    answers(&connect(&directory, "theirs").unwrap());
    answers(&connect(&directory, "ours").unwrap());
    drop(first);
    second.listen("ours").unwrap();
    answers(&connect(&directory, "ours").unwrap());
    drop((other, second));
}

#[test]
fn what_a_kill_left_of_a_name_is_stale_until_the_next_main_takes_it_over() {
    let directory = TempDir::new();
    for _ in 0..3 {
        let mut killed = listening(&directory, "name");
        answers(&connect(&directory, "name").unwrap());
        killed.kill();
        assert_eq!(directory.names(), ["name.lock", "name.sock"]);
        let error = connect(&directory, "name").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotListening);
        assert!(error.to_string().contains("stale"), "{error}");
    }
    let mut heir = listening(&directory, "name");
    answers(&connect(&directory, "name").unwrap());
    assert!(heir.ended(PATIENCE).success());
    assert_eq!(directory.names(), NOTHING);
    assert!(connect(&directory, "name").unwrap_err().to_string().contains("there is no"));
}

#[test]
fn a_main_listens_again_and_again_under_one_name() {
    let directory = TempDir::new();
    for _ in 0..20 {
        let ipc_main = main_in(&directory);
        ipc_main.listen("again").unwrap();
        answers(&connect(&directory, "again").unwrap());
        ipc_main.shutdown();
        assert_eq!(directory.names(), NOTHING);
        assert_eq!(ipc_main.listen("again").unwrap_err().kind(), ErrorKind::Disconnected);
        assert_eq!(directory.names(), NOTHING);
    }
}

#[test]
fn a_name_too_long_for_a_socket_says_how_long_it_may_be_and_leaves_nothing() {
    let directory = TempDir::new();
    let ipc_main = main_in(&directory);
    let longest = 107 - directory.as_os_str().len() - "/.sock".len();
    for len in [longest + 1, 200, 255, 300, 5000] {
        let name = "n".repeat(len);
        for error in [ipc_main.listen(&name).unwrap_err(), connect(&directory, &name).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::System);
            assert!(error.to_string().contains("107"), "{error}");
        }
    }
    assert_eq!(directory.names(), NOTHING);
    ipc_main.listen(&"n".repeat(longest)).unwrap();
    answers(&connect(&directory, &"n".repeat(longest)).unwrap());
}

#[test]
fn what_is_no_name_is_refused() {
    let directory = TempDir::new();
    let ipc_main = main_in(&directory);
    for name in ["", ".", "..", ".hidden", "a/b", "../up", "/absolute", "nul\0"] {
        for error in [ipc_main.listen(name).unwrap_err(), connect(&directory, name).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name:?}: {error}");
        }
    }
    assert_eq!(directory.names(), NOTHING);
}

#[test]
fn a_runtime_directory_that_is_not_ours_alone_is_refused_and_a_missing_one_is_made() {
    let directory = TempDir::new();
    let make = |name: &str, mode| {
        let path = directory.join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    };
    symlink(make("good", 0o700), directory.join("link")).unwrap();
    std::fs::write(directory.join("file"), "").unwrap();
    let table = [
        (directory.join("link"), "symbolic link"),
        (make("group", 0o750), "0750"),
        (make("others", 0o701), "0701"),
        (directory.join("file"), "no directory"),
        (directory.join("missing/parent"), "cannot make directory"),
    ];
    for (path, expected) in table {
        let main = main_in(&path);
        for error in [main.listen("name").unwrap_err(), connect(&path, "name").unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::System);
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains(&path.display().to_string()), "{text}");
        }
    }
    let missing = directory.join("missing");
    let ipc_main = main_in(&missing);
    ipc_main.listen("name").unwrap();
    assert_eq!(missing.metadata().unwrap().mode() & 0o7777, 0o700);
    answers(&connect(&missing, "name").unwrap());
}

#[test]
fn a_file_that_is_no_socket_is_kept_and_said() {
    let directory = TempDir::new();
    std::fs::write(directory.join("name.sock"), "precious").unwrap();
    let error = main_in(&directory).listen("name").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System);
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert_eq!(directory.names(), ["name.sock"]);
    assert_eq!(std::fs::read_to_string(directory.join("name.sock")).unwrap(), "precious");
}

#[test]
fn the_accept_policy_sees_who_connects_and_refuses_whom_it_likes() {
    let directory = TempDir::new();
    let welcome = Arc::new(Mutex::new(false));
    let (seen, sees) = channel();
    let decides = welcome.clone();
    let ipc_main = builder()
        .runtime_dir(&*directory)
        .accept(move |credentials| {
            seen.send(*credentials).unwrap();
            *decides.lock().unwrap()
        })
        .build()
        .unwrap();
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let (error, errors) = channel();
    ipc_main.on_error(move |report| drop(error.send((report.error.kind(), report.error.to_string()))));
    let here = received::<(u32,)>(&ipc_main, "here");
    ipc_main.listen("guarded").unwrap();
    let mut refused = Program::start(with("is refused", &directory, "guarded"));
    let found = next(&sees, "the question");
    assert_eq!((found.pid, found.uid), (Some(refused.id()), directory.metadata().unwrap().uid()));
    let (kind, text) = next(&errors, "the report");
    assert_eq!(kind, ErrorKind::Refused);
    assert!(text.contains(&refused.id().to_string()), "{text}");
    assert!(refused.ended(PATIENCE).success());
    assert!(ipc_main.all_web_contents().is_empty());
    *welcome.lock().unwrap() = true;
    let mut accepted = Program::start(with("connects", &directory, "guarded"));
    assert_eq!(next(&here, "who is accepted").1.0, accepted.id());
    drop(ipc_main);
    assert!(accepted.ended(PATIENCE).success());
}

/// A user with no process but ours.
const ANOTHER: u32 = 54_321;

/// Tries to connect as often as it is told to.
fn another_user() {
    let id = rustix::process::Uid::from_raw(ANOTHER);
    // This thread's, and of those that it starts.
    rustix::thread::set_thread_res_uid(id, id, id).unwrap();
    while line() == "connect" {
        match connect(Path::new(&env("TEST_DIRECTORY")), &env("TEST_NAME")) {
            Ok(ipc_renderer) => {
                answers(&ipc_renderer);
                println!("connected");
            }
            Err(error) if error.kind() == ErrorKind::Refused && error.to_string().contains("refuses this process") => {
                println!("refused");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::System);
                assert!(error.to_string().contains("must be a directory of user"), "{error}");
                // Nor does the kernel let in who does not look first.
                let path = Path::new(&env("TEST_DIRECTORY")).join(env("TEST_NAME") + ".sock");
                assert_eq!(UnixStream::connect(path).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
                println!("kept out");
            }
        }
    }
}

#[test]
fn another_user_is_kept_out_by_the_directory_and_refused_where_that_lets_it_in_unless_a_policy_accepts_it() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: nobody can become another user, so nothing is shown");
        return;
    }
    for accepts in [false, true] {
        let directory = TempDir::new();
        // Named memory is its user's alone, whatever the policy.
        let mut builder = builder().runtime_dir(&*directory).backing(Backing::Sealed);
        let (seen, sees) = channel();
        if accepts {
            builder = builder.accept(move |credentials| seen.send(*credentials).is_ok());
        }
        let ipc_main = builder.build().unwrap();
        ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
        let errors = told(&ipc_main);
        let path = ipc_main.listen("ours").unwrap();
        let mut other = Program::start(with("another user", &directory, "ours"));
        other.say("connect");
        other.until_it_says("kept out");
        assert!(errors.try_recv().is_err() && sees.try_recv().is_err(), "main has not seen it");
        // From here on only the policy is between them.
        for path in [&*directory, &path] {
            chown(path, Some(ANOTHER), None).unwrap();
        }
        other.say("connect");
        if accepts {
            other.until_it_says("connected");
            let found = next(&sees, "the question");
            assert_eq!((found.pid, found.uid), (Some(other.id()), ANOTHER));
        } else {
            other.until_it_says("refused");
            let error = next(&errors, "the report");
            assert_eq!((error.kind, error.renderer), (ErrorKind::Refused, None));
            for part in [format!("pid: Some({})", other.id()), format!("uid: {ANOTHER}")] {
                assert!(error.text.contains(&part), "{}", error.text);
            }
            assert!(ipc_main.all_web_contents().is_empty());
        }
        assert!(other.ended(PATIENCE).success());
        // Nothing of that has changed who we are.
        chown(&*directory, Some(0), None).unwrap();
        answers(&connect(&directory, "ours").unwrap());
        assert!(errors.try_recv().is_err());
    }
}

#[test]
fn an_accept_policy_that_panics_refuses_and_main_goes_on() {
    let directory = TempDir::new();
    let panics = Arc::new(Mutex::new(true));
    let decides = panics.clone();
    let ipc_main = builder()
        .runtime_dir(&*directory)
        .accept(move |_| {
            if std::mem::take(&mut *decides.lock().unwrap_or_else(std::sync::PoisonError::into_inner)) {
                std::panic::resume_unwind(Box::new("no opinion"));
            }
            true
        })
        .build()
        .unwrap();
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let (error, errors) = channel();
    ipc_main.on_error(move |report| drop(error.send(report.error.to_string())));
    ipc_main.listen("guarded").unwrap();
    assert_eq!(connect(&directory, "guarded").unwrap_err().kind(), ErrorKind::Refused);
    let texts = [next(&errors, "the panic"), next(&errors, "the refusal")];
    assert!(texts.iter().any(|text| text.contains("no opinion")), "{texts:?}");
    answers(&connect(&directory, "guarded").unwrap());
}

#[test]
fn who_says_nothing_after_connecting_is_given_up_and_holds_up_nobody() {
    let directory = TempDir::new();
    let ipc_main = main_in(&directory);
    let path = ipc_main.listen("patient").unwrap();
    let silent =
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET, None).unwrap();
    rustix::net::connect(&silent, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    until("main has taken the connection", || ipc_main.all_web_contents().len() == 1);
    let gone = gone(&ipc_main);
    answers(&connect(&directory, "patient").unwrap());
    // The other one closed in order; the silent one's time is over after some seconds.
    assert_eq!(next(&gone, "the other one").1, GoneReason::Closed);
    let GoneReason::NeverConnected(text) = next(&gone, "the silent one").1 else { panic!("it never spoke") };
    assert!(text.contains("did not answer within"), "{text}");
    assert!(ipc_main.all_web_contents().is_empty());
}
