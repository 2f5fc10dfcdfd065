//! The four steps of a call's values: encode, check, decode; typed and as `serde_json::Value`, beside plain rmp-serde.
#![allow(missing_docs)]

mod support;

use criterion::Criterion;
use ringmain::internals;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::hint::black_box;

#[derive(Clone, Serialize, Deserialize)]
struct Note {
    id: u32,
    name: String,
    gain: f64,
    tags: Vec<String>,
}

fn codec(criterion: &mut Criterion) {
    let note = Note { id: 7, name: "middle c".into(), gain: 0.5, tags: vec!["a".into(), "b".into()] };
    let value = json!({"id": 7, "name": "middle c", "gain": 0.5, "tags": ["a", "b"]});
    let large: Value = (0..2000).map(|_| value.clone()).collect();
    let mut out = Vec::new();
    criterion.bench_function("encode/typed, 4 fields", |bencher| {
        bencher.iter(|| {
            out.clear();
            internals::encode(black_box(&note), &mut out);
        });
    });
    criterion.bench_function("encode/typed, 4 fields, rmp-serde alone", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map();
            black_box(&note).serialize(&mut serializer).expect("serializable");
        });
    });
    // What the echo of the comparison carries: one of each step there, one back.
    let text = Value::String("x".repeat(64));
    for (name, value) in [("text of 64 B", &text), ("4 fields", &value), ("8 000 fields", &large)] {
        criterion.bench_function(&format!("encode/Value, {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                internals::encode(black_box(value), &mut out);
            });
        });
        out.clear();
        internals::encode(value, &mut out);
        criterion.bench_function(&format!("check/{name}"), |bencher| {
            bencher.iter(|| assert!(internals::check(black_box(&out))));
        });
        criterion.bench_function(&format!("decode/Value, {name}"), |bencher| {
            bencher.iter(|| internals::decode::<Value>(black_box(&out)));
        });
        criterion.bench_function(&format!("decode/Value, {name}, rmp-serde alone"), |bencher| {
            bencher.iter(|| rmp_serde::from_slice::<Value>(black_box(&out)).expect("decodable"));
        });
    }
    out.clear();
    internals::encode(&note, &mut out);
    criterion.bench_function("decode/typed, 4 fields", |bencher| {
        bencher.iter(|| internals::decode::<Note>(black_box(&out)));
    });
    criterion.bench_function("decode/typed, 4 fields, rmp-serde alone", |bencher| {
        bencher.iter(|| rmp_serde::from_slice::<Note>(black_box(&out)).expect("decodable"));
    });
}

fn main() {
    support::main(&[], codec);
}
