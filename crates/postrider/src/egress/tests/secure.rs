//! TLS and HTTP/2.

use std::convert::Infallible;

use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use postrider_core::limits::RESPONSE_SNIPPET_BYTES_MAX;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;

type Reply = http::Response<BoxBody<Bytes, Infallible>>;

/// A certificate authority of a test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server that presents a certificate for `name`, as `change`d, and speaks `protocols`.
    fn server(&self, name: &str, protocols: &[&str], change: impl FnOnce(&mut CertificateParams)) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A client that trusts this authority, read from a PEM file as an operator would give it.
    fn client(&self) -> Client {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, self.0.pem()).unwrap();
        let tls = Arc::new(client_config(&[file]).unwrap());
        let resolver = Scripted::new(&[("hooks.example", &[&["127.0.0.1"]])]);
        Client::new(Arc::new(Settings::new(local(), resolver, tls)))
    }
}

/// An endpoint that serves `answer` behind `acceptor`, over the protocol agreed on.
async fn serving<F, Fut>(acceptor: TlsAcceptor, streams_max: u32, answer: F) -> Endpoint
where
    F: Fn(http::Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    Endpoint::start(move |stream, _| {
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(move |request| {
                let reply = answer(request);
                async move { Ok::<_, Infallible>(reply.await) }
            });
            let io = TokioIo::new(stream);
            let _ = match h2 {
                true => {
                    let mut server = http2::Builder::new(TokioExecutor::new());
                    server.max_concurrent_streams(streams_max).serve_connection(io, service).await
                }
                false => http1::Builder::new().serve_connection(io, service).await,
            };
        }
    })
    .await
}

fn reply(status: u16, body: &'static str) -> Reply {
    http::Response::builder().status(status).body(Full::new(Bytes::from_static(body.as_bytes())).boxed()).unwrap()
}

async fn echo_version(request: http::Request<Incoming>) -> Reply {
    let version = if request.version() == http::Version::HTTP_2 { "h2" } else { "http/1.1" };
    request.into_body().collect().await.unwrap();
    reply(200, version)
}

fn url(endpoint: &Endpoint) -> String {
    format!("https://hooks.example:{}/post", endpoint.address.port())
}

#[tokio::test]
async fn the_protocol_is_what_both_sides_offer_and_the_connection_is_kept() {
    let authority = Authority::new("one");
    for (protocols, expected) in
        [(&["http/1.1"][..], "http/1.1"), (&["h2", "http/1.1"], "h2"), (&["h2"], "h2"), (&[], "http/1.1")]
    {
        let endpoint = serving(authority.server("hooks.example", protocols, |_| {}), 100, echo_version).await;
        let client = authority.client();
        for _ in 0..3 {
            let sent = client.send(request(&url(&endpoint))).await;
            assert_eq!(sent.error, None);
            assert_eq!(sent.response.unwrap().body, expected);
            assert_eq!(sent.remote_address, Some("127.0.0.1".parse().unwrap()));
        }
        assert_eq!(endpoint.connections(), 1, "{protocols:?}");
    }
}

#[tokio::test]
async fn concurrent_requests_share_one_http2_connection_within_its_stream_limit() {
    let authority = Authority::new("one");
    let at_once = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let seen = Arc::clone(&at_once);
    let answer = move |request| {
        let seen = Arc::clone(&seen);
        async move {
            let now = seen.0.fetch_add(1, Ordering::SeqCst) + 1;
            seen.1.fetch_max(now, Ordering::SeqCst);
            let reply = echo_version(request).await;
            tokio::task::yield_now().await;
            seen.0.fetch_sub(1, Ordering::SeqCst);
            reply
        }
    };
    let endpoint = serving(authority.server("hooks.example", &["h2"], |_| {}), 4, answer).await;
    let client = authority.client();
    let sent = futures_util::future::join_all((0..40).map(|_| client.send(request(&url(&endpoint))))).await;
    assert!(sent.iter().all(|sent| sent.error.is_none()), "{:?}", sent.iter().find(|sent| sent.error.is_some()));
    assert_eq!(endpoint.connections(), 1);
    assert!((2..=4).contains(&at_once.1.load(Ordering::SeqCst)), "{}", at_once.1.load(Ordering::SeqCst));
}

#[tokio::test]
async fn certificates_that_must_not_be_trusted_are_told_apart() {
    let authority = Authority::new("one");
    let stranger = Authority::new("other");
    let expired = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    };
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(2999, 1, 1);
    let cases = [
        (authority.server("hooks.example", &[], expired), "the certificate has expired"),
        (authority.server("hooks.example", &[], early), "the certificate is not valid yet"),
        (authority.server("other.example", &[], |_| {}), "the certificate is not valid for hooks.example"),
        (stranger.server("hooks.example", &[], |_| {}), "the certificate's issuer is not trusted"),
    ];
    for (server, text) in cases {
        let endpoint = serving(server, 1, echo_version).await;
        let sent = authority.client().send(request(&url(&endpoint))).await;
        assert_eq!((class(&sent), detail(&sent)), (Some(ErrorClass::Tls), text));
        assert_eq!(sent.response, None);
    }
}

#[tokio::test]
async fn an_endpoint_without_tls_behind_an_https_url_is_a_tls_failure() {
    let endpoint = Endpoint::start(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    })
    .await;
    let sent = Authority::new("one").client().send(request(&url(&endpoint))).await;
    assert_eq!(class(&sent), Some(ErrorClass::Tls));
    assert_eq!(detail(&sent), "the endpoint does not speak TLS on this port");
    let closing = Endpoint::start(|stream, _| async move { drop(stream) }).await;
    let sent = Authority::new("one").client().send(request(&url(&closing))).await;
    assert_eq!(class(&sent), Some(ErrorClass::Tls));
}

#[tokio::test]
async fn sessions_are_resumed() {
    let authority = Authority::new("one");
    let acceptor = authority.server("hooks.example", &["http/1.1"], |_| {});
    let (seen, mut kinds) = tokio::sync::mpsc::unbounded_channel();
    let endpoint = Endpoint::start(move |stream, _| {
        let (acceptor, seen) = (acceptor.clone(), seen.clone());
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            read_request(&mut stream).await;
            seen.send(stream.get_ref().1.handshake_kind().unwrap()).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
        }
    })
    .await;
    let client = authority.client();
    for expected in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        assert_eq!(client.send(request(&url(&endpoint))).await.error, None);
        assert_eq!(kinds.recv().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn over_http2_too_replies_are_bounded() {
    let authority = Authority::new("one");
    let answer = |request: http::Request<Incoming>| async move {
        let mut reply = http::Response::builder();
        match request.uri().path() {
            "/headers" => {
                for n in 0..200 {
                    reply = reply.header(format!("x-{n}"), "v");
                }
            }
            "/head" => {
                for n in 0..80 {
                    reply = reply.header(format!("x-{n}"), "v".repeat(1000));
                }
            }
            "/flood" => {
                for n in 0..10_000 {
                    reply = reply.header(format!("x-{n}"), "v".repeat(100));
                }
            }
            _ => {
                let endless = futures_util::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 16384]))));
                return reply.body(StreamBody::new(endless).boxed()).unwrap();
            }
        }
        reply.body(Empty::new().boxed()).unwrap()
    };
    let endpoint = serving(authority.server("hooks.example", &["h2"], |_| {}), 100, answer).await;
    let client = authority.client();
    for path in ["headers", "head", "flood"] {
        let sent = client.send(request(&url(&endpoint).replace("/post", &format!("/{path}")))).await;
        assert_eq!((class(&sent), status(&sent)), (Some(ErrorClass::TooLarge), None), "{path}: {}", detail(&sent));
    }
    let sent = client.send(request(&url(&endpoint))).await;
    assert_eq!(sent.error, None);
    assert_eq!(sent.response.unwrap().body.len(), RESPONSE_SNIPPET_BYTES_MAX);
    assert_eq!(endpoint.connections(), 2, "only the flood costs the connection");
}

#[tokio::test]
async fn a_silent_http2_connection_is_not_shared_any_longer() {
    let authority = Authority::new("one");
    let first = Arc::new(AtomicUsize::new(0));
    let answer = move |request| {
        let number = first.fetch_add(1, Ordering::SeqCst);
        async move {
            if number == 1 {
                std::future::pending::<()>().await;
            }
            echo_version(request).await
        }
    };
    let endpoint = serving(authority.server("hooks.example", &["h2"], |_| {}), 100, answer).await;
    let client = authority.client();
    assert_eq!(client.send(request(&url(&endpoint))).await.error, None);
    let hurried = Request { timeout: Duration::from_millis(100), ..request(&url(&endpoint)) };
    assert_eq!(class(&client.send(hurried).await), Some(ErrorClass::Timeout));
    assert_eq!(client.send(request(&url(&endpoint))).await.error, None);
    assert_eq!(endpoint.connections(), 2);
}

#[tokio::test]
async fn an_http2_connection_that_says_goodbye_is_replaced() {
    let authority = Authority::new("one");
    let acceptor = authority.server("hooks.example", &["h2"], |_| {});
    let endpoint = Endpoint::start(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let goodbye = Arc::new(tokio::sync::Notify::new());
            let said = Arc::clone(&goodbye);
            let service = service_fn(move |request| {
                let said = Arc::clone(&said);
                async move {
                    said.notify_one();
                    Ok::<_, Infallible>(echo_version(request).await)
                }
            });
            let io = TokioIo::new(acceptor.accept(stream).await.unwrap());
            let mut serving = std::pin::pin!(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
            tokio::select! {
                _ = serving.as_mut() => return,
                () = goodbye.notified() => serving.as_mut().graceful_shutdown(),
            }
            let _ = serving.await;
        }
    })
    .await;
    let client = authority.client();
    for _ in 0..5 {
        assert_eq!(client.send(request(&url(&endpoint))).await.error, None);
    }
    assert!(endpoint.connections() > 1, "the server said goodbye after the first request");
}

#[tokio::test]
async fn when_the_first_handshake_fails_those_who_waited_do_not_queue() {
    let authority = Authority::new("one");
    let acceptor = authority.server("hooks.example", &["http/1.1"], |_| {});
    // The first connection is dropped; the others are all open before any of them is served.
    let barrier = Arc::new(tokio::sync::Barrier::new(7));
    let endpoint = Endpoint::start(move |stream, number| {
        let (acceptor, barrier) = (acceptor.clone(), Arc::clone(&barrier));
        async move {
            if number == 0 {
                return;
            }
            barrier.wait().await;
            let mut stream = acceptor.accept(stream).await.unwrap();
            while read_request(&mut stream).await.is_some() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        }
    })
    .await;
    let client = authority.client();
    let sent = futures_util::future::join_all((0..8).map(|_| client.send(request(&url(&endpoint))))).await;
    assert_eq!(sent.iter().filter(|sent| class(sent) == Some(ErrorClass::Tls)).count(), 1);
    assert_eq!(sent.iter().filter(|sent| sent.error.is_none()).count(), 7);
}
