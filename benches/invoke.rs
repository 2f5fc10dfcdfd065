//! Calls through the public API between two processes: the bench binary is run again as the renderer's main. The renderer
//! (this process) calls; main echoes.
#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput};
use ringmain::{IpcMain, IpcRenderer, Wait};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

const ROLE: &str = "RINGMAIN_BENCH_MAIN";

fn wait_of(name: &str) -> Wait {
    match name {
        "spin" => Wait::Spin,
        "park" => Wait::Park,
        _ => Wait::Adaptive,
    }
}

/// The other process: a main that echoes until its standard input ends.
fn play_main(wait: &str) -> ringmain::Result<()> {
    let ipc_main = IpcMain::builder().wait(wait_of(wait)).build()?;
    ipc_main.handle("echo", |_event, (text,): (String,)| Ok(text))?;
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b))?;
    ipc_main.handle_async("echo async", |_event, (text,): (String,)| async move { Ok(text) })?;
    ipc_main.on("send", |_event, (text,): (String,)| {
        black_box(text);
    });
    let name = format!("bench-{}", std::process::id());
    ipc_main.listen(&name)?;
    println!("{name}");
    std::io::stdout().flush().expect("standard output");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    Ok(())
}

struct Main {
    child: Child,
    name: String,
}

impl Main {
    fn start(wait: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .env(ROLE, wait)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a main");
        let mut name = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut name).expect("its name");
        Self { child, name: name.trim().to_string() }
    }
}

impl Drop for Main {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // it ends by that
        let _ = self.child.wait();
    }
}

fn benches(criterion: &mut Criterion) {
    for wait in ["spin", "adaptive", "park"] {
        let main = Main::start(wait);
        let ipc_renderer: IpcRenderer =
            IpcRenderer::builder().wait(wait_of(wait)).connect_to(&main.name).expect("connected");
        let mut group = criterion.benchmark_group(format!("invoke/{wait}"));
        group.bench_function("add, typed", |bencher| {
            bencher.iter(|| ipc_renderer.invoke::<i64>("add", (2, 3)).wait().expect("a sum"));
        });
        for bytes in [64, 4 << 10, 64 << 10, 1 << 20] {
            let text = "x".repeat(bytes);
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_function(BenchmarkId::new("echo", bytes), |bencher| {
                bencher.iter(|| ipc_renderer.invoke::<String>("echo", (&text,)).wait().expect("an echo"));
            });
        }
        let text = "x".repeat(64);
        group.throughput(Throughput::Elements(1));
        group.bench_function("echo async handler/64", |bencher| {
            bencher.iter(|| ipc_renderer.invoke::<String>("echo async", (&text,)).wait().expect("an echo"));
        });
        group.bench_function("send with listener/64", |bencher| {
            bencher.iter(|| {
                while ipc_renderer.send("send", (&text,)).is_err() {
                    std::hint::spin_loop();
                }
            });
        });
        group.finish();
        drop(ipc_renderer);
    }
}

fn main() {
    // Before Criterion reads its arguments.
    if let Ok(wait) = std::env::var(ROLE) {
        if let Err(error) = play_main(&wait) {
            eprintln!("the main of the bench failed: {error}");
            std::process::exit(1);
        }
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    benches(&mut criterion);
    criterion.final_summary();
}
