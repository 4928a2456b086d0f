//! The benchmark's own processes against each other: the deliver-only ceiling into the sink.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A subcommand of the built benchmark, ended by its own handle.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bench"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Running { child, output }
    }

    fn line(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

/// One call to the sink's control port.
fn ask(control: &str, path: &str, body: &serde_json::Value) -> serde_json::Value {
    let body = body.to_string();
    let mut stream = TcpStream::connect(control).unwrap();
    write!(stream, "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn the_deliver_only_ceiling_sends_what_the_sink_counts_and_verifies() {
    let mut sink = Running::start(&["sink", "--webhooks", "2"]);
    let addresses = sink.line();
    let control = addresses["control"].as_str().unwrap();
    ask(control, "/expect", &serde_json::json!([{ "secret": { "Standard": SECRET }, "behaviour": "receives" }]));
    let target = addresses["webhooks"][0].as_str().unwrap();
    let told = ["--target", target, "--secret", SECRET, "--connections", "4", "--seconds", "0.3"];
    let sent = Running::start(&[["deliver-ceiling"].as_slice(), &told].concat()).line();
    let report = ask(control, "/report", &serde_json::json!(null));
    assert!(sent["deliveries"].as_u64().unwrap() > 0);
    assert_eq!(report["delivered"], sent["deliveries"]);
    assert_eq!(report["verified"], sent["deliveries"]);
    assert_eq!((&report["duplicates"], &report["bad_signatures"]), (&0.into(), &0.into()));
}

#[test]
fn a_helper_ends_when_the_benchmark_that_started_it_is_gone() {
    let mut ceiling = Running::start(&["accept-ceiling"]);
    assert!(ceiling.line().as_str().unwrap().starts_with("127.0.0.1:"));
    drop(ceiling.child.stdin.take());
    assert!(ceiling.child.wait().unwrap().success());
}
