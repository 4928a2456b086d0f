#![allow(clippy::unwrap_used)]

use super::*;
use crate::ceilings::Ceiling;
use crate::gateway::{Bare, Gateway, Operation, Refused, Wrong};
use crate::latency::Summary;
use crate::machine::Machine;
use crate::scenario::{Ceilings, Comparison};
use crate::server::Store;
use crate::soak::Soak;
use crate::soak::trend::{Bound, Held, Trend};
use crate::wide::{Size, Start, Wide};

fn measurement(title: &str) -> Measurement {
    Measurement {
        title: title.to_owned(),
        store: Store::Embedded,
        nodes: 1,
        fan_out: 1,
        batch: 1,
        rate: None,
        seconds: 10.0,
        history: 0,
        accepted: 125_000,
        delivered: 125_000,
        accepted_per_second: 12_500.0,
        delivered_per_second: 12_500.0,
        latency: Summary { count: 125_000, p50_ms: 1.5, p99_ms: 7.25, max_ms: 40.0 },
        answer: Summary::default(),
        driver_lateness: Summary::default(),
        server_cpu_seconds: 10.0,
        server_cpu_seconds_per_10k: 0.8,
        database_cpu_seconds_per_10k: None,
        driver_cpu_us_per_event: 10.0,
        sink_cpu_us_per_delivery: 10.0,
        cores_of_others: 0.05,
        peak_memory_bytes: 90_000_000,
        disk_bytes_per_delivery: 2_345.0,
        wal_bytes_per_delivery: None,
        settled_bytes_per_delivery: Some(1_800.0),
        refused: 0,
        first_refusal: None,
        duplicates: 0,
        losses: 0,
        bad_signatures: 0,
        verified: 125_000,
    }
}

fn results(measurements: Vec<Measurement>) -> Results {
    let machine = Machine {
        date: "2026-01-02 03:04 UTC".to_owned(),
        commit: "abc".to_owned(),
        cpu: "A CPU".to_owned(),
        cores: 2,
        memory_gib: 24.0,
        kernel: "6.1".to_owned(),
        flush: vec![Summary { count: 200, p50_ms: 0.5, p99_ms: 1.0, max_ms: 2.0 }],
        busy_flush: vec![Summary { count: 5_000, p50_ms: 0.6, p99_ms: 9.0, max_ms: 293.7 }],
    };
    let ceilings = Ceilings {
        accept: Ceiling { per_second: 50_000.0, cpu_us: 30.0 },
        accept_batch: Ceiling { per_second: 250_000.0, cpu_us: 3.0 },
        deliver: Ceiling { per_second: 25_000.0, cpu_us: 50.0 },
    };
    let comparisons = vec![Comparison { what: "history: after ÷ before".to_owned(), ratio: 0.79 }];
    let command = "cargo run --release -p bench".to_owned();
    Results {
        machine,
        command,
        quick: false,
        ceilings,
        measurements,
        comparisons,
        pending: None,
        reads: None,
        gateway: None,
        soak: None,
        wide: None,
        broken_off: Vec::new(),
    }
}

#[test]
fn what_was_written_by_hand_outlives_the_next_run() {
    let results = results(vec![measurement("fan-out 1, peak")]);
    let first = update("", &results);
    assert_eq!(first, document(&results), "nothing was written by hand yet");
    let by_hand = format!("{BY_HAND}\n## What was tried\n");
    let again = update(&format!("of the last run{by_hand}"), &results);
    assert_eq!(again, format!("{first}{by_hand}"));
    assert!(include_str!("../../../../docs/benchmarks.md").contains(BY_HAND), "the document has lost its mark");
}

#[test]
fn shares_are_of_the_ceilings_of_the_same_run() {
    let results = results(vec![measurement("fan-out 1, peak")]);
    let rows = rows(&rates(), &results);
    // 2 cores, 80 µs for an event and its delivery: 25,000 events a second at best.
    assert_eq!(rows[1][..6], ["fan-out 1, peak", "12,500", "25 %", "12,500", "50 %", "50 %"]);
}

#[test]
fn a_machine_that_was_busy_otherwise_is_said_to_have_been() {
    let told = "the machine was not quiet: others kept up to 0.90 of its cores busy";
    assert!(!text(&results(vec![measurement("quiet")])).contains("not quiet"));
    let noisy = Measurement { cores_of_others: 0.9, ..measurement("noisy") };
    assert!(text(&results(vec![measurement("quiet"), noisy])).contains(told));
}

#[test]
fn the_longest_flush_of_the_disk_alone_is_beside_the_latencies() {
    let told =
        "the same while as much is written as under load, without a server: p50 0.60, p99 9.00, longest 293.7 ms";
    assert!(text(&results(vec![measurement("fan-out 1, peak")])).contains(told));
}

#[test]
fn a_batch_is_held_against_the_ceiling_for_batches() {
    let batch = Measurement { batch: 100, ..measurement("batch") };
    let results = results(vec![batch]);
    assert_eq!(rows(&rates(), &results)[1][2], "5 %");
}

#[test]
fn a_promise_is_kept_or_missed_as_measured() {
    let results = results(vec![measurement("fan-out 1, peak"), measurement("fan-out 1, 100/s")]);
    let kept: Vec<(&str, bool)> = promises(&results).iter().map(|one| (one.what, one.kept)).collect();
    let wanted = [
        ("deliveries a second", true),
        ("server CPU s per 10,000", true),
        ("peak RSS", true),
        ("disk per delivered event", true),
        ("latency p50 at 100/s", true),
        ("latency p99 at 100/s", false),
        ("peak with history", false),
    ];
    assert_eq!(kept, wanted);
}

#[test]
fn a_loss_makes_the_run_unsound_and_is_said_in_both_forms() {
    let lossy = Measurement { losses: 3, ..measurement("fan-out 5, peak") };
    let results = results(vec![lossy]);
    assert!(!results.sound());
    let told = "fan-out 5, peak: 3 lost, 0 wrongly signed, 0 refused";
    assert!(text(&results).contains(&format!("FAILED  {told}")), "{}", text(&results));
    assert!(document(&results).contains(&format!("**This run failed:** {told}")));
}

#[test]
fn a_scenario_that_broke_off_makes_the_run_unsound_and_is_said() {
    let mut results = results(vec![measurement("fan-out 1, peak")]);
    assert!(results.sound());
    results.broken_off.push("while measuring fan-out 5: the server is gone".to_owned());
    assert!(!results.sound());
    assert!(document(&results).contains("**This run failed:** while measuring fan-out 5: the server is gone"));
}

#[test]
fn the_document_is_the_method_and_well_formed_tables() {
    let document = document(&results(vec![measurement("fan-out 1, peak")]));
    assert!(document.starts_with(METHOD));
    let tables: Vec<&str> = document.lines().filter(|line| line.starts_with('|')).collect();
    let columns = |line: &str| line.matches('|').count();
    assert_eq!(columns(tables[0]), columns(tables[2]), "{}", tables.join("\n"));
    assert!(tables[0].starts_with("| scenario |"));
}

fn gateway(statements: usize, wrong: u64) -> Gateway {
    let answer = Summary { count: 1_000, p50_ms: 1.5, p99_ms: 7.25, max_ms: 40.0 };
    let bare = |connections, per_second| Bare { connections, per_second, answer };
    let operation = Operation {
        what: "PostgreSQL: fetch by key".to_owned(),
        per_second: 7_000.0,
        answer,
        server_cpu_us: 59.4,
        database_cpu_us: Some(54.0),
        bare: bare(5, 14_000.0),
        bare_most: Some(bare(64, 28_000.0)),
        wrong: Wrong { count: wrong, first: Some("fetch by key: 503 {}".to_owned()) },
    };
    let refused = Refused {
        asked_per_second: 10_000.0,
        per_second: 9_999.6,
        answer,
        server_cpu_us: 57.0,
        kinds: vec![("unknown column", 33_333), ("no such route", 33_333)],
        wrong: Wrong::default(),
        statements,
        connections: 0,
    };
    Gateway { callers: 64, database_connections: 5, operations: vec![operation], refused }
}

#[test]
fn an_operation_is_held_against_the_bare_driver() {
    let told = text(&Results { gateway: Some(gateway(0, 0)), ..results(vec![]) });
    let row = "| PostgreSQL: fetch by key | 7,000 | 1.50 | 7.25 | 14,000 | 1.50 | 7.25 | 50 % | 25 % | 59 | 54 |";
    assert!(told.contains(row), "{told}");
    assert!(told.contains("10,000/s of 10,000/s asked (33,333 unknown column, 33,333 no such route)"), "{told}");
    assert!(told.contains("database meanwhile: 0 connections, 0 statements."), "{told}");
}

#[test]
fn a_refused_call_that_reaches_the_database_and_a_wrong_answer_make_the_run_unsound() {
    let with = |gateway| Results { gateway: Some(gateway), ..results(vec![]) };
    assert!(with(gateway(0, 0)).sound());
    for (unsound, why) in [
        (gateway(1, 0), "gateway: refused calls made 0 connections and 1 statements at the client's database"),
        (
            gateway(0, 2),
            "gateway, PostgreSQL: fetch by key: 2 answers were others than expected (first: fetch by key: 503 {})",
        ),
    ] {
        let results = with(unsound);
        assert!(!results.sound());
        assert!(document(&results).contains(&format!("**This run failed:** {why}")), "{}", document(&results));
    }
}

fn soak(flat: bool, seconds: f64) -> Soak {
    let trend = Trend {
        what: "resident memory",
        unit: "MB",
        early: 130.0,
        late: 149.5,
        per_hour: -7.25,
        bound: Bound::AtMost(1.1),
        flat,
    };
    let held = Held { what: "deliveries lost", bound: "0".to_owned(), measured: "0".to_owned(), held: true };
    Soak {
        peak_per_second: 8_847.0,
        rate: 6_193.0,
        seconds,
        webhooks: 50,
        failed: 557_000,
        requests: 11_147_400,
        trends: vec![trend],
        held: vec![held],
        points: vec![],
    }
}

#[test]
fn what_is_not_flat_is_said_and_does_not_fail_the_run() {
    let with = |soak| Results { soak: Some(soak), ..results(vec![]) };
    let told = document(&with(soak(false, 1_800.4)));
    assert!(told.contains("### Soak: 30 minutes at 70 % of peak, 5 % of requests fail"), "{told}");
    assert!(told.contains("| resident memory | 130 MB | 150 MB | 115 % | −7.25 MB | ≤ 110 % | **no** |"), "{told}");
    assert!(told.contains("| deliveries lost | 0 | 0 | yes |"), "{told}");
    assert!(told.contains("557,000 of 11,147,400 requests (5.0 %)"), "{told}");
    assert!(!told.contains("Too short"), "{told}");
    assert!(with(soak(false, 1_800.4)).sound());
    assert!(text(&with(soak(true, 60.0))).contains("**Too short for a verdict"));
}

#[test]
fn a_wide_run_shows_its_starts_and_keeps_or_misses_both_promises() {
    let start = |what, ready_seconds| Start {
        what,
        ready_seconds,
        accepted_seconds: ready_seconds + 0.05,
        cpu_seconds: 6.25,
        memory_bytes: 600_000_000,
    };
    let wide = Wide {
        size: Size::of(5_000_000),
        store_bytes: 2_500_000_000,
        starts: vec![start("stopped, filled and started", 4.5), start("after `kill -9`", 5.25)],
        peak_memory_bytes: 999_000_000,
    };
    let results = Results { wide: Some(wide), ..results(vec![]) };
    let kept: Vec<(&str, bool)> = promises(&results).iter().map(|one| (one.what, one.kept)).collect();
    assert_eq!(kept[1..], [("wide: peak RSS", true), ("wide: start-up", false)]);
    let told = document(&results);
    assert!(told.contains("### 1,000,000 webhooks of 100,000 tenants, 5,000,000 pending deliveries"), "{told}");
    assert!(told.contains("| after `kill -9` | 5.25 | 5.30 | 6.2 | 600 |"), "{told}");
}

#[test]
fn thousands_are_set_apart() {
    let set = [0.4, 999.0, 1_000.0, 12_345.6, 1_234_567.0].map(thousands);
    assert_eq!(set, ["0", "999", "1,000", "12,346", "1,234,567"]);
}
