//! Documents that are fetched whole.

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

async fn fetch(endpoint: &Endpoint, bytes_max: usize, limit: Duration) -> Result<Bytes, ErrorClass> {
    let url = endpoint.url().parse().unwrap();
    client().fetch(&url, bytes_max, limit).await.map_err(|error| error.class)
}

#[tokio::test]
async fn a_document_comes_by_get_up_to_the_bound() {
    let (told, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let endpoint = Endpoint::start(move |mut stream, _| {
        let told = told.clone();
        async move {
            told.send(read_request(&mut stream).await.unwrap()).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
        }
    })
    .await;
    assert_eq!(fetch(&endpoint, 5, LIMIT).await, Ok(Bytes::from_static(b"hello")));
    let head = asked.recv().await.unwrap();
    assert!(head.starts_with("GET /hook HTTP/1.1\r\n") && !head.contains("content-length"), "{head}");
    assert_eq!(fetch(&endpoint, 4, LIMIT).await, Err(ErrorClass::TooLarge));
}

#[tokio::test]
async fn anything_but_a_200_in_time_is_none() {
    for reply in ["302 Found\r\nlocation: http://127.0.0.1/", "404 Not Found", "204 No Content", "206 Partial Content"]
    {
        let endpoint = Endpoint::replying(format!("HTTP/1.1 {reply}\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(fetch(&endpoint, 10, LIMIT).await, Err(ErrorClass::HttpStatus), "{reply}");
    }
    let silent = Endpoint::start(|mut stream, _| async move {
        let _ = read_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(fetch(&silent, 10, Duration::from_millis(50)).await, Err(ErrorClass::Timeout));
}

#[tokio::test]
async fn the_policy_holds_for_documents_too() {
    let resolver = Scripted::new(&[("sns.eu-west-1.amazonaws.com", &[&["169.254.169.254"]])]);
    let client = Client::new(Arc::new(settings(EgressPolicy::default(), resolver)));
    let url = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem".parse().unwrap();
    let refused = client.fetch(&url, 10, LIMIT).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::RefusedByPolicy);
}
