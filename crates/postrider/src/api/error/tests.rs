use super::*;

#[test]
fn codes_are_named_once_and_each_has_a_meaning() {
    let names: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), Code::ALL.len());
    for code in Code::ALL {
        assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
        assert!(code.meaning().ends_with('.'), "{code:?}");
        assert_eq!(serde_json::to_value(code).ok(), Some(code.name().into()));
    }
}

/// What a caller is told of an error, as `(code, param, retry_after)`.
fn told(error: impl Into<ApiError>) -> (Code, Option<String>, Option<u32>) {
    let error = error.into();
    (error.code, error.param, error.retry_after_seconds)
}

#[test]
fn failures_of_the_store_say_what_to_do_and_keep_their_cause_to_the_log() {
    assert_eq!(told(store::Error::Full), (Code::StoreFull, None, Some(1)));
    assert_eq!(told(store::Error::Unavailable("x".to_owned())), (Code::Unavailable, None, Some(1)));
    assert_eq!(told(store::Error::Conflict("name")), (Code::Conflict, Some("name".to_owned()), None));
    let secret = ApiError::from(store::Error::Other(anyhow::anyhow!("table secrets is damaged")));
    assert_eq!((secret.code, &*secret.message), (Code::Internal, "internal error"));
    assert!(secret.cause.is_some());
}

#[test]
fn what_keeps_events_from_being_accepted_says_when_to_try_again() {
    assert_eq!(told(PublishError::Overloaded), (Code::Overloaded, None, Some(1)));
    assert_eq!(told(PublishError::ShuttingDown), (Code::ShuttingDown, None, Some(1)));
    assert_eq!(told(PublishError::UnknownTenant), (Code::NotFound, Some("tenant_id".to_owned()), None));
    assert_eq!(told(PublishError::Store(store::Error::Full)).0, Code::StoreFull);
}
