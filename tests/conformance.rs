//! Holds CONFORMANCE.md to the tests: every case of the list has a row, every row's tests exist, and no test that bears a
//! case's number is missing from the table.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The cases of the list that are about what this crate has. The others are about message ports (27–41), the structured
/// clone (49–52, 54) and service workers (82, 83).
const CASES: &[std::ops::RangeInclusive<u32>] = &[
    1..=13,
    16..=19,
    21..=23,
    25..=26,
    42..=44,
    46..=46,
    48..=48,
    53..=53,
    55..=81,
    84..=89,
    91..=94,
    97..=97,
    101..=101,
    104..=109,
    112..=112,
    114..=116,
    119..=120,
    123..=123,
    125..=128,
    130..=130,
    132..=132,
];

struct Row {
    cases: BTreeSet<u32>,
    tests: Vec<(String, String)>,
    verdict: String,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `12`, or `73–75`: several.
fn numbers(text: &str) -> BTreeSet<u32> {
    let number = |text: &str| text.trim().parse::<u32>().unwrap_or_else(|_| panic!("{text:?} is no case"));
    text.split(',')
        .flat_map(|part| match part.split_once('–') {
            Some((first, last)) => number(first)..=number(last),
            None => number(part)..=number(part),
        })
        .collect()
}

/// The rows whose first column is a number. The third column holds `file` `test` pairs, each in backquotes.
fn rows() -> Vec<Row> {
    let table = read("CONFORMANCE.md");
    let rows =
        table.lines().filter(|line| line.starts_with("| ") && line[2..].starts_with(|c: char| c.is_ascii_digit()));
    rows.map(|line| {
        let columns: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(columns.len(), 4, "{line}");
        let quoted: Vec<String> = columns[2].split('`').skip(1).step_by(2).map(str::to_string).collect();
        assert!(!quoted.is_empty() && quoted.len().is_multiple_of(2), "{line}");
        let tests = quoted.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        Row { cases: numbers(columns[0]), tests, verdict: columns[3].to_string() }
    })
    .collect()
}

/// The case numbers in a test's name: `case_073_to_075_…`, `case_044_and_056_…`.
fn numbers_in(name: &str) -> BTreeSet<u32> {
    let words: Vec<&str> = name.split('_').skip(1).collect();
    let mut cases = BTreeSet::new();
    let mut is_range = false;
    for word in words {
        match word.parse::<u32>() {
            Ok(number) if is_range => {
                let first = cases.last().copied().unwrap_or(number);
                cases.extend(first..=number);
            }
            Ok(number) => drop(cases.insert(number)),
            Err(_) if !["to", "and"].contains(&word) => break,
            Err(_) => {}
        }
        is_range = word == "to";
    }
    cases
}

fn tests_of_cases() -> BTreeMap<(String, String), BTreeSet<u32>> {
    let mut found = BTreeMap::new();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for entry in std::fs::read_dir(tests).expect("the tests") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if !name.ends_with(".rs") || name == "conformance.rs" {
            continue;
        }
        let file = format!("tests/{name}");
        let text = read(&file);
        for test in text.lines().filter_map(|line| line.strip_prefix("fn case_")) {
            let test = format!("case_{}", test.split('(').next().unwrap_or_default());
            let cases = numbers_in(&test);
            assert!(!cases.is_empty(), "{file}: {test} has no number");
            found.insert((file.clone(), test), cases);
        }
    }
    assert!(found.len() > 50, "{} tests found", found.len());
    found
}

#[test]
fn every_case_of_the_list_has_a_row() {
    let listed: BTreeSet<u32> = CASES.iter().cloned().flatten().collect();
    let covered: BTreeSet<u32> = rows().into_iter().flat_map(|row| row.cases).collect();
    let missing: Vec<_> = listed.difference(&covered).collect();
    assert!(missing.is_empty(), "cases without a row: {missing:?}");
}

#[test]
fn every_row_names_tests_that_exist_and_says_whether_it_differs() {
    for row in rows() {
        let cases = &row.cases;
        for (file, test) in &row.tests {
            let text = read(file);
            // A case that does not compile is a documentation test; its row quotes the line that must not.
            let exists = match file.starts_with("tests/") {
                true => text.contains(&format!("#[test]\nfn {test}(")),
                false => text.contains("compile_fail") && text.contains(test.as_str()),
            };
            assert!(exists, "cases {cases:?}: {file} has no {test}");
        }
        let verdict = &row.verdict;
        assert!(
            verdict.starts_with("as Electron") || verdict.starts_with("differs on purpose, because "),
            "cases {cases:?}: {verdict:?} says neither"
        );
    }
}

#[test]
fn every_test_that_bears_a_number_is_in_the_table_with_it() {
    let rows = rows();
    for ((file, test), numbered) in tests_of_cases() {
        for case in numbered {
            let is_in = rows
                .iter()
                .any(|row| row.cases.contains(&case) && row.tests.iter().any(|(f, t)| *f == file && *t == test));
            assert!(is_in, "{file}: {test} is in no row of case {case}");
        }
    }
}

#[test]
fn the_numbers_in_a_name_are_read_as_they_are_meant() {
    let table: [(&str, &[u32]); 4] = [
        ("case_007_a_second_handler", &[7]),
        ("case_044_and_056_fresh", &[44, 56]),
        ("case_073_to_075_a_reply", &[73, 74, 75]),
        ("case_046_047_and_057_one_of_12", &[46, 47, 57]),
    ];
    for (name, cases) in table {
        assert_eq!(numbers_in(name), cases.iter().copied().collect(), "{name}");
    }
}
