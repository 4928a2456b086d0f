#![allow(clippy::unwrap_used)]

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_delivers_at_the_third_attempt_with_a_signature_that_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let (mut terminal, written) = Terminal::captured();
    let started = Instant::now();
    let demo = Demo { keep: false, data: Some(directory.path().join("data")) };
    run(demo, &mut terminal).await.unwrap();
    let text = written.text();
    assert!(started.elapsed() < Duration::from_secs(20), "{text}");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let attempts: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("attempt ")).collect();
    assert_eq!(attempts.len(), 3, "{text}");
    assert!(attempts[0].contains("500") && attempts[1].contains("503"), "{text}");
    assert!(attempts[2].contains("200") && attempts[2].contains("signature verified"), "{text}");
    assert!(text.contains("webhook-signature: v1,"), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("status") && line.contains("succeeded  3 attempts")), "{text}");
    assert!(!text.contains('\x1b'), "no colours where there is no terminal");
}
