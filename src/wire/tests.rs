use super::*;
use proptest::prelude::*;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct, Serializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::time::Duration;

fn encoded<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode_value(value, &mut out, &Limits::default()).unwrap();
    check(&out, &Limits::default(), true).unwrap();
    out
}

fn refused<T: Serialize + ?Sized>(value: &T) -> String {
    let mut out = b"before".to_vec();
    let error = encode_value(value, &mut out, &Limits::default()).unwrap_err();
    assert_eq!(out, b"before");
    error.to_string()
}

fn args_refused(args: impl IntoArgs) -> String {
    let mut out = b"before".to_vec();
    let error = encode_args(&args, &mut out, &Limits::default()).unwrap_err();
    assert_eq!(out, b"before");
    error.to_string()
}

/// Equality that does not depend on `arbitrary_precision`, where a number is its text.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            (a.as_u64(), a.as_i64()) == (b.as_u64(), b.as_i64()) && a.as_f64() == b.as_f64()
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// With serde_json's `arbitrary_precision` an f32 keeps its own digits, as text.
fn arbitrary_precision() -> bool {
    let text = serde_json::from_str::<Value>("1.10").unwrap().to_string();
    text == "1.10"
}

/// The oracle: what travels is `to_value(x)`, and is read as `from_value` reads it.
#[track_caller]
fn trip<T: Serialize + DeserializeOwned + Debug>(value: T) {
    let json = serde_json::to_value(&value).unwrap();
    let bytes = encoded(&value);
    let dynamic: Value = decode_value(&bytes).unwrap();
    assert!(same(&dynamic, &json), "{value:?} travels as {dynamic}, not as {json}");
    reads_alike::<T>(&json);
    reads_alike_from::<T>(&bytes, &json);
}

/// `json` is read as a `T`, or refused as one, exactly when `from_value` does so.
#[track_caller]
fn reads_alike<T: DeserializeOwned + Debug>(json: &Value) {
    reads_alike_from::<T>(&encoded(json), json);
}

#[track_caller]
fn reads_alike_from<T: DeserializeOwned + Debug>(bytes: &[u8], json: &Value) {
    let expected = serde_json::from_value::<T>(json.clone());
    let read = decode_value::<T>(bytes);
    match (&expected, &read) {
        (Ok(expected), Ok(read)) => assert_eq!(format!("{expected:?}"), format!("{read:?}"), "from {json}"),
        (Err(_), Err(error)) => assert!(!error.is_malformed(), "{error}"),
        _ => panic!("{json}: serde_json has {expected:?}, we have {read:?}"),
    }
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Plain {
    A,
    #[serde(rename = "späte")]
    B,
}

#[derive(Serialize, Deserialize, Debug)]
enum External {
    Unit,
    New(i32),
    NewUnit(()),
    NewOption(Option<u8>),
    Tuple(i32, String),
    Struct { a: u8, b: Option<Box<External>> },
    EmptyStruct {},
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(tag = "type")]
enum Internal {
    Unit,
    New(Point),
    Struct { id: u64, plain: Plain, f: f64 },
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Unit,
    New(Vec<i64>),
    Tuple(u8, u8),
    Struct { x: Option<char> },
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Float(f64),
    Text(String),
    List(Vec<Untagged>),
    Point(Point),
    Nothing,
}

#[derive(Serialize, Deserialize, Debug, Default)]
struct Point {
    x: f32,
    y: f64,
}

#[derive(Serialize, Deserialize, Debug)]
struct UnitStruct;

#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Clone)]
struct New<T>(T);

#[derive(Serialize, Deserialize, Debug)]
struct Pair(u8, String);

#[derive(Serialize, Deserialize, Debug)]
struct Flat {
    id: u32,
    #[serde(flatten)]
    point: Point,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Serialize, Deserialize, Debug)]
struct Optional {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    a: Option<u8>,
    #[serde(default)]
    b: Vec<u8>,
    c: Option<Option<u8>>,
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Strict {
    name: String,
}

#[test]
fn scalars_travel_as_in_serde_json() {
    for value in [i64::MIN, i32::MIN as i64 - 1, i32::MIN as i64, i16::MIN as i64 - 1, i16::MIN as i64, -129, -128, -33]
    {
        trip(value);
        trip(value + 1);
    }
    for value in
        [0, 1, 127, 128, 255, 256, 65_535, 65_536, u32::MAX as u64, 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX]
    {
        trip(value);
        trip(value as f64);
        reads_alike::<i64>(&json!(value));
        reads_alike::<u8>(&json!(value));
        reads_alike::<f32>(&json!(value));
        reads_alike::<f64>(&json!(value));
    }
    trip((i8::MIN, i16::MIN, i32::MIN, i64::MIN, i8::MAX, i16::MAX, i32::MAX, i64::MAX));
    trip((u8::MAX, u16::MAX, u32::MAX, u64::MAX, usize::MAX, isize::MIN));
    trip((i64::MIN as i128, u64::MAX as i128, u64::MAX as u128, 0_u128, -1_i128));
    trip([0.0, -0.0, 1.0, 0.1, f64::MIN, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e16, 1e300, 9_007_199_254_740_993.0]);
    trip((true, false, (), 'a', 'ü', '\u{10ffff}', '\0'));
    for text in ["", "a", "Grüße aus Köln", "日本語", "\u{0}\u{1}", "\"\\", &"x".repeat(31), &"x".repeat(32)] {
        trip(text.to_owned());
    }
    for len in [255, 256, 65_535, 65_536] {
        trip("ß".repeat(len / 2) + if len % 2 == 1 { "." } else { "" });
    }
}

#[test]
fn a_32_bit_float_travels_as_the_64_bit_one() {
    for value in [0.1_f32, f32::MAX, f32::MIN_POSITIVE, 1.0, -0.0] {
        assert_eq!(encoded(&value), encoded(&f64::from(value)));
        assert_eq!(decode_value::<f32>(&encoded(&value)).unwrap().to_bits(), value.to_bits());
        if !arbitrary_precision() {
            trip(value);
        }
    }
}

#[test]
fn compound_types_travel_as_in_serde_json() {
    trip(None::<u8>);
    trip(Some(3));
    trip(Some(None::<u8>));
    trip(Some(Some(3)));
    trip(vec![None, Some(vec![Some(()), None])]);
    trip(UnitStruct);
    trip(New(5));
    trip(New(New("x".to_owned())));
    trip(Pair(1, "ä".into()));
    trip((1, "two".to_owned(), [3.0], (4,)));
    trip([[1, 2], [3, 4]]);
    trip(Vec::<u8>::new());
    trip((0..=255).collect::<Vec<u8>>());
    for len in [15, 16, 65_535, 65_536] {
        trip(vec![(); len]);
        trip((0..len as u32).map(|n| (n, ())).collect::<BTreeMap<_, _>>());
    }
    trip(Point { x: 0.5, y: -2.25 });
    trip(BTreeSet::from(["b".to_owned(), "a".to_owned()]));
    trip(Box::new(std::cell::RefCell::new(4)));
    trip(std::borrow::Cow::Borrowed("cow").into_owned());
    trip(Optional { a: None, b: vec![1], c: Some(None) });
    trip(Optional { a: Some(1), b: vec![], c: Some(Some(2)) });
    trip(json!({"a": [1, -1, 1.5, null, true, "x", {}, []], "": {"b": {"c": {}}}}));
    trip(json!({"a": 1}).as_object().unwrap().clone());
}

#[test]
fn enums_travel_as_in_serde_json() {
    trip((Plain::A, Plain::B));
    trip(External::Unit);
    trip(External::New(-1));
    trip(External::NewUnit(()));
    trip(External::NewOption(None));
    trip(External::NewOption(Some(1)));
    trip(External::Tuple(1, "x".into()));
    trip(External::EmptyStruct {});
    trip(External::Struct { a: 1, b: Some(Box::new(External::Struct { a: 2, b: None })) });
    trip(vec![Internal::Unit, Internal::New(Point { x: 1.0, y: 2.0 })]);
    trip(Internal::Struct { id: u64::MAX, plain: Plain::B, f: 1.0 });
    trip(vec![Adjacent::Unit, Adjacent::New(vec![i64::MIN]), Adjacent::Tuple(1, 2), Adjacent::Struct { x: Some('x') }]);
    trip(vec![Untagged::Number(-3), Untagged::Float(0.5), Untagged::Text("t".into()), Untagged::Nothing]);
    trip(Untagged::List(vec![Untagged::Point(Point::default()), Untagged::List(vec![])]));
    trip(Ok::<i32, String>(1));
    trip(Err::<i32, String>("no".into()));
    trip(std::ops::Bound::Included(1));
    trip(0..5);
    trip(0..=5);
}

#[test]
fn flattened_fields_travel_as_in_serde_json() {
    for len in [0, 3, 12, 13, 14, 40] {
        let rest = (0..len).map(|n| (format!("r{n}"), json!([n]))).collect();
        trip(Flat { id: 7, point: Point { x: 1.0, y: 2.0 }, rest });
    }
}

#[test]
fn map_keys_travel_as_text_and_are_read_back() {
    trip(HashMap::from([(u32::MAX, 'a')]));
    trip(BTreeMap::from([(i8::MIN, 1), (0, 2), (i8::MAX, 3)]));
    trip(BTreeMap::from([(u64::MAX, 1)]));
    trip(BTreeMap::from([(i128::MIN, 1), (i128::MAX, 2)]));
    trip(BTreeMap::from([(u128::MAX, 1)]));
    trip(BTreeMap::from([(true, 1), (false, 2)]));
    trip(BTreeMap::from([('ä', 1), ('5', 2)]));
    trip(BTreeMap::from([(Plain::A, 1), (Plain::B, 2)]));
    trip(BTreeMap::from([(New(5_u16), 1)]));
    trip(BTreeMap::from([(New(New("k".to_owned())), 1)]));
    trip(BTreeMap::from([(std::net::Ipv4Addr::LOCALHOST, 1)]));
    trip(BTreeMap::from([(String::new(), 1), ("ü".repeat(200), 2)]));
}

/// A map with a key that no ordinary map has.
struct Keyed<K>(K);

impl<K: Serialize> Serialize for Keyed<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&self.0, &1)?;
        map.end()
    }
}

#[test]
fn float_keys_are_written_as_serde_json_writes_them() {
    for key in [1.0, 0.1, -2.5, 1e16, 1e-7, 1e300, f64::MAX] {
        let json = serde_json::to_value(Keyed(key)).unwrap();
        assert_eq!(decode_value::<Value>(&encoded(&Keyed(key))).unwrap(), json);
    }
    assert_eq!(decode_value::<Value>(&encoded(&Keyed(0.1_f32))).unwrap(), json!({"0.1": 1}));
    assert_eq!(refused(&Keyed(f64::NAN)), "value: NaN is not a JSON number");
}

#[test]
fn keys_that_are_not_text_are_refused() {
    let refusal = |what: &str| format!("value: a map key is {what}, not text, a number, a boolean or a unit variant");
    assert_eq!(refused(&Keyed(())), refusal("null"));
    assert_eq!(refused(&Keyed(UnitStruct)), refusal("null"));
    assert_eq!(refused(&Keyed(None::<u8>)), refusal("null"));
    assert_eq!(refused(&Keyed(Some("x"))), refusal("an option"));
    assert_eq!(refused(&Keyed([1])), refusal("an array"));
    assert_eq!(refused(&Keyed(vec![1])), refusal("an array"));
    assert_eq!(refused(&Keyed(Pair(1, String::new()))), refusal("an array"));
    assert_eq!(refused(&Keyed(Point::default())), refusal("a map"));
    assert_eq!(refused(&Keyed(Keyed(1))), refusal("a map"));
    assert_eq!(refused(&Keyed(External::New(1))), refusal("a variant with data"));
    assert_eq!(refused(&Keyed(External::Tuple(1, String::new()))), refusal("a variant with data"));
    assert_eq!(refused(&Keyed(External::EmptyStruct {})), refusal("a variant with data"));
    assert_eq!(refused(&Keyed(Bytes(b"x"))), refusal("a byte string"));
    assert_eq!(args_refused((1, json!([]), [Keyed(())])), refusal("null").replace("value", "args[2][0]"));
}

#[test]
fn types_of_the_standard_library_travel_as_in_serde_json() {
    use std::net::*;
    trip(Duration::new(5, 999_999_999));
    trip(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(3));
    trip::<(IpAddr, SocketAddr)>((Ipv4Addr::LOCALHOST.into(), (Ipv6Addr::LOCALHOST, 80).into()));
    trip(std::num::NonZeroU8::MIN);
    trip(std::num::Wrapping(-4));
    trip(std::path::PathBuf::from("/tmp/größe"));
    trip(std::marker::PhantomData::<u8>);
    trip(std::sync::atomic::AtomicU64::new(u64::MAX));
    trip(std::cmp::Reverse(1));
    trip(std::sync::Mutex::new(1).into_inner().unwrap());
    trip(std::collections::VecDeque::from([1, 2]));
}

#[test]
fn mismatches_are_mismatches_in_serde_json_too() {
    let samples = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(300),
        json!(1.0),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!("A"),
        json!("Unit"),
        json!("Struct"),
        json!("x"),
        json!("12"),
        json!([]),
        json!([1]),
        json!([1, "x"]),
        json!([1, "x", 3]),
        json!([1, 2]),
        json!({}),
        json!({"x": 1, "y": 2}),
        json!({"x": 1, "y": 2, "z": [3]}),
        json!({"name": "n"}),
        json!({"name": "n", "more": 1}),
        json!({"Unit": null}),
        json!({"Unit": 1}),
        json!({"New": 3}),
        json!({"New": null}),
        json!({"Tuple": [1, "x"]}),
        json!({"Tuple": [1, "x", 2]}),
        json!({"Tuple": [1]}),
        json!({"Tuple": {"0": 1}}),
        json!({"Struct": {"a": 1, "b": null}}),
        json!({"Struct": [1, null]}),
        json!({"Struct": {"a": 1}}),
        json!({"0": 1}),
        json!({"A": null, "B": null}),
        json!({"type": "Unit"}),
        json!({"type": "New", "x": 1, "y": 1}),
        json!({"t": "New", "c": [1]}),
        json!({"c": [1], "t": "New"}),
        json!({"-1": 1}),
        json!({"01": 1}),
        json!({"1.0": 1}),
        json!({"1e2": 1}),
        json!({" 1": 1}),
        json!({"1 ": 1}),
        json!({"+1": 1}),
        json!({"300": 1}),
        json!({"true": 1}),
        json!({"start": 1, "end": 2}),
        json!({"secs": 1, "nanos": 2}),
    ];
    for json in &samples {
        reads_alike::<()>(json);
        reads_alike::<bool>(json);
        reads_alike::<u8>(json);
        reads_alike::<i8>(json);
        reads_alike::<i64>(json);
        reads_alike::<u64>(json);
        reads_alike::<i128>(json);
        reads_alike::<u128>(json);
        reads_alike::<f64>(json);
        reads_alike::<char>(json);
        reads_alike::<String>(json);
        reads_alike::<Option<String>>(json);
        reads_alike::<Vec<i64>>(json);
        reads_alike::<Vec<Value>>(json);
        reads_alike::<(i64, String)>(json);
        reads_alike::<[u8; 2]>(json);
        reads_alike::<Pair>(json);
        reads_alike::<New<u8>>(json);
        reads_alike::<UnitStruct>(json);
        reads_alike::<Point>(json);
        reads_alike::<Strict>(json);
        reads_alike::<Optional>(json);
        reads_alike::<Plain>(json);
        reads_alike::<External>(json);
        reads_alike::<Internal>(json);
        reads_alike::<Adjacent>(json);
        reads_alike::<Untagged>(json);
        reads_alike::<Flat>(json);
        reads_alike::<Duration>(json);
        reads_alike::<std::ops::Range<i32>>(json);
        reads_alike::<BTreeMap<String, Value>>(json);
        reads_alike::<BTreeMap<u8, Value>>(json);
        reads_alike::<BTreeMap<i128, Value>>(json);
        reads_alike::<BTreeMap<bool, Value>>(json);
        reads_alike::<BTreeMap<char, Value>>(json);
        reads_alike::<BTreeMap<Plain, Value>>(json);
        reads_alike::<BTreeMap<Option<u8>, Value>>(json);
        reads_alike::<BTreeMap<New<i16>, Value>>(json);
        reads_alike::<IgnoredAny>(json);
        reads_alike::<Value>(json);
        reads_alike::<serde_json::Number>(json);
        reads_alike::<std::ffi::CString>(json);
        reads_alike::<LossyList>(json);
        reads_alike::<LossyMap>(json);
        reads_alike::<Vec<Untouched>>(json);
        reads_alike::<FirstOnly>(json);
    }
}

/// Keeps what is a point and goes on past what is not.
#[derive(Debug)]
#[allow(dead_code)]
struct LossyList(Vec<Point>, u32);

impl<'de> Deserialize<'de> for LossyList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lossy;
        impl<'de> Visitor<'de> for Lossy {
            type Value = LossyList;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("points")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<LossyList, A::Error> {
                let mut kept = LossyList(Vec::new(), 0);
                loop {
                    match list.next_element() {
                        Ok(Some(point)) => kept.0.push(point),
                        Ok(None) => return Ok(kept),
                        Err(_) => kept.1 += 1,
                    }
                }
            }
        }
        deserializer.deserialize_seq(Lossy)
    }
}

/// Skips values that are not points and never asks for every third one.
#[derive(Debug)]
#[allow(dead_code)]
struct LossyMap(BTreeMap<String, Option<Point>>);

impl<'de> Deserialize<'de> for LossyMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lossy;
        impl<'de> Visitor<'de> for Lossy {
            type Value = LossyMap;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("points")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LossyMap, A::Error> {
                let mut kept = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = if key.starts_with('u') { None } else { map.next_value().ok() };
                    kept.insert(key, value);
                }
                Ok(LossyMap(kept))
            }
        }
        deserializer.deserialize_map(Lossy)
    }
}

/// Does not look at its value at all.
#[derive(Debug)]
struct Untouched;

impl<'de> Deserialize<'de> for Untouched {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

/// Reads one element and leaves the others, which serde_json refuses.
#[derive(Debug)]
#[allow(dead_code)]
struct FirstOnly(Option<Value>);

impl<'de> Deserialize<'de> for FirstOnly {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;
        impl<'de> Visitor<'de> for First {
            type Value = FirstOnly;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<FirstOnly, A::Error> {
                list.next_element().map(FirstOnly)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FirstOnly, A::Error> {
                map.next_key::<String>().map(|key| FirstOnly(key.map(Value::String)))
            }
        }
        deserializer.deserialize_any(First)
    }
}

#[test]
fn visitors_that_skip_fail_or_look_away_find_the_next_value_in_its_place() {
    let point = json!({"x": 1, "y": 2});
    let bad = json!({"x": [[1, {"a": "b"}], 2], "y": "no"});
    for json in [
        json!([point, bad, point]),
        json!([bad]),
        json!([bad, bad, point, bad]),
        json!([[point, 3], 1, "x", point]),
        json!({"a": point, "b": bad, "u1": bad, "u2": point, "c": point, "u3": 1}),
    ] {
        reads_alike::<LossyList>(&json);
        reads_alike::<LossyMap>(&json);
        reads_alike::<Vec<Untouched>>(&json);
        reads_alike::<BTreeMap<String, Untouched>>(&json);
        reads_alike::<(Untouched, Value, Untouched)>(&json);
    }
    reads_alike::<Untouched>(&bad);
    assert_eq!(Args::new((1, point, 3)).unwrap().parse::<(Untouched, Untouched, u8)>().unwrap().2, 3);
}

struct Bytes(&'static [u8]);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

#[test]
fn a_refusal_names_the_path() {
    #[derive(Serialize)]
    struct Track {
        gain: f64,
    }
    let nan = Track { gain: f64::NAN };
    assert_eq!(args_refused(("mix", Track { gain: f64::NAN })), "args[1].gain: NaN is not a JSON number");
    assert_eq!(args_refused([f32::INFINITY]), "args[0]: inf is not a JSON number");
    assert_eq!(args_refused(vec![Some(f64::NEG_INFINITY)]), "args[0]: -inf is not a JSON number");
    assert_eq!(refused(&f64::NAN), "value: NaN is not a JSON number");
    assert_eq!(refused(&[[1.0], [f64::NAN]]), "value[1][0]: NaN is not a JSON number");
    assert_eq!(refused(&HashMap::from([("a b", [&nan])])), "value[\"a b\"][0].gain: NaN is not a JSON number");
    assert_eq!(refused(&HashMap::from([(7, &nan)])), "value[\"7\"].gain: NaN is not a JSON number");
    assert_eq!(refused(&HashMap::from([("größe", &nan)])), "value.größe.gain: NaN is not a JSON number");
    assert_eq!(
        refused(&HashMap::from([("é".repeat(50), f64::NAN)])),
        format!("value[\"{}\"…]: NaN is not a JSON number", "é".repeat(32))
    );
    assert_eq!(
        args_refused((1, 2, Bytes(b"abc"))),
        "args[2]: a byte string of 3 bytes is not JSON (send an array of numbers or text)"
    );
    assert_eq!(refused(&i128::MAX), format!("value: {} is beyond 64-bit integers (send it as text)", i128::MAX));
    assert_eq!(
        refused(&(i64::MIN as i128 - 1)),
        "value: -9223372036854775809 is beyond 64-bit integers (send it as text)"
    );
    assert_eq!(
        refused(&(u64::MAX as u128 + 1)),
        "value: 18446744073709551616 is beyond 64-bit integers (send it as text)"
    );
    #[derive(Serialize)]
    enum Deep {
        New(f64),
        Tuple(u8, f64),
        Struct { a: f64 },
    }
    assert_eq!(refused(&Deep::New(f64::NAN)), "value.New: NaN is not a JSON number");
    assert_eq!(refused(&Deep::Tuple(1, f64::NAN)), "value.Tuple[1]: NaN is not a JSON number");
    assert_eq!(refused(&Deep::Struct { a: f64::NAN }), "value.Struct.a: NaN is not a JSON number");
    let poisoned = std::sync::Mutex::new(1);
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _guard = poisoned.lock().unwrap();
        std::panic::resume_unwind(Box::new(()));
    }));
    assert_eq!(args_refused((0, &poisoned)), "args[1]: lock poison error while serializing");
}

#[test]
fn reserved_keys_are_refused_on_both_sides() {
    let what = "map keys that begin with `$serde_json::private::` are serde_json's own";
    for key in [NUMBER_TOKEN, RAW_VALUE_TOKEN, "$serde_json::private::Later"] {
        assert_eq!(args_refused((1, HashMap::from([(key, "1")]))), format!("args[1]: {what}"));
        assert_eq!(refused(&HashMap::from([(key.to_owned(), "1")])), format!("value: {what}"));
        let mut bytes = vec![0x91, 0x81, 0xd9, key.len() as u8];
        bytes.extend_from_slice(key.as_bytes());
        bytes.push(0xc0);
        assert_eq!(check_args(&bytes, &Limits::default(), false).unwrap_err().0, format!("args[0]: {what}"));
    }
    trip(HashMap::from([("$serde_json::private".to_owned(), 1)]));
}

/// What `Number` is with `arbitrary_precision`, and `RawValue` with `raw_value`.
struct Token(&'static str, &'static str, &'static str);

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut token = serializer.serialize_struct(self.0, 1)?;
        token.serialize_field(self.1, self.2)?;
        token.end()
    }
}

#[test]
fn private_tokens_of_serde_json_become_what_they_stand_for() {
    let number = |text| Token(NUMBER_TOKEN, NUMBER_TOKEN, text);
    assert_eq!(encoded(&[number("0"), number("18446744073709551615")]), encoded(&[0, u64::MAX]));
    assert_eq!(encoded(&[number("-1"), number("-9223372036854775808")]), encoded(&[-1, i64::MIN]));
    assert_eq!(encoded(&number("-0")), encoded(&-0.0));
    assert_eq!(
        encoded(&[number("1.0"), number("0.1"), number("1e+30"), number("2E3")]),
        encoded(&[1.0, 0.1, 1e30, 2e3])
    );
    assert_eq!(
        args_refused((0, number("18446744073709551616"))),
        "args[1]: 18446744073709551616 is beyond 64-bit integers (send it as text)"
    );
    for text in ["1e999", "NaN", "inf", "x", ""] {
        assert_eq!(refused(&number(text)), format!("value: {text} is not a number that a 64-bit float can hold"));
    }
    let raw = |text| Token(RAW_VALUE_TOKEN, RAW_VALUE_TOKEN, text);
    let json = r#" {"a": [1, -2, 3.5, null, "ü", {"b": true}]} "#;
    assert_eq!(encoded(&[raw(json)]), encoded(&[serde_json::from_str::<Value>(json).unwrap()]));
    assert_eq!(
        refused(&raw("[1")),
        "value: $serde_json::private::RawValue: EOF while parsing a list at line 1 column 2"
    );
    assert_eq!(
        refused(&Token(NUMBER_TOKEN, "n", "1")),
        "value: $serde_json::private::Number with other fields than its own"
    );
    let mut out = Vec::new();
    let limits = Limits { max_values: 4, ..Limits::default() };
    encode_value(&[raw("[1]"), number("1")], &mut out, &limits).unwrap();
    assert_eq!(check(&out, &limits, true).unwrap(), 4);
    encode_value(&[raw("[1, 2]"), number("1")], &mut out, &limits).unwrap_err();
}

/// Announces a length, writes others; keeps going when an element fails.
struct Liar {
    announced: Option<usize>,
    count: usize,
    map: bool,
}

impl Serialize for Liar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.map {
            let mut map = serializer.serialize_map(self.announced)?;
            for n in 0..self.count {
                assert!(map.serialize_entry(&n, &[[f64::NAN]]).is_err());
                map.serialize_entry(&n, &n)?;
            }
            return map.end();
        }
        let mut list = serializer.serialize_seq(self.announced)?;
        for n in 0..self.count {
            assert!(list.serialize_element(&("text", [f64::NAN])).is_err());
            list.serialize_element(&n)?;
        }
        list.end()
    }
}

#[test]
fn a_wrong_or_missing_length_still_makes_a_sound_message() {
    let lengths = [0, 1, 15, 16, 17, 65_535, 65_536];
    for count in [0, 1, 15, 16, 300] {
        for announced in lengths.into_iter().map(Some).chain([None, Some(usize::MAX), Some(u32::MAX as usize)]) {
            let list = ("before", Liar { announced, count, map: false }, "after");
            let items: Vec<_> = (0..count).collect();
            assert_eq!(decode_value::<Value>(&encoded(&list)).unwrap(), json!(["before", items, "after"]));
            let map = ("before", Liar { announced, count, map: true }, "after");
            let items: HashMap<_, _> = (0..count).map(|n| (n.to_string(), n)).collect();
            assert_eq!(decode_value::<Value>(&encoded(&map)).unwrap(), json!(["before", items, "after"]));
        }
    }
    assert_eq!(encoded(&Liar { announced: Some(99), count: 2, map: false }), [0x92, 0, 1]);
}

#[test]
fn keys_and_values_out_of_step_are_refused() {
    struct Loose(&'static str);
    impl Serialize for Loose {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            for step in self.0.bytes() {
                if step == b'k' { map.serialize_key("k")? } else { map.serialize_value(&1)? }
            }
            map.end()
        }
    }
    let lone_key = "value: its Serialize implementation wrote a map key without a value";
    assert_eq!(refused(&Loose("k")), lone_key);
    assert_eq!(refused(&Loose("kk")), lone_key);
    assert_eq!(refused(&Loose("kvv")), "value: its Serialize implementation wrote a map value without a key");
    encoded(&Loose("kvkv"));
}

#[test]
fn formatted_text_is_written_without_detours_and_within_the_limit() {
    struct Shown(usize);
    impl std::fmt::Display for Shown {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            if self.0 == usize::MAX { Err(std::fmt::Error) } else { (0..self.0).try_for_each(|_| f.write_str("ab")) }
        }
    }
    impl Serialize for Shown {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }
    for len in [0, 15, 16, 127, 128, 32_767, 32_768] {
        assert_eq!(encoded(&[Shown(len)]), encoded(&["ab".repeat(len)]));
        assert_eq!(encoded(&Keyed(Shown(len))), encoded(&Keyed("ab".repeat(len))));
    }
    assert_eq!(refused(&[Shown(usize::MAX)]), "value[0]: its Display implementation returned an error");
    let error = encode_value(&Shown(usize::MAX - 1), &mut Vec::new(), &Limits::default()).unwrap_err();
    assert!(error.is_too_large());
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, n| if n % 2 == 0 { json!([inner]) } else { json!({ "k": inner }) })
}

#[test]
fn nesting_is_bounded_on_both_sides() {
    for (max_depth, deepest) in [(128, 128), (1, 1), (5, 5), (10_000, 128)] {
        let limits = Limits { max_depth, ..Limits::default() };
        let bytes = encoded(&nested(deepest));
        check(&bytes, &limits, true).unwrap();
        assert!(decode_value::<Value>(&bytes).unwrap() == nested(deepest));
        decode_value::<IgnoredAny>(&bytes).unwrap();
        let mut out = Vec::new();
        encode_value(&nested(deepest), &mut out, &limits).unwrap();
        let expected = format!("nested deeper than {deepest} levels");
        let error = encode_value(&nested(deepest + 1), &mut out, &limits).unwrap_err();
        assert!(error.to_string().ends_with(&expected), "{error}");
        let too_deep = [vec![0x91; deepest + 1], vec![0xc0]].concat();
        let path = format!("value{}: {expected}", "[0]".repeat(deepest));
        assert_eq!(check(&too_deep, &limits, false).unwrap_err().0, path);
    }
    let too_deep = [vec![0x91; 129], vec![0xc0]].concat();
    assert!(decode_value::<Value>(&too_deep).unwrap_err().is_malformed());
    assert!(decode_value::<IgnoredAny>(&too_deep).unwrap_err().is_malformed());
    assert!(decode_value::<Value>(&vec![0x91; 10_000_000]).is_err());
    let args = Args::new((nested(127),)).unwrap();
    assert!(args.get::<Value>(0).unwrap() == nested(127));
    assert!(args_refused((nested(128),)).ends_with("nested deeper than 128 levels"));
}

#[test]
fn variants_count_as_levels_and_values() {
    let tuple = External::Tuple(1, "x".into());
    let limits = |max_depth, max_values| Limits { max_depth, max_values, ..Limits::default() };
    let mut out = Vec::new();
    encode_value(&tuple, &mut out, &limits(2, 4)).unwrap();
    assert_eq!(check(&out, &limits(2, 4), true).unwrap(), 4);
    let error = encode_value(&tuple, &mut out, &limits(1, 4)).unwrap_err();
    assert_eq!(error.to_string(), "value.Tuple: nested deeper than 1 levels");
    let error = encode_value(&tuple, &mut out, &limits(2, 3)).unwrap_err();
    assert_eq!(error.to_string(), "value.Tuple[1]: more than 3 values");
}

#[test]
fn values_are_counted_alike_on_both_sides() {
    let limits = Limits { max_values: 10, ..Limits::default() };
    let mut out = Vec::new();
    encode_value(&vec![(); 9], &mut out, &limits).unwrap();
    assert_eq!(check(&out, &limits, true).unwrap(), 10);
    assert_eq!(
        encode_value(&vec![(); 10], &mut out, &limits).unwrap_err().to_string(),
        "value[9]: more than 10 values"
    );
    let ten = encoded(&vec![(); 10]);
    assert_eq!(check(&ten, &limits, true).unwrap_err().0, "value: more than 10 values");
    let map: BTreeMap<_, _> = (0..5).map(|n| (n, [n])).collect();
    assert_eq!(check(&encoded(&map), &Limits::default(), true).unwrap(), 11);
    assert!(check(&encoded(&map), &limits, true).unwrap_err().0.ends_with(": more than 10 values"));
    // Refused by what the head announces, before any of it is looked at.
    let announced = [&[0xdd, 0, 0x10, 0, 0][..], &vec![0xc0; 1 << 20]].concat();
    assert_eq!(check(&announced, &Limits::default(), false).unwrap_err().0, "value: more than 1000000 values");
}

#[test]
fn a_message_that_grows_too_large_is_given_up_early() {
    let limits = Limits { max_message_size: 1000, ..Limits::default() };
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut list = serializer.serialize_seq(None)?;
            loop {
                list.serialize_element("0123456789")?;
            }
        }
    }
    let mut out = vec![0; 100];
    let error = encode_args(&(1, Endless), &mut out, &limits).unwrap_err();
    assert!(error.is_too_large());
    assert_eq!(error.to_string(), "args[1][81]: the message would be larger than 1000 bytes");
    assert_eq!(out.len(), 100);
    encode_value(&"x".repeat(897), &mut out, &limits).unwrap();
    assert_eq!(out.len(), 1000);
    out.truncate(100);
    assert!(encode_value(&"x".repeat(898), &mut out, &limits).unwrap_err().is_too_large());
    assert_eq!(out.len(), 100);
    assert!(!ValueError::unfit("x").is_too_large());
}

#[test]
fn every_refusal_of_the_check_names_path_and_numbers() {
    let table: &[(&[u8], &str)] = &[
        (&[], "args: the message ends in the middle of a value"),
        (&[0xc0], "args: an argument list must be an array, this is null"),
        (&[0x80], "args: an argument list must be an array, this is a map"),
        (&[0x90, 0xc0, 0xc0], "args: 2 bytes follow the value"),
        (&[0x91], "args: an array that needs 1 bytes or more, of which 0 are there"),
        (&[0x91, 0xc1], "args[0]: the byte 0xc1 is not JSON"),
        (&[0x92, 0x01, 0xcd, 0x01], "args[1]: the message ends in the middle of a value"),
        (&[0x91, 0xa5, b'a'], "args[0]: text that needs 5 bytes or more, of which 1 are there"),
        (
            &[0x91, 0xdb, 0xff, 0xff, 0xff, 0xff],
            "args[0]: text that needs 4294967295 bytes or more, of which 0 are there",
        ),
        (
            &[0x91, 0xdd, 0xff, 0xff, 0xff, 0xff],
            "args[0]: an array that needs 4294967295 bytes or more, of which 0 are there",
        ),
        (
            &[0x91, 0xdf, 0xff, 0xff, 0xff, 0xff],
            "args[0]: a map that needs 8589934590 bytes or more, of which 0 are there",
        ),
        (&[0x92, 0xc0, 0xc4, 0x01, 0x00], "args[1]: a byte string is not JSON"),
        (&[0x91, 0xc5, 0x00, 0x00], "args[0]: a byte string is not JSON"),
        (&[0x91, 0xc6, 0, 0, 0, 0], "args[0]: a byte string is not JSON"),
        (&[0x91, 0xd6, 0xff, 0, 0, 0, 0], "args[0]: an extension type is not JSON"),
        (&[0x91, 0xc7, 0x00, 0x01], "args[0]: an extension type is not JSON"),
        (&[0x91, 0x81, 0x01, 0x02], "args[0]: a map key is an integer, not text"),
        (&[0x91, 0x81, 0xc0, 0x02], "args[0]: a map key is null, not text"),
        (&[0x91, 0x82, 0xa1, b'a', 0x01, 0xc3, 0x02], "args[0]: a map key is a boolean, not text"),
        (&[0x91, 0x81, 0xa1, b'a', 0x93, 0x01], "args[0].a: an array that needs 3 bytes or more, of which 1 are there"),
        (&[0x91, 0x81, 0xa1, b'a', 0xca, 0x7f, 0xc0, 0, 0], "args[0].a: NaN is not a JSON number"),
        (&[0x91, 0xca, 0x7f, 0x80, 0, 0], "args[0]: inf is not a JSON number"),
        (&[0x92, 0x90, 0xcb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0], "args[1]: -inf is not a JSON number"),
        (&[0x92, 0x91, 0x01, 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0], "args[1]: NaN is not a JSON number"),
        (&[0x91, 0xa2, b'a', 0xff], "args[0]: text is not UTF-8 from byte 1 on"),
        (&[0x91, 0x81, 0xa1, 0xff, 0xc0], "args[0]: text is not UTF-8 from byte 0 on"),
    ];
    for (bytes, expected) in table {
        assert_eq!(check_args(bytes, &Limits::default(), true).unwrap_err().0, *expected);
        assert!(decode_args::<(Value, Value)>(bytes).unwrap_err().is_malformed(), "{expected}");
        assert!(decode_args::<()>(bytes).unwrap_err().is_malformed(), "{expected}");
        assert!(Args::from_payload(bytes).unwrap_err().is_malformed(), "{expected}");
    }
    // What is not UTF-8 passes a check that leaves it to the decoder.
    assert_eq!(check_args(&[0x91, 0xa2, b'a', 0xff], &Limits::default(), false).unwrap(), 1);
    assert_eq!(check(&[0x93, 1, 2, 3], &Limits::default(), true).unwrap(), 4);
    assert_eq!(check_args(&[0x93, 1, 2, 3], &Limits::default(), true).unwrap(), 3);
}

#[test]
fn a_length_beyond_the_message_is_refused_before_the_first_element() {
    // A visitor that goes on past errors would do so four thousand million times.
    for head in [0xdd, 0xdf] {
        let bytes = [head, 0xff, 0xff, 0xff, 0xff, 0xa1, b'a', 0xc1];
        assert!(decode_value::<LossyList>(&bytes).is_err());
        assert!(decode_value::<LossyMap>(&bytes).is_err());
        assert!(decode_value::<IgnoredAny>(&bytes).unwrap_err().is_malformed());
        assert!(decode_value::<Vec<Untouched>>(&bytes).is_err());
    }
}

/// What serde_json's `RawValue` is with the feature `raw_value`.
#[derive(Debug, PartialEq)]
struct Raw(String);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Raw;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("any JSON")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                assert_eq!(map.next_key::<String>()?.as_deref(), Some(RAW_VALUE_TOKEN));
                map.next_value().map(Raw)
            }
        }
        deserializer.deserialize_newtype_struct(RAW_VALUE_TOKEN, Text)
    }
}

#[test]
fn a_raw_value_is_read_as_the_json_text() {
    let list = encoded(&json!([1, {"a": [true, "ü"]}, null]));
    let raw = [r#"1"#, r#"{"a":[true,"ü"]}"#, "null"].map(|text| Raw(text.to_owned()));
    assert_eq!(decode_value::<Vec<Raw>>(&list).unwrap(), raw);
    assert_eq!(decode_args::<(Raw, Raw)>(&list).unwrap().1, raw[1]);
}

#[test]
fn text_that_is_not_utf8_is_found_wherever_it_is_skipped_or_read() {
    let bad = [0x92, 0x01, 0x82, 0xa1, b'x', 0x01, 0xa1, b'n', 0xa1, 0xff];
    for error in [
        decode_args::<(i32, Value)>(&bad).unwrap_err(),
        decode_args::<(i32,)>(&bad).unwrap_err(),
        decode_args::<()>(&bad).unwrap_err(),
        decode_args::<(i32, HashMap<String, IgnoredAny>)>(&bad).unwrap_err(),
        decode_args::<Args>(&bad).unwrap_err(),
    ] {
        assert!(error.is_malformed());
        assert_eq!(error.to_string(), "args[1].n: text is not UTF-8 from byte 0 on");
    }
}

#[test]
fn a_message_cut_short_anywhere_is_refused() {
    let value = json!({"a": [1, 300, -70_000, 1.5, "text", {"b": null}], "long": "x".repeat(300), "big": u64::MAX});
    let bytes = encoded(&value);
    for len in 0..bytes.len() {
        check(&bytes[..len], &Limits::default(), true).unwrap_err();
        assert!(decode_value::<Value>(&bytes[..len]).unwrap_err().is_malformed());
        assert!(decode_value::<IgnoredAny>(&bytes[..len]).unwrap_err().is_malformed());
    }
}

/// Wraps itself without end, by options or by newtypes.
struct Endless {
    newtype: bool,
}

impl Serialize for Endless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.newtype {
            true => serializer.serialize_newtype_struct("Endless", self),
            false => serializer.serialize_some(self),
        }
    }
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Chain(Option<Box<Chain>>);

#[test]
fn what_wraps_itself_without_end_is_refused_and_does_not_end_the_stack() {
    for newtype in [false, true] {
        let text = args_refused((1, Endless { newtype }));
        assert_eq!(text, "args[1]: more than 128 options and newtypes around one value: a cycle?");
    }
    let error = decode_args::<(Chain,)>(&encoded(&[1])).unwrap_err();
    assert_eq!(error.to_string(), "args[0]: more than 128 options and newtypes around one value: a cycle?");
    assert!(!error.is_malformed(), "the type's fault, not the peer's");
    assert_eq!(decode_args::<(Option<Option<u8>>,)>(&encoded(&[Some(Some(1))])).unwrap(), (Some(Some(1)),));
}

#[test]
fn golden_bytes_of_a_value() {
    let value = json!([null, true, 1, -1, 128, 1.5, "é", {"k": []}]);
    let golden = [
        0x98, 0xc0, 0xc3, 0x01, 0xff, 0xcc, 0x80, 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xa2, 0xc3, 0xa9, 0x81, 0xa1,
        b'k', 0x90,
    ];
    assert_eq!(encoded(&value), golden);
    assert_eq!(rmp_serde::from_slice::<Value>(&golden).unwrap(), value);
}

#[test]
fn golden_bytes_of_an_envelope() {
    let envelope = Envelope {
        kind: Kind::Invoke,
        caller_awake: true,
        frame: 0x0102_0304,
        call: 0x1112_1314_1516_1718,
        channel: "süß",
        peer: 0,
        peer_frame: 0,
    };
    let mut message = Vec::new();
    begin(&envelope, &mut message);
    encode_args(&("x", 1), &mut message, &Limits::default()).unwrap();
    let golden = [
        &[2, 1, 0, 0, 4, 3, 2, 1, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 5, 0, 0, 0, 0, 0, 0, 0][..],
        "süß".as_bytes(),
        &[0x92, 0xa1, b'x', 1],
    ]
    .concat();
    assert_eq!(message, golden);
    assert_eq!(split(&message, &Limits::default(), End::Main).unwrap(), (envelope, &golden[29..]));
    assert!(matches!(split(&message[..28], &Limits::default(), End::Main), Err(Violation(_))));
}

#[test]
fn golden_bytes_of_a_message_between_renderers() {
    let envelope = Envelope {
        kind: Kind::Routed,
        caller_awake: false,
        frame: 0x0102_0304,
        call: 0,
        channel: "x",
        peer: 0x2122_2324,
        peer_frame: 0x1112_1314,
    };
    let mut message = Vec::new();
    begin(&envelope, &mut message);
    encode_args(&(), &mut message, &Limits::default()).unwrap();
    let golden =
        [9, 0, 0, 0, 4, 3, 2, 1, 0x14, 0x13, 0x12, 0x11, 0, 0, 0, 0, 1, 0, 0, 0, 0x24, 0x23, 0x22, 0x21, b'x', 0x90];
    assert_eq!(message, golden);
    assert_eq!(split(&message, &Limits::default(), End::Renderer).unwrap(), (envelope, &golden[25..]));
}

/// Each kind: whether it has a call id, a channel, a payload, a frame and a renderer at the far side of main; and the
/// ends at which it may arrive.
#[rustfmt::skip]
const KINDS: [(Kind, [bool; 5], &[End]); 13] = [
    (Kind::Send,       [false, true,  true,  false, false], &[End::Main, End::Renderer]),
    (Kind::Invoke,     [true,  true,  true,  false, false], &[End::Main, End::Renderer]),
    (Kind::SendSync,   [true,  true,  true,  false, false], &[End::Main]),
    (Kind::Reply,      [true,  false, true,  false, false], &[End::Main, End::Renderer]),
    (Kind::ReplyError, [true,  false, true,  false, false], &[End::Main, End::Renderer]),
    (Kind::Cancel,     [true,  false, false, false, false], &[End::Main, End::Renderer]),
    (Kind::Close,      [false, false, false, false, false], &[End::Main, End::Renderer]),
    (Kind::SendTo,     [false, true,  true,  true,  true],  &[End::Main]),
    (Kind::Routed,     [false, true,  true,  true,  true],  &[End::Renderer]),
    (Kind::SendToHost, [false, true,  true,  false, false], &[End::Main]),
    (Kind::FromGuest,  [false, true,  true,  true,  true],  &[End::Renderer]),
    (Kind::OpenFrame,  [false, false, false, true,  false], &[End::Main]),
    (Kind::CloseFrame, [false, false, false, false, false], &[End::Main]),
];

fn message(kind: Kind, call: u64, channel: &str, payload: &[u8]) -> Vec<u8> {
    let (_, [.., far_frame, far], _) = KINDS.iter().find(|(other, ..)| *other == kind).unwrap();
    let (peer, peer_frame) = (u32::from(*far), u32::from(*far_frame));
    let mut out = Vec::new();
    begin(&Envelope { kind, caller_awake: false, frame: 1, call, channel, peer, peer_frame }, &mut out);
    out.extend_from_slice(payload);
    out
}

#[test]
fn each_kind_has_its_call_id_channel_payload_frame_and_renderer_or_not() {
    for (kind, [call, channel, payload, far_frame, far], ends) in KINDS {
        for end in [End::Main, End::Renderer] {
            let whole = message(kind, call.into(), "", &[]);
            let verdict = |bytes: &[u8]| split(bytes, &Limits::default(), end).map(|(envelope, _)| envelope.kind);
            if !ends.contains(&end) {
                let error = verdict(&whole).unwrap_err().0;
                assert_eq!(error, format!("a message of kind {kind:?}, which is not for this side"));
                continue;
            }
            assert_eq!(verdict(&whole), Ok(kind));
            let with = |at: usize, byte: u8| {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                verdict(&bytes)
            };
            let fails = |verdict: Result<Kind, Violation>, text: &str| {
                assert_eq!(verdict.unwrap_err().0, format!("{kind:?} {text}"));
            };
            match far_frame {
                true => {
                    fails(with(8, 0), "names a frame 0x0, which cannot be");
                    fails(with(12, 1), "names a frame 0x100000001, which cannot be");
                }
                false => fails(with(8, u8::from(!call)), &format!("with call id {}", u8::from(!call))),
            }
            fails(with(20, u8::from(!far)), &format!("with renderer {} at the other side of main", u8::from(!far)));
            fails(with(4, 0), "of frame 0, where frames count from 1");
            let named = verdict(&message(kind, call.into(), "name", &[]));
            match channel {
                true => assert_eq!(named, Ok(kind)),
                false => fails(named, "with a channel name of 4 bytes, where none belongs"),
            }
            let loaded = verdict(&message(kind, call.into(), "", &[0xc0]));
            match payload {
                true => assert_eq!(loaded, Ok(kind)),
                false => fails(loaded, "with a payload of 1 bytes, where none belongs"),
            }
        }
    }
}

#[test]
fn a_broken_envelope_is_a_violation_that_says_what() {
    let limits = Limits { max_text: 10, max_message_size: 100, ..Limits::default() };
    let verdict = |bytes: &[u8]| split(bytes, &limits, End::Main).unwrap_err().0;
    let with = |at: usize, byte: u8| {
        let mut bytes = message(Kind::Send, 0, "chan", &[0x90]);
        bytes[at] = byte;
        verdict(&bytes)
    };
    assert_eq!(with(0, 0), "message kind 0, where 1 to 13 are known");
    assert_eq!(with(0, 14), "message kind 14, where 1 to 13 are known");
    assert_eq!(with(1, 2), "reserved bits of a header are set: 0x02 0x00 0x00");
    assert_eq!(with(2, 1), "reserved bits of a header are set: 0x00 0x01 0x00");
    assert_eq!(with(3, 1), "reserved bits of a header are set: 0x00 0x00 0x01");
    assert_eq!(with(15, 1), "Send with call id 72057594037927936");
    assert_eq!(with(16, 6), "a channel name of 6 bytes, of which 5 are there");
    assert_eq!(with(16, 11), "a channel name of 11 bytes, where 10 are allowed");
    assert_eq!(with(19, 0xff), "a channel name of 4278190084 bytes, where 10 are allowed");
    assert_eq!(with(25, 0xff), "the channel name is not UTF-8 from byte 1 on");
    assert_eq!(verdict(&[1; 23]), "a message of 23 bytes is shorter than its header of 24");
    assert_eq!(verdict(&[1; 101]), "a message of 101 bytes, where 100 are allowed");
    check_channel("0123456789", &limits).unwrap();
    assert_eq!(
        check_channel("0123456789a", &limits).unwrap_err().to_string(),
        "a channel name of 11 bytes, where 10 are allowed"
    );
}

#[test]
fn argument_lists_are_tuples_arrays_slices_vecs_and_args() {
    fn bytes(args: impl IntoArgs) -> Vec<u8> {
        let mut out = Vec::new();
        encode_args(&args, &mut out, &Limits::default()).unwrap();
        check_args(&out, &Limits::default(), true).unwrap();
        out
    }
    assert_eq!(bytes(()), [0x90]);
    assert_eq!(bytes(("x",)), [0x91, 0xa1, b'x']);
    let list = encoded(&[1, 2, 3]);
    assert_eq!(bytes((1, 2_u8, 3_i64)), list);
    assert_eq!(bytes([1, 2, 3]), list);
    assert_eq!(bytes(&[1, 2, 3][..]), list);
    assert_eq!(bytes(vec![1, 2, 3]), list);
    let args = Args::new((1, 2, 3)).unwrap();
    assert_eq!(bytes(&args), list);
    assert_eq!(bytes(args), list);
    assert_eq!(bytes(Args::from_values(&[json!(1), json!(2), json!(3)]).unwrap()), list);
    assert_eq!(bytes((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)), encoded(&(1..=12).collect::<Vec<_>>()));
    assert_eq!(bytes([(); 0]), bytes(()));
    assert_eq!(bytes(Args::default()), bytes(()));
    assert_eq!(bytes(([1, 2, 3],)), [&[0x91][..], &list].concat());
}

#[test]
fn surplus_arguments_are_skipped_and_missing_ones_are_null() {
    let list = encoded(&json!([1, "two", {"three": [3]}]));
    decode_args::<()>(&list).unwrap();
    assert_eq!(decode_args::<(u8,)>(&list).unwrap(), (1,));
    assert_eq!(decode_args::<(u8, String)>(&list).unwrap(), (1, "two".into()));
    let (_, _, third, fourth, fifth, ()) = decode_args::<(u8, String, Value, Option<u8>, Value, ())>(&list).unwrap();
    assert_eq!((third, fourth, fifth), (json!({"three": [3]}), None, Value::Null));
    assert_eq!(
        decode_args::<(u8, String, Value, i64)>(&list).unwrap_err().to_string(),
        "args[3]: the argument is missing: invalid type: null, expected i64"
    );
    let twelve = encoded(&(0..12).collect::<Vec<u8>>());
    let all: (u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u64) = decode_args(&twelve).unwrap();
    assert_eq!(all, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
}

#[test]
fn a_mismatch_names_the_path() {
    let fails =
        |json: Value| decode_args::<(i64, External, Vec<Point>, HashMap<u8, Plain>)>(&encoded(&json)).unwrap_err();
    let ok = json!([1, "Unit", [{"x": 1, "y": 2}], {"1": "A"}]);
    decode_args::<(i64, External, Vec<Point>, HashMap<u8, Plain>)>(&encoded(&ok)).unwrap();
    let put = |index: usize, value: Value| {
        let mut json = ok.clone();
        json[index] = value;
        let error = fails(json);
        assert!(!error.is_malformed() && !error.is_too_large());
        error.to_string()
    };
    assert_eq!(put(0, json!("x")), "args[0]: invalid type: string \"x\", expected i64");
    assert_eq!(put(0, json!(1.5)), "args[0]: invalid type: floating point `1.5`, expected i64");
    assert_eq!(put(0, json!(null)), "args[0]: invalid type: null, expected i64");
    assert_eq!(put(0, json!(u64::MAX)), "args[0]: invalid value: integer `18446744073709551615`, expected i64");
    assert_eq!(
        put(1, json!({"Struct": {"a": 1, "b": {"New": []}}})),
        "args[1].Struct.b.New: invalid type: sequence, expected i32"
    );
    assert_eq!(put(1, json!({"Tuple": [1, 2]})), "args[1].Tuple[1]: invalid type: integer `2`, expected a string");
    assert_eq!(put(1, json!({})), "args[1]: invalid value: map, expected map with a single key");
    assert_eq!(put(1, json!(3)), "args[1]: invalid type: integer `3`, expected string or map");
    assert_eq!(
        put(2, json!([{"x": 1, "y": 2}, {"x": 1, "y": "z"}])),
        "args[2][1].y: invalid type: string \"z\", expected f64"
    );
    assert_eq!(put(2, json!([{"x": 1}])), "args[2][0]: missing field `y`");
    assert_eq!(put(2, json!([[1, 2, 3]])), "args[2][0]: invalid length 3, expected fewer elements in array");
    assert_eq!(put(3, json!({"x": "A"})), "args[3].x: the map key \"x\" is not a number");
    assert_eq!(
        put(3, json!({"300": "A"})),
        "args[3][\"300\"]: as a map key: invalid value: integer `300`, expected u8"
    );
    assert_eq!(put(3, json!({"3": "C"})), "args[3][\"3\"]: unknown variant `C`, expected `A` or `späte`");
    let error = decode_value::<u8>(&encoded("text")).unwrap_err();
    assert_eq!(error.to_string(), "value: invalid type: string \"text\", expected u8");
}

#[test]
fn errors_quote_what_the_peer_sent_but_not_all_of_it() {
    let long = "\u{1}".repeat(1 << 20);
    for error in [
        decode_value::<u8>(&encoded(&long)).unwrap_err(),
        decode_value::<Plain>(&encoded(&long)).unwrap_err(),
        decode_value::<HashMap<u8, u8>>(&encoded(&HashMap::from([(&long, 1)]))).unwrap_err(),
        decode_value::<HashMap<String, u8>>(&encoded(&HashMap::from([(&long, &long)]))).unwrap_err(),
        decode_value::<Strict>(&encoded(&HashMap::from([(&long, 1)]))).unwrap_err(),
    ] {
        assert!(error.to_string().len() < 2 * MAX_QUOTED, "{} bytes", error.to_string().len());
    }
}

#[test]
fn args_are_read_by_index_as_a_tuple_and_as_values() {
    fn shared<T: Clone + Send + Sync + Debug + 'static>(_: &T) {}
    let args = Args::new((1, "two", json!({"three": null}))).unwrap();
    shared(&args);
    assert_eq!((args.len(), args.is_empty()), (3, false));
    assert_eq!(args.get::<u8>(0).unwrap(), 1);
    assert_eq!(args.get::<String>(1).unwrap(), "two");
    assert_eq!(args.get::<Option<u8>>(3).unwrap(), None);
    assert_eq!(args.get::<Option<u8>>(usize::MAX).unwrap(), None);
    assert_eq!(args.get::<u8>(1).unwrap_err().to_string(), "args[1]: invalid type: string \"two\", expected u8");
    assert_eq!(
        args.get::<u8>(7).unwrap_err().to_string(),
        "args[7]: the argument is missing: invalid type: null, expected u8"
    );
    assert!(args.get::<u8>(usize::MAX).unwrap_err().to_string().contains("the argument is missing"));
    assert_eq!(args.parse::<(u8, String)>().unwrap(), (1, "two".into()));
    assert_eq!(args.parse::<(u8, u8)>().unwrap_err().to_string(), "args[1]: invalid type: string \"two\", expected u8");
    let again: Args = args.parse().unwrap();
    assert_eq!(again.as_payload().as_ptr(), args.as_payload().as_ptr());
    assert_eq!(args.to_values(), [json!(1), json!("two"), json!({"three": null})]);
    assert_eq!(format!("{:?}", Args::new((1, "x")).unwrap()), "Args[Number(1), String(\"x\")]");
    assert!(Args::default().is_empty() && Args::default().to_values().is_empty());
    let received: Args = decode_args(args.as_payload()).unwrap();
    assert_eq!(received.as_payload(), args.as_payload());
    assert_eq!(Args::new((f64::NAN,)).unwrap_err().to_string(), "args[0]: NaN is not a JSON number");
}

#[test]
fn args_keep_to_the_limits_of_the_link_they_are_sent_on() {
    let args = Args::new((1, [[2]])).unwrap();
    let sent = |limits| encode_args(&args, &mut Vec::new(), &limits).map_err(|error| error.to_string());
    let limits = Limits::default();
    sent(Limits { max_depth: 3, max_values: 5, max_message_size: 5, ..limits }).unwrap();
    assert_eq!(sent(Limits { max_depth: 2, ..limits }).unwrap_err(), "args: nested deeper than 2 levels");
    assert_eq!(sent(Limits { max_values: 4, ..limits }).unwrap_err(), "args: more than 4 values");
    assert_eq!(
        sent(Limits { max_message_size: 4, ..limits }).unwrap_err(),
        "args: the message would be larger than 4 bytes"
    );
}

#[test]
fn error_records_travel_whole() {
    let limits = Limits::default();
    let full = ErrorRecord {
        kind: 200,
        name: Some("Überlauf".into()),
        message: "too far".into(),
        code: Some("E_FAR".into()),
        data: Some(json!({"at": [1, 2.5]})),
    };
    for record in [full.clone(), ErrorRecord::default(), ErrorRecord { data: None, ..full.clone() }] {
        let mut out = b"before".to_vec();
        record.encode(&mut out, &limits);
        let read = ErrorRecord::decode(&out[6..], &limits).unwrap();
        assert_eq!(format!("{read:?}"), format!("{record:?}"));
    }
    let mut out = Vec::new();
    ErrorRecord { kind: 3, message: "m".into(), ..ErrorRecord::default() }.encode(&mut out, &limits);
    assert_eq!(out, [0x95, 3, 0xc0, 0xa1, b'm', 0xc0, 0xc0]);
}

#[test]
fn an_error_record_arrives_even_if_parts_of_it_cannot() {
    let read = |record: &ErrorRecord, limits: &Limits| {
        let mut out = Vec::new();
        record.encode(&mut out, limits);
        assert!(out.len() <= limits.max_message_size.max(7));
        ErrorRecord::decode(&out, &Limits::default()).unwrap()
    };
    let limits = Limits::default();
    let long = ErrorRecord { message: "ü".repeat(40_000), name: Some("é".repeat(50_000)), ..ErrorRecord::default() };
    let cut = read(&long, &Limits { max_text: 1001, ..limits });
    assert_eq!((cut.message.len(), cut.name.unwrap().len()), (1000, 1000));
    let deep = ErrorRecord { kind: 4, message: "why".into(), data: Some(nested(128)), ..ErrorRecord::default() };
    let cut = read(&deep, &limits);
    assert!(cut.message.starts_with("why (its data were left out: value[4]"), "{}", cut.message);
    assert!(cut.message.ends_with("nested deeper than 128 levels)"));
    let cut = read(&deep, &Limits { max_text: 10, ..limits });
    assert_eq!((cut.message.as_str(), cut.data), (" (its data", None));
    for max_message_size in [0, 1, 7, 20, 60, 100, 1000] {
        let cut = read(&long, &Limits { max_message_size, ..limits });
        assert!(cut.message.len() + 20 >= max_message_size, "{}", cut.message.len());
    }
}

#[test]
fn an_error_record_arrives_where_fewer_values_are_agreed_than_it_has() {
    let record = ErrorRecord { kind: 1, message: "no handler".into(), ..ErrorRecord::default() };
    for max_values in 1..8 {
        let limits = Limits { max_values, ..Limits::default() };
        for data in [None, Some(json!([1, 2]))] {
            let mut out = Vec::new();
            ErrorRecord { data, ..record.clone() }.encode(&mut out, &limits);
            let read = ErrorRecord::decode(&out, &limits).unwrap();
            assert!(read.message.starts_with("no handler") && read.data.is_none(), "{read:?}");
        }
    }
    let eight = encoded(&json!([1, null, "", null, [1, 2]]));
    assert!(ErrorRecord::decode(&eight, &Limits { max_values: 7, ..Limits::default() }).is_err());
}

#[test]
fn a_broken_error_record_is_a_violation() {
    let read = |value: Value, limits: &Limits| ErrorRecord::decode(&encoded(&value), limits).unwrap_err().0;
    let limits = Limits { max_text: 5, ..Limits::default() };
    assert_eq!(read(json!([1]), &limits), "value: invalid length 1, expected a tuple of size 5");
    assert_eq!(
        read(json!([1, null, 5, null, null]), &limits),
        "value[2]: invalid type: integer `5`, expected a string"
    );
    assert_eq!(
        read(json!([300, null, "", null, null]), &limits),
        "value[0]: invalid value: integer `300`, expected u8"
    );
    assert_eq!(read(json!([1, null, "123456", null, null]), &limits), "an error text of 6 bytes, where 5 are allowed");
    assert!(ErrorRecord::decode(&[0x95, 1], &limits).is_err());
}

#[test]
fn real_documents_travel_unchanged() {
    for name in ["canada", "twitter"] {
        let path = format!("{}/../shared/data/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            println!("skipped: {path} is not there");
            continue;
        };
        let value: Value = serde_json::from_str(&text).unwrap();
        let bytes = encoded(&value);
        let read: Value = decode_value(&bytes).unwrap();
        assert!(same(&read, &value), "{name} changed");
        let args = Args::from_values(&[value]).unwrap();
        assert!(same(&args.get(0).unwrap(), &read), "{name} changed as an argument");
    }
}

pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-200_i64..70_000).prop_map(Value::from),
        proptest::num::f64::NORMAL.prop_map(Value::from),
    ];
    let text = prop_oneof!["[a-z]{0,4}", ".{0,40}", "\\PC{0,300}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 200, 20, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            proptest::collection::btree_map(text.clone(), inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Bytes of which many are heads of MessagePack values.
pub(crate) fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let heads = prop_oneof![
        any::<u8>(),
        Just(0x91),
        Just(0x92),
        Just(0x81),
        Just(0x82),
        Just(0xa0),
        Just(0xa1),
        Just(0xa2),
        0xc0..=0xdf_u8,
        b'a'..=b'c',
    ];
    proptest::collection::vec(heads, 0..60)
}

/// Everything that reads bytes, on bytes that nothing is known of.
fn read_all(bytes: &[u8]) {
    let limits = Limits::default();
    let _ = split(bytes, &limits, End::Main);
    let _ = split(bytes, &limits, End::Renderer);
    let _ = ErrorRecord::decode(bytes, &limits);
    let trusted = check(bytes, &limits, false);
    let checked = check(bytes, &limits, true);
    assert!(checked.is_err() || trusted == checked);
    let value = decode_value::<Value>(bytes);
    match &checked {
        Ok(_) => assert!(value.is_ok(), "{bytes:02x?}"),
        Err(_) if trusted.is_ok() => assert!(value.unwrap_err().is_malformed(), "{bytes:02x?}"),
        Err(_) => {}
    }
    assert_eq!(decode_value::<IgnoredAny>(bytes).is_ok(), Args::from_payload(bytes).is_ok() || check_root(bytes));
    let _ = decode_value::<Untagged>(bytes);
    let _ = decode_value::<Vec<External>>(bytes);
    let _ = decode_value::<HashMap<u8, Flat>>(bytes);
    let _ = decode_value::<LossyList>(bytes);
    let _ = decode_value::<LossyMap>(bytes);
    let _ = decode_value::<Box<[Untouched]>>(bytes);
    let _ = decode_args::<(Option<String>, Internal, Adjacent)>(bytes);
    if let Ok(args) = decode_args::<Args>(bytes) {
        assert_eq!(args.to_values().len(), args.len());
        assert_eq!(args.len() as u32, check_args(bytes, &limits, true).unwrap());
    }
}

/// A value that passes the check but is no list.
fn check_root(bytes: &[u8]) -> bool {
    check(bytes, &Limits::default(), true).is_ok() && check_args(bytes, &Limits::default(), true).is_err()
}
/// One value, or what begins like one, as a message of ours would hold it.
fn simple_value() -> impl Strategy<Value = Vec<u8>> {
    let text = |len: std::ops::Range<usize>| {
        proptest::collection::vec(b'a'..=b'z', len).prop_map(|text| {
            let mut bytes = Vec::new();
            rmp::encode::write_str(&mut bytes, std::str::from_utf8(&text).unwrap()).unwrap();
            bytes
        })
    };
    prop_oneof![
        any::<i64>().prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
        any::<i8>().prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
        any::<Option<bool>>().prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
        text(0..40),
        text(200..300),
        Just(vec![0xd9]),
        Just(vec![0x90]),
        Just(vec![0xc1]),
        Just(vec![0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]),
    ]
}

proptest! {
    #[test]
    fn any_value_makes_the_round_trip(value in any_json()) {
        let bytes = encoded(&value);
        let read: Value = decode_value(&bytes).unwrap();
        prop_assert!(same(&read, &value));
        prop_assert_eq!(encoded(&read), bytes.clone());
        decode_value::<IgnoredAny>(&bytes).unwrap();
        prop_assert!(same(&rmp_serde::from_slice::<Value>(&bytes).unwrap(), &value));
    }

    #[test]
    fn any_value_reads_alike_as_any_type(value in any_json()) {
        reads_alike::<Untagged>(&value);
        reads_alike::<External>(&value);
        reads_alike::<Vec<Option<i64>>>(&value);
        reads_alike::<BTreeMap<String, Untagged>>(&value);
        reads_alike::<BTreeMap<i32, IgnoredAny>>(&value);
        reads_alike::<LossyList>(&value);
        reads_alike::<LossyMap>(&value);
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in any_bytes()) {
        read_all(&bytes);
    }

    #[test]
    fn the_short_way_through_a_simple_list_accepts_what_a_scan_accepts(
        values in proptest::collection::vec(simple_value(), 0..18), cut in 0_usize..4, max_values in 0_u32..20, max_depth in 0_u32..2
    ) {
        let mut bytes = Vec::new();
        rmp::encode::write_array_len(&mut bytes, values.len() as u32).unwrap();
        values.iter().for_each(|value| bytes.extend_from_slice(value));
        bytes.truncate(bytes.len().saturating_sub(cut));
        let limits = Limits { max_values, max_depth, ..Limits::default() };
        for bytes in [&bytes[..], bytes[..].strip_prefix(&[0x91]).unwrap_or(&[])] {
            // Text on trust in both: a length without its text takes the next value for it, which need not be UTF-8.
            let bounds = check::Bounds::of(&limits, false);
            let scanned = check::list(bytes, &bounds).map(|(count, _)| count);
            prop_assert_eq!(check_args(bytes, &limits, false).ok(), scanned.ok());
            let scanned = check::whole(bytes, &bounds).map(|scan| scan.values as usize);
            prop_assert_eq!(check(bytes, &limits, false).ok(), scanned.ok());
        }
    }

    #[test]
    fn no_damage_to_a_message_causes_a_panic(value in any_json(), at in any::<prop::sample::Index>(), byte: u8, cut: prop::sample::Index) {
        let mut bytes = encoded(&value);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        read_all(&bytes);
        read_all(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn no_header_causes_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 24..64), kind in 0_u8..15, len in 0_u32..50) {
        bytes[0] = kind;
        bytes[1..4].fill(0);
        bytes[16..20].copy_from_slice(&len.to_le_bytes());
        for end in [End::Main, End::Renderer] {
            if let Ok((envelope, payload)) = split(&bytes, &Limits::default(), end) {
                let mut again = Vec::new();
                begin(&envelope, &mut again);
                again.extend_from_slice(payload);
                prop_assert_eq!(&again, &bytes);
            }
        }
    }

    #[test]
    fn what_the_sender_writes_passes_the_check_of_the_same_limits(value in any_json(), max_depth in 1_u32..8, max_values in 1_u32..100) {
        let limits = Limits { max_depth, max_values, ..Limits::default() };
        let mut out = Vec::new();
        let sent = encode_value(&value, &mut out, &limits).is_ok();
        prop_assert_eq!(sent, check(&encoded(&value), &limits, true).is_ok());
        prop_assert_eq!(sent, check(&out, &limits, true).is_ok());
    }
}
