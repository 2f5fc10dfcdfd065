use std::{cell::Cell, rc::Rc};

use proptest::{collection::vec, prelude::*};

use super::{Where::*, *};

/// What the tests look at of an addition.
struct Is {
    id: EntryId,
    leak_warning: Option<usize>,
}

trait Short<L> {
    fn add(&mut self, channel: &str, listener: L, at: Where, once: bool) -> Is;
    fn clear(&mut self, channel: Option<&str>) -> Vec<L>;
    fn runs(&mut self, channel: &str, entry: &Entry<L>) -> bool;
}

impl<L: Clone, H: Clone> Short<L> for Registry<L, H> {
    fn add(&mut self, channel: &str, listener: L, at: Where, once: bool) -> Is {
        let id = self.next_id();
        let Added { leak_warning } = self.add_listener(id, channel, listener, at, once);
        Is { id, leak_warning }
    }

    fn clear(&mut self, channel: Option<&str>) -> Vec<L> {
        self.remove_all_listeners(channel).into_iter().map(|removed| removed.listener).collect()
    }

    fn runs(&mut self, channel: &str, entry: &Entry<L>) -> bool {
        self.claim(channel, entry) != Claim::HasRun
    }
}

/// A registry of named listeners without code.
type Names = Registry<&'static str, &'static str>;

/// Emits as the driver does; `body` is what the listeners do.
fn emit(registry: &mut Names, channel: &str, body: &mut dyn FnMut(&mut Names, &'static str)) -> bool {
    let Some(snapshot) = registry.snapshot(channel) else {
        return false;
    };
    for entry in snapshot.iter() {
        if registry.runs(channel, entry) {
            body(registry, entry.listener());
        }
    }
    true
}

fn ran(registry: &mut Names, channel: &str) -> Vec<&'static str> {
    let mut ran = Vec::new();
    emit(registry, channel, &mut |_, name| ran.push(name));
    ran
}

fn on(registry: &mut Names, channel: &str, name: &'static str) -> EntryId {
    registry.add(channel, name, Back, false).id
}

fn once(registry: &mut Names, channel: &str, name: &'static str) -> EntryId {
    registry.add(channel, name, Back, true).id
}

#[test]
fn case_84_listeners_run_in_order_and_prepended_ones_first() {
    let mut registry = Names::new();
    on(&mut registry, "x", "b");
    on(&mut registry, "x", "c");
    let _ = registry.add("x", "a", Front, false);
    let _ = registry.add("x", "once", Front, true);
    assert_eq!(ran(&mut registry, "x"), ["once", "a", "b", "c"]);
    assert_eq!(ran(&mut registry, "x"), ["a", "b", "c"]);
}

#[test]
fn case_86_a_listener_added_during_emit_runs_from_the_next_emit_on() {
    let mut registry = Names::new();
    on(&mut registry, "x", "adder");
    let mut seen = Vec::new();
    for _ in 0..2 {
        emit(&mut registry, "x", &mut |registry, name| {
            seen.push(name);
            if name == "adder" {
                let _ = registry.add("x", "late", Front, false);
            }
        });
    }
    assert_eq!(seen, ["adder", "late", "adder"]);
}

#[test]
fn case_88_a_once_listener_runs_once_in_four_emits() {
    let mut registry = Names::new();
    once(&mut registry, "x", "a");
    let runs: Vec<_> = (0..4).map(|_| ran(&mut registry, "x").len()).collect();
    assert_eq!(runs, [1, 0, 0, 0]);
    assert_eq!(registry.listener_count("x"), 0);
    assert!(registry.event_names().is_empty());
}

#[test]
fn case_88_a_once_listener_is_gone_before_it_runs_and_nested_emits_cannot_run_it_again() {
    let mut registry = Names::new();
    once(&mut registry, "x", "a");
    on(&mut registry, "x", "b");
    let mut seen = Vec::new();
    emit(&mut registry, "x", &mut |registry, name| {
        seen.push((name, registry.listener_count("x")));
        if name == "a" {
            seen.extend(ran(registry, "x").into_iter().map(|name| (name, 0)));
        }
    });
    assert_eq!(seen, [("a", 1), ("b", 0), ("b", 1)]);
}

#[test]
fn case_88_a_once_listener_that_a_nested_emit_ran_is_skipped_by_the_outer_one() {
    let mut registry = Names::new();
    let first = on(&mut registry, "x", "first");
    once(&mut registry, "x", "once");
    let mut seen = Vec::new();
    emit(&mut registry, "x", &mut |registry, name| {
        seen.push(name);
        if name == "first" {
            registry.remove_listener("x", first);
            seen.extend(ran(registry, "x"));
        }
    });
    assert_eq!(seen, ["first", "once"]);
}

#[test]
fn case_89_a_removed_once_listener_does_not_run() {
    let mut registry = Names::new();
    let id = once(&mut registry, "x", "a");
    assert_eq!(registry.remove_listener("x", id), Some("a"));
    assert!(!emit(&mut registry, "x", &mut |_, _| unreachable!()));
}

#[test]
fn case_92_a_later_listener_removed_during_emit_runs_that_time_only() {
    for is_once in [false, true] {
        let mut registry = Names::new();
        on(&mut registry, "x", "remover");
        let later = registry.add("x", "later", Back, is_once).id;
        let mut seen = Vec::new();
        for _ in 0..2 {
            emit(&mut registry, "x", &mut |registry, name| {
                seen.push(name);
                registry.remove_listener("x", later);
            });
        }
        assert_eq!(seen, ["remover", "later", "remover"], "once: {is_once}");
    }
}

#[test]
fn case_92_a_removed_once_listener_that_two_emits_hold_runs_in_the_first_to_reach_it() {
    let mut registry = Names::new();
    let id = once(&mut registry, "x", "once");
    let (outer, inner) = (registry.snapshot("x").unwrap(), registry.snapshot("x").unwrap());
    registry.remove_listener("x", id);
    assert!(registry.runs("x", &inner[0]));
    assert!(!registry.runs("x", &outer[0]));
    assert!(!registry.runs("x", &inner[0]));
}

#[test]
fn case_92_all_removed_during_emit_still_run_and_those_added_again_run_once() {
    let mut registry = Names::new();
    on(&mut registry, "x", "first");
    on(&mut registry, "x", "second");
    once(&mut registry, "x", "third");
    let mut seen = Vec::new();
    emit(&mut registry, "x", &mut |registry, name| {
        seen.push(name);
        if name == "first" {
            assert_eq!(registry.clear(Some("x")), ["third", "second", "first"]);
            once(registry, "x", "third");
        }
    });
    assert_eq!(seen, ["first", "second", "third"]);
    assert_eq!(ran(&mut registry, "x"), ["third"], "the one added again is a registration of its own");
}

#[test]
fn case_93_removing_what_is_not_registered_changes_nothing() {
    let mut registry = Names::new();
    let (x, y) = (on(&mut registry, "x", "a"), on(&mut registry, "y", "b"));
    assert_eq!(registry.remove_listener("y", x), None, "of another channel");
    assert_eq!(registry.remove_listener("nowhere", x), None);
    assert_eq!(registry.remove_listener("x", x), Some("a"));
    assert_eq!(registry.remove_listener("x", x), None, "twice");
    assert_eq!(registry.remove_listener("y", y), Some("b"));
}

#[test]
fn case_97_two_listeners_that_remove_themselves_both_run_and_none_remains() {
    let mut registry = Names::new();
    let ids = [on(&mut registry, "x", "a"), on(&mut registry, "x", "b")];
    let mut seen = Vec::new();
    emit(&mut registry, "x", &mut |registry, name| {
        seen.push(name);
        registry.remove_listener("x", ids[usize::from(name == "b")]);
    });
    assert_eq!(seen, ["a", "b"]);
    assert_eq!(registry.listener_count("x"), 0);
}

#[test]
fn case_101_one_listener_added_twice_and_removed_once_runs_once() {
    let mut registry = Names::new();
    let first = on(&mut registry, "x", "a");
    let second = on(&mut registry, "x", "a");
    assert_ne!(first, second);
    assert_eq!(ran(&mut registry, "x"), ["a", "a"]);
    registry.remove_listener("x", second);
    assert_eq!(ran(&mut registry, "x"), ["a"]);
}

#[test]
fn case_104_emit_tells_whether_anybody_listened() {
    let mut registry = Names::new();
    assert!(!emit(&mut registry, "x", &mut |_, _| ()));
    on(&mut registry, "x", "a");
    assert!(emit(&mut registry, "x", &mut |_, _| ()));
}

#[test]
fn case_106_the_eleventh_listener_of_a_channel_warns_once() {
    let mut registry = Names::new();
    for channel in ["x", "y"] {
        let warnings: Vec<_> = (1..=13).filter_map(|_| registry.add(channel, "a", Back, false).leak_warning).collect();
        assert_eq!(warnings, [11]);
        assert_eq!(registry.listener_count(channel), 13, "only a warning");
    }
    registry.clear(Some("x"));
    let again = (1..=12).filter_map(|_| registry.add("x", "a", Front, true).leak_warning).count();
    assert_eq!(again, 1, "a channel that was emptied starts afresh");
}

#[test]
fn case_107_limit_zero_never_warns_and_a_lowered_limit_warns_at_the_next_addition() {
    let mut registry = Names::new();
    registry.set_max_listeners(0);
    assert!((0..1000).all(|_| { registry.add("x", "a", Back, false).leak_warning.is_none() }));
    registry.set_max_listeners(5);
    assert_eq!(registry.max_listeners(), 5);
    assert_eq!(registry.add("x", "a", Back, false).leak_warning, Some(1001));
    assert_eq!(registry.add("x", "a", Back, false).leak_warning, None);
}

#[test]
fn case_109_any_text_is_a_channel_name() {
    let mut registry = Names::new();
    for name in ["", "__proto__", "toString", "ä😀", "a\0b"] {
        assert_eq!(registry.listener_count(name), 0);
        on(&mut registry, name, "a");
        assert_eq!(registry.set_handler(name, "h", false), Ok(()));
        assert_eq!(ran(&mut registry, name), ["a"]);
    }
    assert_eq!(registry.event_names(), ["", "__proto__", "toString", "ä😀", "a\0b"]);
    assert_eq!(registry.handler_names(), registry.event_names());
}

#[test]
fn case_112_channels_are_listed_in_the_order_of_their_first_listener() {
    let mut registry = Names::new();
    let b = on(&mut registry, "b", "1");
    on(&mut registry, "a", "2");
    on(&mut registry, "b", "3");
    assert_eq!(registry.event_names(), ["b", "a"]);
    registry.remove_listener("b", b);
    assert_eq!(registry.event_names(), ["b", "a"]);
    registry.clear(Some("b"));
    on(&mut registry, "b", "4");
    assert_eq!(registry.event_names(), ["a", "b"]);
}

#[test]
fn case_114_one_channel_is_cleared_or_all_of_them() {
    let mut registry = Names::new();
    for (channel, name) in [("x", "a"), ("y", "b"), ("x", "c"), ("z", "d")] {
        on(&mut registry, channel, name);
    }
    assert_eq!(registry.clear(Some("nowhere")), [""; 0]);
    assert_eq!(registry.clear(Some("y")), ["b"]);
    assert_eq!(registry.clear(None), ["c", "a", "d"]);
    assert_eq!(registry.event_names(), [""; 0]);
}

#[test]
fn case_115_listeners_and_handlers_of_a_channel_do_not_see_each_other() {
    let mut registry = Names::new();
    on(&mut registry, "listened", "l");
    assert_eq!(registry.set_handler("handled", "h", false), Ok(()));
    assert_eq!(registry.take_or_get_handler("listened"), None);
    assert!(registry.snapshot("handled").is_none());
}

#[test]
fn case_116_handlers_survive_the_removal_of_all_listeners() {
    let mut registry = Names::new();
    on(&mut registry, "x", "l");
    assert_eq!(registry.set_handler("x", "h", false), Ok(()));
    assert_eq!(registry.clear(None), ["l"]);
    assert_eq!(registry.take_or_get_handler("x"), Some("h"));
}

#[test]
fn case_119_a_handler_removed_while_a_call_runs_stays_with_that_call() {
    let mut registry = Registry::<(), Arc<&str>>::new();
    registry.set_handler("x", Arc::new("h"), false).unwrap();
    let running = registry.take_or_get_handler("x").unwrap();
    drop(registry.remove_handler("x"));
    assert_eq!((*running, Arc::strong_count(&running)), ("h", 1));
    assert_eq!(registry.take_or_get_handler("x"), None);
}

#[test]
fn a_second_handler_is_handed_back_and_the_first_stays() {
    let mut registry = Names::new();
    for first_is_once in [false, true] {
        assert_eq!(registry.set_handler("x", "first", first_is_once), Ok(()));
        assert_eq!(registry.set_handler("x", "second", false), Err("second"));
        assert_eq!(registry.take_or_get_handler("x"), Some("first"));
        registry.remove_handler("x");
    }
}

#[test]
fn a_once_handler_is_unregistered_before_it_runs() {
    let mut registry = Names::new();
    assert_eq!(registry.set_handler("x", "h", true), Ok(()));
    assert_eq!(registry.take_or_get_handler("x"), Some("h"));
    assert_eq!(registry.handler_names(), [""; 0]);
    assert_eq!(registry.set_handler("x", "from inside", true), Ok(()));
    assert_eq!(registry.take_or_get_handler("x"), Some("from inside"));
    assert_eq!(registry.take_or_get_handler("x"), None, "the second of two queued calls finds none");
    assert_eq!(registry.remove_handler("x"), None);
}

/// By counts of `Arc`: what was removed has one owner left, the caller.
#[test]
fn removed_callables_are_handed_out_and_no_other_reference_remains() {
    let mut registry = Registry::<Arc<()>, ()>::new();
    let callables: Vec<_> = (0..6).map(|_| Arc::new(())).collect();
    let ids: Vec<_> = callables
        .iter()
        .enumerate()
        .map(|(i, callable)| registry.add("x", Arc::clone(callable), Back, i % 2 == 1).id)
        .collect();
    let snapshot = registry.snapshot("x").unwrap();
    let mut removed =
        vec![registry.remove_listener("x", ids[0]).unwrap(), registry.remove_listener("x", ids[1]).unwrap()];
    removed.extend(registry.clear(Some("x")).into_iter().rev());
    assert!(callables.iter().all(|callable| Arc::strong_count(callable) == 3), "mine, removed, snapshot");
    assert!(snapshot.iter().all(|entry| registry.runs("x", entry)));
    drop(snapshot);
    assert!(callables.iter().zip(&removed).all(|(a, b)| Arc::ptr_eq(a, b) && Arc::strong_count(a) == 2));
}

#[test]
fn claiming_never_drops_the_last_reference() {
    let mut registry = Registry::<Arc<()>, ()>::new();
    let callable = Arc::new(());
    let _ = registry.add("x", Arc::clone(&callable), Back, true);
    let snapshot = registry.snapshot("x").unwrap();
    assert!(registry.runs("x", &snapshot[0]));
    assert_eq!(Arc::strong_count(&callable), 2, "mine and the snapshot's");
}

#[test]
fn once_listeners_removed_during_emits_do_not_pile_up() {
    let mut registry = Names::new();
    for _ in 0..10_000 {
        let id = once(&mut registry, "x", "a");
        let snapshot = registry.snapshot("x");
        registry.remove_listener("x", id);
        drop(snapshot);
    }
    assert!(registry.orphans.len() <= MIN_PRUNE_AT, "{} are left", registry.orphans.len());
    let id = once(&mut registry, "x", "a");
    registry.remove_listener("x", id);
    assert!(!registry.orphans.contains_key(&id), "no emit holds it");
}

#[test]
fn a_snapshot_shares_the_list_until_that_is_changed() {
    let mut registry = Names::new();
    on(&mut registry, "x", "a");
    let (first, second) = (registry.snapshot("x").unwrap(), registry.snapshot("x").unwrap());
    assert!(std::ptr::eq(&*first, &*second));
    on(&mut registry, "x", "b");
    assert_eq!((first.len(), registry.snapshot("x").unwrap().len()), (1, 2));
}

// The oracle: Node's emitter written down as naively as possible, and one interpreter that runs a random program on
// either, in which listeners have programs of their own.

const CHANNELS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Op {
    Add {
        channel: usize,
        script: usize,
        front: bool,
        once: bool,
    },
    /// Removes the nth registration made so far (modulo their number), found or not.
    Remove {
        channel: usize,
        nth: usize,
    },
    RemoveAll(Option<usize>),
    Emit(usize),
    SetMax(usize),
    Handle {
        channel: usize,
        once: bool,
    },
    Call(usize),
    RemoveHandler(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let channel = || 0..CHANNELS.len();
    prop_oneof![
        5 => (channel(), 0..6usize, any::<bool>(), any::<bool>())
            .prop_map(|(channel, script, front, once)| Op::Add { channel, script, front, once }),
        4 => (channel(), 0..40usize).prop_map(|(channel, nth)| Op::Remove { channel, nth }),
        1 => proptest::option::of(channel()).prop_map(Op::RemoveAll),
        5 => channel().prop_map(Op::Emit),
        1 => (0..4usize).prop_map(Op::SetMax),
        1 => (channel(), any::<bool>()).prop_map(|(channel, once)| Op::Handle { channel, once }),
        1 => channel().prop_map(Op::Call),
        1 => channel().prop_map(Op::RemoveHandler),
    ]
}

/// A listener in either emitter: registration number and the script that it runs.
type Tag = (usize, usize);

trait Emitter {
    type Held;
    /// Returns the leak warning.
    fn add(&mut self, channel: &'static str, tag: Tag, front: bool, once: bool) -> Option<usize>;
    fn remove(&mut self, channel: &'static str, nth: usize) -> Option<Tag>;
    fn remove_all(&mut self, channel: Option<&'static str>) -> Vec<Tag>;
    fn hold(&self, channel: &'static str) -> Vec<Self::Held>;
    fn fire(&mut self, channel: &'static str, held: &Self::Held) -> Option<Tag>;
    fn set_max(&mut self, max: usize);
    fn handle(&mut self, channel: &'static str, handler: usize, once: bool) -> bool;
    fn call(&mut self, channel: &'static str) -> Option<usize>;
    fn remove_handler(&mut self, channel: &'static str) -> Option<usize>;
    fn state(&self) -> String;
}

#[derive(Default)]
struct Real {
    registry: Option<Registry<Tag, usize>>,
    ids: Vec<EntryId>,
}

impl Real {
    fn registry(&mut self) -> &mut Registry<Tag, usize> {
        self.registry.get_or_insert_with(Registry::new)
    }
}

impl Emitter for Real {
    type Held = (Rc<Snapshot<Tag>>, usize);

    fn add(&mut self, channel: &'static str, tag: Tag, front: bool, once: bool) -> Option<usize> {
        let added = self.registry().add(channel, tag, if front { Front } else { Back }, once);
        self.ids.push(added.id);
        added.leak_warning
    }

    fn remove(&mut self, channel: &'static str, nth: usize) -> Option<Tag> {
        let id = self.ids[nth];
        self.registry().remove_listener(channel, id)
    }

    fn remove_all(&mut self, channel: Option<&'static str>) -> Vec<Tag> {
        self.registry().clear(channel)
    }

    fn hold(&self, channel: &'static str) -> Vec<Self::Held> {
        let Some(snapshot) = self.registry.as_ref().and_then(|registry| registry.snapshot(channel)) else {
            return Vec::new();
        };
        assert!(snapshot.iter().all(|entry| self.ids.contains(&entry.id())) && !snapshot.is_empty());
        let (len, snapshot) = (snapshot.len(), Rc::new(snapshot));
        (0..len).map(|i| (Rc::clone(&snapshot), i)).collect()
    }

    fn fire(&mut self, channel: &'static str, (snapshot, i): &Self::Held) -> Option<Tag> {
        self.registry().runs(channel, &snapshot[*i]).then(|| *snapshot[*i].listener())
    }

    fn set_max(&mut self, max: usize) {
        self.registry().set_max_listeners(max);
    }

    fn handle(&mut self, channel: &'static str, handler: usize, once: bool) -> bool {
        self.registry().set_handler(channel, handler, once).is_ok()
    }

    fn call(&mut self, channel: &'static str) -> Option<usize> {
        self.registry().take_or_get_handler(channel)
    }

    fn remove_handler(&mut self, channel: &'static str) -> Option<usize> {
        self.registry().remove_handler(channel)
    }

    fn state(&self) -> String {
        let Some(registry) = &self.registry else {
            return state(&[], &[], &[]);
        };
        let counts = CHANNELS.map(|channel| registry.listener_count(channel));
        state(&registry.event_names(), &counts, &registry.handler_names())
    }
}

fn state(names: &[String], counts: &[usize], handlers: &[String]) -> String {
    let counts = counts.iter().copied().chain([0; CHANNELS.len()]).take(CHANNELS.len()).collect::<Vec<_>>();
    format!("{names:?} {counts:?} {handlers:?}")
}

struct Wrapper {
    tag: Tag,
    once: bool,
    fired: Cell<bool>,
}

struct Model {
    /// In order of the first listener; an emptied channel is removed.
    events: Vec<(&'static str, Vec<Rc<Wrapper>>, bool)>,
    handlers: Vec<(&'static str, usize, bool)>,
    max: usize,
}

impl Model {
    fn take(&mut self, channel: &'static str, is: impl Fn(&Wrapper) -> bool) -> Option<Tag> {
        let event = self.events.iter_mut().find(|event| event.0 == channel)?;
        let position = event.1.iter().position(|wrapper| is(wrapper))?;
        let tag = event.1.remove(position).tag;
        self.events.retain(|event| !event.1.is_empty());
        Some(tag)
    }
}

impl Emitter for Model {
    type Held = Rc<Wrapper>;

    fn add(&mut self, channel: &'static str, tag: Tag, front: bool, once: bool) -> Option<usize> {
        if !self.events.iter().any(|event| event.0 == channel) {
            self.events.push((channel, Vec::new(), false));
        }
        let event = self.events.iter_mut().find(|event| event.0 == channel).unwrap();
        let position = if front { 0 } else { event.1.len() };
        event.1.insert(position, Rc::new(Wrapper { tag, once, fired: Cell::new(false) }));
        let warns = self.max > 0 && event.1.len() > self.max && event.1.len() > 1 && !event.2;
        event.2 |= warns;
        warns.then_some(event.1.len())
    }

    fn remove(&mut self, channel: &'static str, nth: usize) -> Option<Tag> {
        self.take(channel, |wrapper| wrapper.tag.0 == nth)
    }

    fn remove_all(&mut self, channel: Option<&'static str>) -> Vec<Tag> {
        let (removed, kept) =
            self.events.drain(..).partition::<Vec<_>, _>(|event| channel.is_none_or(|channel| channel == event.0));
        self.events = kept;
        removed.iter().flat_map(|event| event.1.iter().rev().map(|wrapper| wrapper.tag)).collect()
    }

    fn hold(&self, channel: &'static str) -> Vec<Rc<Wrapper>> {
        self.events.iter().find(|event| event.0 == channel).map_or(Vec::new(), |event| event.1.clone())
    }

    fn fire(&mut self, channel: &'static str, held: &Rc<Wrapper>) -> Option<Tag> {
        if held.once {
            if held.fired.replace(true) {
                return None;
            }
            self.take(channel, |wrapper| wrapper.tag == held.tag);
        }
        Some(held.tag)
    }

    fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    fn handle(&mut self, channel: &'static str, handler: usize, once: bool) -> bool {
        let free = !self.handlers.iter().any(|known| known.0 == channel);
        if free {
            self.handlers.push((channel, handler, once));
        }
        free
    }

    fn call(&mut self, channel: &'static str) -> Option<usize> {
        let &(_, handler, once) = self.handlers.iter().find(|known| known.0 == channel)?;
        self.handlers.retain(|known| known.0 != channel || !once);
        Some(handler)
    }

    fn remove_handler(&mut self, channel: &'static str) -> Option<usize> {
        let position = self.handlers.iter().position(|known| known.0 == channel)?;
        Some(self.handlers.remove(position).1)
    }

    fn state(&self) -> String {
        let names: Vec<_> = self.events.iter().map(|event| event.0.to_string()).collect();
        let handlers: Vec<_> = self.handlers.iter().map(|known| known.0.to_string()).collect();
        state(&names, &CHANNELS.map(|channel| self.hold(channel).len()), &handlers)
    }
}

struct Run<'a, E> {
    emitter: E,
    scripts: &'a [Vec<Op>],
    registrations: usize,
    trace: Vec<String>,
    fuel: usize,
}

impl<E: Emitter> Run<'_, E> {
    fn run(&mut self, ops: &[Op], depth: usize) {
        for op in ops {
            if self.fuel == 0 {
                return;
            }
            self.fuel -= 1;
            let outcome = match *op {
                Op::Add { channel, script, front, once } => {
                    let tag = (self.registrations, script);
                    self.registrations += 1;
                    format!("{:?}", self.emitter.add(CHANNELS[channel], tag, front, once))
                }
                Op::Remove { channel, nth } if self.registrations > 0 => {
                    format!("{:?}", self.emitter.remove(CHANNELS[channel], nth % self.registrations))
                }
                Op::Remove { .. } => continue,
                Op::RemoveAll(channel) => format!("{:?}", self.emitter.remove_all(channel.map(|i| CHANNELS[i]))),
                Op::Emit(channel) if depth < 5 => {
                    let held = self.emitter.hold(CHANNELS[channel]);
                    for one in &held {
                        if let Some((number, script)) = self.emitter.fire(CHANNELS[channel], one) {
                            self.trace.push(format!("{:1$}{number} runs", "", depth));
                            self.run(&self.scripts[script % self.scripts.len()], depth + 1);
                        }
                    }
                    format!("{} held", held.len())
                }
                Op::Emit(_) => continue,
                Op::SetMax(max) => {
                    self.emitter.set_max(max);
                    String::new()
                }
                Op::Handle { channel, once } => {
                    format!("{}", self.emitter.handle(CHANNELS[channel], self.trace.len(), once))
                }
                Op::Call(channel) => format!("{:?}", self.emitter.call(CHANNELS[channel])),
                Op::RemoveHandler(channel) => {
                    format!("{:?}", self.emitter.remove_handler(CHANNELS[channel]))
                }
            };
            self.trace.push(format!("{:2$}{op:?}: {outcome}; {}", "", self.emitter.state(), depth));
        }
    }
}

fn trace(emitter: impl Emitter, scripts: &[Vec<Op>], program: &[Op]) -> Vec<String> {
    let mut run = Run { emitter, scripts, registrations: 0, trace: Vec::new(), fuel: 400 };
    run.run(program, 0);
    run.trace
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn random_programs_with_nested_emits_do_what_the_naive_emitter_does(
        scripts in vec(vec(op(), 0..6), 1..6),
        program in vec(op(), 0..40),
    ) {
        let model = Model { events: Vec::new(), handlers: Vec::new(), max: DEFAULT_MAX_LISTENERS };
        prop_assert_eq!(trace(Real::default(), &scripts, &program), trace(model, &scripts, &program));
    }
}
