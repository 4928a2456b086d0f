#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;

const BODY: &[u8] = br#"{"hello":"world"}"#;

fn message(dialect: Dialect, directory: &Path) -> Message {
    let secret = if dialect == Dialect::Standard { "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" } else { "test-secret" };
    std::fs::write(directory.join("secret"), format!("{secret}\n")).unwrap();
    std::fs::write(directory.join("body"), BODY).unwrap();
    Message {
        dialect,
        secret_file: Some(directory.join("secret")),
        body: directory.join("body"),
        at: Some("2023-11-14T22:13:20Z".to_owned()),
        json: false,
    }
}

fn signed(dialect: Dialect, directory: &Path) -> Vec<(String, String)> {
    let (mut terminal, written) = Terminal::captured();
    sign(&Sign { id: "msg_1".to_owned(), message: message(dialect, directory) }, &mut terminal).unwrap();
    written.text().lines().map(|line| header(line).unwrap()).collect()
}

#[test]
fn what_is_signed_verifies_in_every_dialect_and_one_changed_byte_does_not() {
    for dialect in Dialect::ALL {
        let directory = tempfile::tempdir().unwrap();
        let headers = signed(dialect, directory.path());
        let check = |directory: &Path| {
            let verification = Verify { headers: headers.clone(), message: message(dialect, directory) };
            verify(&verification, &mut Terminal::captured().0)
        };
        check(directory.path()).unwrap();

        let mut changed = Verify { headers: headers.clone(), message: message(dialect, directory.path()) };
        std::fs::write(directory.path().join("other"), br#"{"hello":"World"}"#).unwrap();
        changed.message.body = directory.path().join("other");
        let (mut terminal, written) = Terminal::captured();
        let failure = verify(&changed, &mut terminal).unwrap_err();
        assert!(failure.message.contains("no signature matches"), "{}: {failure}", dialect.name());
        assert_eq!(written.text(), "");
    }
}

#[test]
fn the_published_vector_comes_out() {
    let directory = tempfile::tempdir().unwrap();
    let headers = signed(Dialect::Alumia, directory.path());
    let expected = "t=1700000000,v1=f85455a1b55ea86f7a15f5f9923d0abc4b888da84ec485f2ff358f427776beca";
    assert_eq!(headers, [("x-alumia-signature".to_owned(), expected.to_owned())]);
}

#[test]
fn an_old_message_is_refused_now_but_not_as_of_then() {
    let directory = tempfile::tempdir().unwrap();
    let headers = signed(Dialect::Standard, directory.path());
    let mut verification = Verify { headers, message: message(Dialect::Standard, directory.path()) };
    verification.message.at = None;
    let failure = verify(&verification, &mut Terminal::captured().0).unwrap_err();
    assert!(failure.message.contains("outside the tolerance"), "{failure}");
}

#[test]
fn a_secret_of_the_wrong_form_is_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let mut message = message(Dialect::Standard, directory.path());
    std::fs::write(directory.path().join("plain"), "hunter2").unwrap();
    message.secret_file = Some(directory.path().join("plain"));
    let failure = sign(&Sign { id: "x".to_owned(), message }, &mut Terminal::captured().0).unwrap_err();
    assert!(!failure.message.contains("hunter2"), "{failure}");
}
