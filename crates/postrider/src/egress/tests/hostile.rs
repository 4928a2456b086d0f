//! Endpoints that answer with anything at all.

use postrider_core::limits::RESPONSE_SNIPPET_BYTES_MAX;
use proptest::prelude::*;

use super::*;

/// Pieces of replies, sane and not.
const PIECES: [&[u8]; 34] = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 304 Not Modified\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 999 \xff\r\n",
    b"HTTP/1.1 000 No\r\n",
    b"HTTP/2 200\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"HTTP/1.1 200",
    b"content-length: 3\r\n",
    b"content-length: 5\r\n",
    b"content-length: -1\r\n",
    b"content-length: 18446744073709551615\r\n",
    b"content-length: 99999999999999999999999\r\n",
    b"Content-Length: 0\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: gzip, chunked\r\n",
    b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"x-\xff: \xff\r\n",
    b"x: caf\xe9\r\n",
    b" folded\r\n",
    b": no name\r\n",
    b"\0\0\0",
    b"\r\n",
    b"\n\n",
    b"abc",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"5;ext=\"\r\n",
    b"0\r\ntrailer: x\r\n\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_an_endpoint_answers_the_request_ends_in_time_and_within_bounds(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 1..9),
        hangs_up in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let reply = pieces.concat();
            let endpoint = Endpoint::start(move |mut stream, _| {
                let reply = reply.clone();
                async move {
                    while read_request(&mut stream).await.is_some() {
                        if stream.write_all(&reply).await.is_err() || hangs_up {
                            return;
                        }
                    }
                }
            })
            .await;
            let client = client();
            for _ in 0..2 {
                let limit = Duration::from_millis(20);
                let sent = client.send(Request { timeout: limit, ..request(&endpoint.url()) }).await;
                prop_assert!(sent.duration < Duration::from_secs(5), "{:?}", sent.duration);
                let succeeded = sent.response.as_ref().is_some_and(|r| (200..300).contains(&r.status));
                prop_assert!(sent.error.is_some() || succeeded, "only a 2xx is no failure: {:?}", sent);
                if let Some(response) = sent.response {
                    prop_assert!((100..1000).contains(&response.status));
                    prop_assert!(response.body.len() <= RESPONSE_SNIPPET_BYTES_MAX);
                }
            }
            Ok(())
        })?;
    }
}
