//! The command line as a developer meets it.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::harness::{Deployment, Receiver, SOON, Server, shared_machine};

/// Of the standard's own examples.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn run(deployment: &Deployment, arguments: &[&str]) -> Output {
    let output = deployment.command(arguments).output();
    tokio::time::timeout(Duration::from_secs(60), output).await.expect("it ends").unwrap()
}

#[track_caller]
fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}\n{out}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    out
}

/// The deployment as a client of the running server sees it.
fn client_of(server: &Server) -> Deployment {
    server
        .deployment
        .clone()
        .with("POSTRIDER_URL", &server.url)
        .with("POSTRIDER_API_KEY", server.deployment.admin_key())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn demo_shows_the_main_job_on_an_empty_machine() {
    let _machine = shared_machine().await;
    let output = run(&Deployment::strict(), &["demo"]).await;
    let shown = said(&output) + &String::from_utf8_lossy(&output.stderr);
    let steps = ["accepted", "attempt 1  500", "attempt 2  503", "attempt 3  200", "signature verified", "on record"];
    let mut rest = shown.as_str();
    for step in steps {
        let at = rest.find(step).unwrap_or_else(|| panic!("`{step}` is not in its place in\n{shown}"));
        rest = &rest[at..];
    }
    assert!(rest.contains("Delivered"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sign_signs_verify_accepts_and_nothing_else() {
    let _machine = shared_machine().await;
    let deployment = Deployment::strict().with("POSTRIDER_SECRET", SECRET);
    let (body, changed) = (deployment.home().join("body.json"), deployment.home().join("changed.json"));
    std::fs::write(&body, r#"{"hello":"world"}"#).unwrap();
    std::fs::write(&changed, r#"{"hello":"World"}"#).unwrap();
    let (body, changed) = (body.to_str().unwrap(), changed.to_str().unwrap());
    let signed = said(&run(&deployment, &["sign", body]).await);
    let headers: Vec<String> = signed.lines().filter(|line| line.contains(": ")).map(str::to_owned).collect();
    assert!(headers.iter().any(|line| line.to_lowercase().starts_with("webhook-signature: v1,")), "{signed}");
    let mut arguments = vec!["verify"];
    for header in &headers {
        arguments.extend(["--header", header]);
    }
    let good = run(&deployment, &[arguments.as_slice(), &[body]].concat()).await;
    said(&good);
    let bad = run(&deployment, &[arguments.as_slice(), &[changed]].concat()).await;
    assert!(!bad.status.success(), "a changed body was accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_configuration_passes_its_own_check_and_a_wrong_one_is_explained() {
    let _machine = shared_machine().await;
    let deployment = Deployment::strict();
    let sample = said(&run(&deployment, &["config", "sample"]).await);
    let file = deployment.home().join("postrider.toml");
    std::fs::write(&file, &sample).unwrap();
    let path = file.to_str().unwrap();
    said(&run(&deployment, &["config", "check", "--config", path]).await);
    std::fs::write(&file, format!("{sample}\nlisten_to = \"everybody\"\n")).unwrap();
    let output = run(&deployment, &["config", "check", "--config", path]).await;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("listen_to"), "the wrong line is not named");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trigger_publishes_an_event_that_is_delivered() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Trigger").await;
    server.api.webhook(&tenant, &receiver.url("/hook"), json!({})).await;
    let client = client_of(&server);
    said(&run(&client, &["trigger", "order.paid", "--tenant", &tenant, "--data", r#"{"amount":3}"#]).await);
    let request = receiver.wait("/hook", 1).await.pop().unwrap();
    assert_eq!(
        (request.json()["type"].as_str(), &request.json()["data"]),
        (Some("order.paid"), &json!({ "amount": 3 }))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listen_forwards_deliveries_to_the_developers_machine() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    // The strict guard stands: what is forwarded never goes out through egress.
    let server = Deployment::strict().start().await;
    let tenant = server.api.tenant("Listen").await;
    let client = client_of(&server);
    let arguments = ["listen", "--forward-to", &receiver.url("/local"), "--tenant", &tenant];
    let mut command = client.command(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut webhooks = Vec::new();
    crate::harness::until("its temporary webhook exists", SOON, async || {
        let listed = server.api.get(&format!("/v1/webhooks?tenant_id={tenant}")).await.expect(200);
        webhooks = listed.body["items"].as_array().unwrap().clone();
        (!webhooks.is_empty()).then_some(())
    })
    .await;
    server.api.publish(&tenant, "order.paid", json!({ "n": 1 })).await;
    let request = receiver.wait("/local", 1).await.pop().unwrap();
    assert_eq!(request.json()["type"], "order.paid");
    assert!(!request.header("webhook-signature").is_empty(), "it comes signed, as in production");
    server.api.drained(&tenant, SOON).await;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let shown = tokio::time::timeout(SOON, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("order.paid") {
                return line;
            }
        }
        panic!("it printed nothing of the delivery")
    });
    shown.await.expect("the delivery is printed");
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_are_printed_for_the_usual_shells() {
    let _machine = shared_machine().await;
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&run(&Deployment::strict(), &["completions", shell]).await);
        assert!(script.contains("postrider") && script.contains("serve"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_setting_is_named_and_ends_with_an_exit_code() {
    let _machine = shared_machine().await;
    for (name, value) in [
        ("POSTRIDER_LISTEN", "nowhere"),
        ("POSTRIDER_EGRESS_ALLOW", "10.0.0.0/99"),
        ("POSTRIDER_MASTER_KEY", "too-short"),
        ("POSTRIDER_RETENTION_DAYS", "a week"),
    ] {
        let output = run(&Deployment::strict().with(name, value), &["serve"]).await;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{name}={value} was accepted");
        assert!(message.contains(name), "{name}={value}: {message}");
        assert!(!message.contains("panicked") && !message.contains("too-short"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_pipe_is_no_crash() {
    let _machine = shared_machine().await;
    let deployment = Deployment::strict();
    let mut command = deployment.command(&["completions", "bash"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sign_reads_standard_input() {
    let _machine = shared_machine().await;
    let deployment = Deployment::strict().with("POSTRIDER_SECRET", SECRET);
    let mut command = deployment.command(&["sign", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{}").await.unwrap();
    assert!(said(&child.wait_with_output().await.unwrap()).contains("v1,"));
}
