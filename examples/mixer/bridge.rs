//! A host whose plug-ins are processes: one of them dies, one hangs, and the sound goes on.

use crate::plugin::{FRAMES, PROCESS, Plugin, Samples, lane};
use crate::thread::{RATE, Schedule, Spread, Times, become_real_time, faults, sleep_until};
use crate::{Failure, Options, PATIENCE, PLUGIN, ended_well};
use ringmain::{IpcMain, IpcMainEvent, LaneDuplex, LaneError, LaneGroup, WebContents};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PLUGINS: usize = 8;
/// Of the plug-ins, the one that is killed and the one that is stopped.
const KILLED: usize = 2;
const STOPPED: usize = 5;

type Lane = LaneDuplex<Samples, Samples>;

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let mut stage = Stage::new()?;
    let mut group = LaneGroup::new();
    let mut plugins = Vec::new();
    let mut class = String::new();
    for number in 0..PLUGINS {
        let (plugin, mut lane) = stage.start(number)?;
        class = stage.ready(&plugin)?;
        lane.prepare();
        group.push(lane);
        plugins.push(plugin);
    }
    // From the control thread to the audio thread a new lane, and the old one back, so that the audio thread never frees one. These
    // rings are wait-free at both ends. A channel of std's is not: whoever sends may have to lock and to wake a receiver.
    let (mut fresh, is_fresh) = rtrb::RingBuffer::<(usize, Lane)>::new(1);
    let (old, mut is_old) = rtrb::RingBuffer::<Lane>::new(1);
    let blocks = (options.seconds * RATE) as usize / FRAMES;
    let mut host = Host {
        group,
        peers: std::array::from_fn(Peer::new),
        fresh: is_fresh,
        old,
        waits: Times::new(blocks),
        exchanges: Times::new(blocks),
        late: Times::new(blocks),
        blocks: 0,
        missed: 0,
        lost: 0,
        mixed: [0.0; FRAMES],
        faults: 0,
        all_play: false,
    };

    let began = Instant::now();
    let sleep_to = |part: u32| sleep_until(began + Duration::from_secs(options.seconds) * part / 4);
    let (mut host, host_class, noticed, back) = std::thread::scope(|scope| {
        let audio = std::thread::Builder::new().name("audio".into()).spawn_scoped(scope, move || {
            let class = become_real_time();
            host.run(blocks as u64);
            (host, class)
        })?;

        sleep_to(1);
        let killed = Instant::now();
        plugins[KILLED].process().kill()?;
        let gone: u32 = stage.gone.recv_timeout(PATIENCE)?;
        if gone != plugins[KILLED].id() {
            return Err(format!("renderer {gone} is gone, and {} was killed", plugins[KILLED].id()).into());
        }
        let noticed = killed.elapsed();
        let (plugin, mut lane) = stage.start(KILLED)?;
        stage.ready(&plugin)?;
        lane.prepare();
        fresh.push((KILLED, lane)).map_err(|_| "there is no room for the new lane")?;
        let until = Instant::now() + PATIENCE;
        while let Err(error) = is_old.pop() {
            if Instant::now() > until {
                return Err(format!("the old lane has not come back: {error}").into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let back = killed.elapsed();
        plugins[KILLED] = plugin;

        sleep_to(2);
        let stopped = Stopped::new(&plugins[STOPPED])?;
        sleep_to(3);
        drop(stopped);
        let (host, class) = audio.join().map_err(|_| "the audio thread has panicked")?;
        Ok::<_, Failure>((host, class, noticed, back))
    })?;

    host.print(&host_class, &class);
    println!(
        "  plug-in {KILLED} was killed: its end was noticed after {:.1} ms, its successor plays since {:.1} ms after the kill",
        noticed.as_secs_f64() * 1e3,
        back.as_secs_f64() * 1e3
    );
    host.check(&plugins)?;
    for plugin in &plugins {
        plugin.close(PATIENCE)?;
        ended_well(plugin)?;
    }
    println!("  every block of every plug-in was right or silent");
    Ok(())
}

/// The control side: starts plug-ins and hears of them.
struct Stage {
    ipc_main: IpcMain,
    ready: Receiver<(u32, String)>,
    gone: Receiver<u32>,
}

impl Stage {
    fn new() -> Result<Self, Failure> {
        let ipc_main = IpcMain::new()?;
        let (tell, ready) = channel();
        ipc_main.on("ready", move |event: &IpcMainEvent, (class,): (String,)| tell.send((event.sender().id(), class)));
        let (tell, gone) = channel();
        ipc_main.on_renderer_gone(move |plugin, _| _ = tell.send(plugin.id()));
        Ok(Self { ipc_main, ready, gone })
    }

    fn start(&mut self, number: usize) -> Result<(WebContents, Lane), Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(PLUGIN).arg(number.to_string());
        let plugin = self.ipc_main.spawn(command)?;
        let lane = plugin.lane(PROCESS, &lane())?;
        Ok((plugin, lane))
    }

    /// Waits until a plug-in looks at its lane; its thread's class.
    fn ready(&self, plugin: &WebContents) -> Result<String, Failure> {
        match self.ready.recv_timeout(PATIENCE)? {
            (id, class) if id == plugin.id() => Ok(class),
            (id, _) => Err(format!("renderer {id} is ready, and not {}", plugin.id()).into()),
        }
    }
}

/// A process that was stopped, until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(plugin: &WebContents) -> Result<Self, Failure> {
        let process = Pid::from_raw(plugin.process().id().try_into()?).ok_or("a process without a number")?;
        kill_process(process, Signal::STOP)?;
        Ok(Self(process))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// A plug-in as the audio thread sees it.
struct Peer {
    number: usize,
    /// What the plug-in has to answer: it is given what the plug-in was given.
    twin: Plugin,
    is_asked: bool,
    /// Of the process that plays now.
    asked: u64,
    answered: u64,
    timed_out: u64,
    /// Not asked, because so many blocks wait for it; or because it is gone.
    full: u64,
    closed: u64,
    /// Blocks of the processes before.
    before: u64,
    late_before: u64,
    wrong: u64,
    other: Option<LaneError>,
}

impl Peer {
    fn new(number: usize) -> Self {
        let twin = Plugin::new(number);
        Self {
            number,
            twin,
            is_asked: false,
            asked: 0,
            answered: 0,
            timed_out: 0,
            full: 0,
            closed: 0,
            before: 0,
            late_before: 0,
            wrong: 0,
            other: None,
        }
    }

    /// Another process plays from now on: it has heard nothing yet.
    fn succeed(&mut self) {
        let Self { number, answered, timed_out, before, late_before, closed, full, wrong, other, .. } = *self;
        let (before, late_before) = (before + answered, late_before + timed_out);
        *self = Self { before, late_before, closed, full, wrong, other, ..Self::new(number) };
    }

    fn asked(&mut self, asked: Result<(), LaneError>) {
        self.is_asked = asked.is_ok();
        match asked {
            Ok(()) => self.asked += 1,
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: LaneError) {
        match error {
            LaneError::TimedOut => self.timed_out += 1,
            LaneError::Full => self.full += 1,
            LaneError::Closed => self.closed += 1,
            other => self.other = Some(other),
        }
    }

    /// Takes an answer: what is right is played, what is wrong is counted, and the rest is silence.
    fn answer(&mut self, input: &Samples, answer: Result<&Samples, LaneError>, mixed: &mut Samples) -> bool {
        if !std::mem::take(&mut self.is_asked) {
            return false;
        }
        let expected = self.twin.process(input);
        match answer {
            Ok(samples) => {
                self.answered += 1;
                self.wrong += u64::from(*samples != expected);
                mixed.iter_mut().zip(samples).for_each(|(sum, sample)| *sum += sample);
                true
            }
            Err(error) => {
                self.failed(error);
                false
            }
        }
    }
}

/// What the audio thread owns.
struct Host {
    group: LaneGroup<Samples, Samples>,
    peers: [Peer; PLUGINS],
    fresh: rtrb::Consumer<(usize, Lane)>,
    old: rtrb::Producer<Lane>,
    /// Of the blocks in which all have answered.
    /// Of all blocks, and of those in which all have answered.
    waits: Times,
    exchanges: Times,
    late: Times,
    blocks: u64,
    missed: u64,
    lost: u64,
    mixed: Samples,
    faults: u64,
    /// In the end.
    all_play: bool,
}

impl Host {
    /// The audio thread.
    fn run(&mut self, blocks: u64) {
        // The first look has faults of its own.
        let before = (faults(), faults()).1;
        let schedule = Schedule::new(FRAMES);
        let mut block = 0;
        while block < blocks {
            let (due, deadline) = (schedule.due(block), schedule.due(block + 1));
            sleep_until(due);
            let began = Instant::now();
            self.swap();
            // Three quarters of the block for the plug-ins; the rest is the host's.
            let exchanged = self.exchange(block, due + schedule.period() * 3 / 4);
            let end = Instant::now();
            self.waits.push(end - began);
            if let Some(took) = exchanged {
                self.exchanges.push(took);
            }
            self.late.push(began - due);
            self.blocks += 1;
            let next = schedule.after(block, end);
            if end > deadline {
                self.missed += 1;
                self.lost += next - block - 1;
            }
            block = next;
        }
        self.faults = faults() - before;
        // All of them play: also the successor, and the one that was stopped.
        let until = Instant::now() + PATIENCE;
        while !self.all_play && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
            self.all_play = self.exchange(block, Instant::now() + Duration::from_secs(1)).is_some();
            block += 1;
        }
    }

    /// Takes a lane from the control thread, if there is one, and gives the old one to it.
    fn swap(&mut self) {
        if self.old.is_full() {
            return;
        }
        if let Ok((number, lane)) = self.fresh.pop() {
            let (Ok(old) | Err(old)) = self.group.replace(number, lane);
            self.peers[number].succeed();
            // There is room: nobody else pushes.
            let _ = self.old.push(old);
        }
    }

    /// Sends all plug-ins the block and mixes what comes back; how long that took, if all have answered.
    fn exchange(&mut self, block: u64, deadline: Instant) -> Option<Duration> {
        let input: Samples =
            std::array::from_fn(|frame| ((block * FRAMES as u64 + frame as u64) % 4801) as f32 / 4801.0);
        let began = Instant::now();
        for (number, peer) in self.peers.iter_mut().enumerate() {
            peer.asked(self.group.start(number, &input));
        }
        self.group.wait_all(deadline);
        let took = began.elapsed();
        self.mixed = [0.0; FRAMES];
        let mut answered = 0;
        for (number, peer) in self.peers.iter_mut().enumerate() {
            answered += usize::from(peer.answer(&input, self.group.response(number), &mut self.mixed));
        }
        (answered == PLUGINS).then_some(took)
    }

    fn print(&mut self, class: &str, of_plugins: &str) {
        println!(
            "{PLUGINS} plug-ins, a process each; blocks of {FRAMES} frames at 48 kHz, {:.1} µs, of which they have three quarters",
            Schedule::new(FRAMES).period().as_secs_f64() * 1e6
        );
        println!("the audio thread has {class}, those of the plug-ins have {of_plugins}");
        let Self { blocks, missed, lost, faults, .. } = self;
        println!(
            "  {blocks} blocks, {missed} of them late, {lost} more not begun; {faults} page faults on the audio thread"
        );
        Spread::print_head();
        let all = self.exchanges.len();
        std::mem::take(&mut self.waits).spread().print("asked all, waited for all");
        std::mem::take(&mut self.exchanges).spread().print(&format!("the {all} that all have answered"));
        std::mem::take(&mut self.late).spread().print("wake-up lateness");
        println!(
            "{:11}{:>10}   silent, because it was {:>9}{:>9}{:>9}{:>16}",
            "", "played", "late", "behind", "gone", "then dropped"
        );
        for (number, peer) in self.peers.iter().enumerate() {
            let Peer { answered, before, full, closed, .. } = peer;
            let timed_out = peer.timed_out + peer.late_before;
            let late = self.group.lane(number).map_or(0, |lane| lane.stats().late);
            println!("  plug-in {number}{:>10}{timed_out:>36}{full:>9}{closed:>9}{late:>16}", before + answered);
        }
    }

    /// Whether all that was heard was right, and nothing is missing without a reason.
    fn check(&mut self, plugins: &[WebContents]) -> Result<(), Failure> {
        let mut wrong = Vec::new();
        for (number, (peer, plugin)) in self.peers.iter().zip(plugins).enumerate() {
            let mut demand =
                |holds: bool, what: String| wrong.extend((!holds).then(|| format!("plug-in {number}: {what}")));
            let late = self.group.lane(number).map_or(0, |lane| lane.stats().late);
            // Those that found no room, behind others that were late too.
            let dropped: u64 = plugin.invoke("dropped", (), PATIENCE).wait()?;
            let Peer { asked, answered, timed_out, closed, .. } = *peer;
            demand(peer.wrong == 0, format!("{} blocks were wrong", peer.wrong));
            demand(peer.other.is_none(), format!("{:?}", peer.other));
            demand(asked == answered + timed_out, format!("{answered} answers and {timed_out} none to {asked} blocks"));
            demand(
                timed_out == late + dropped,
                format!(
                    "of {timed_out} late answers {late} were dropped by their number, and {dropped} by the plug-in"
                ),
            );
            demand(number == KILLED || closed == 0, format!("was gone for {closed} blocks"));
            demand(number != STOPPED || late > 0, "was stopped, and no late answer was dropped".into());
        }
        wrong.extend((!self.all_play).then(|| "not all play in the end".into()));
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ").into()) }
    }
}
