//! Through a forward proxy.

use tokio::sync::mpsc;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A proxy that answers every request with `answer`, tells what it was asked, and is a tunnel after `200`.
async fn proxy(answer: &'static str) -> (Endpoint, mpsc::UnboundedReceiver<String>) {
    let (seen, asked) = mpsc::unbounded_channel();
    let endpoint = Endpoint::start(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                let target =
                    request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).map(str::to_owned);
                seen.send(request).unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                if let Some(target) = target
                    && answer.contains(" 200 ")
                {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
                    return;
                }
            }
        }
    })
    .await;
    (endpoint, asked)
}

fn through(proxy: &Endpoint, answers: &[(&'static str, &[&[&str]])]) -> Client {
    let url = format!("http://user:p%40ss@{}", proxy.address).parse().unwrap();
    let proxy = Some(Proxy::from_url(&url).unwrap());
    Client::new(Arc::new(Settings { proxy, ..settings(local(), Scripted::new(answers)) }))
}

#[tokio::test]
async fn plain_http_goes_to_the_proxy_with_the_whole_url_and_is_vetted_each_time() {
    let (proxy, mut asked) = proxy(OK).await;
    let client = through(&proxy, &[("hooks.example", &[&["127.0.0.1"], &["127.0.0.1", "10.0.0.1"]])]);
    let sent = client.send(request("http://hooks.example:8080/hook?a=b")).await;
    assert_eq!((sent.error, sent.remote_address), (None, None));
    let got = asked.recv().await.unwrap();
    assert!(got.starts_with("POST http://hooks.example:8080/hook?a=b HTTP/1.1\r\n"), "{got}");
    assert!(got.contains("host: hooks.example:8080\r\n"), "{got}");
    assert!(got.contains("proxy-authorization: Basic dXNlcjpwQHNz\r\n"), "{got}");
    let sent = client.send(request("http://hooks.example:8080/hook")).await;
    assert_eq!(class(&sent), Some(ErrorClass::RefusedByPolicy), "one refused address refuses the name");
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn https_asks_the_proxy_for_the_vetted_address() {
    let (proxy, mut asked) = proxy("HTTP/1.1 200 Connected\r\n\r\n").await;
    // Not TLS: enough to see that the tunnel reaches it.
    let endpoint = Endpoint::start(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    })
    .await;
    let client = through(&proxy, &[("hooks.example", &[&["10.0.0.1", "127.0.0.1"]])]);
    let sent = client.send(request(&format!("https://hooks.example:{}/", endpoint.address.port()))).await;
    assert_eq!(detail(&sent), "the endpoint does not speak TLS on this port");
    let got = asked.recv().await.unwrap();
    let target = endpoint.address;
    assert_eq!(
        got,
        format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nproxy-authorization: Basic dXNlcjpwQHNz\r\n\r\n")
    );
}

#[tokio::test]
async fn the_proxy_never_hears_of_a_refused_target() {
    let (proxy, _asked) = proxy(OK).await;
    let client = through(&proxy, &[("rebound.example", &[&["10.0.0.1"]])]);
    for url in ["https://10.0.0.1/", "http://169.254.169.254/", "https://rebound.example/", "http://rebound.example/"] {
        assert_eq!(class(&client.send(request(url)).await), Some(ErrorClass::RefusedByPolicy), "{url}");
    }
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test]
async fn a_proxy_that_declines_is_a_connect_failure_without_its_address() {
    for (answer, text) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the egress proxy answered 407"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "the egress proxy gave no valid answer"),
    ] {
        let (proxy, _asked) = proxy(answer).await;
        let sent = through(&proxy, &[]).send(request("https://127.0.0.1/")).await;
        assert_eq!((class(&sent), detail(&sent)), (Some(ErrorClass::Connect), text));
    }
}

#[test]
fn a_proxy_url_of_another_form_is_refused_without_repeating_it() {
    for url in ["https://user:secret@proxy:3128", "http://user:secret@proxy:3128/path", "socks5://user:secret@proxy"] {
        let error = Proxy::from_url(&url.parse().unwrap()).unwrap_err();
        assert!(!format!("{error:#}").contains("secret"));
    }
    let proxy = Proxy::from_url(&"http://user:secret@proxy:3128".parse().unwrap()).unwrap();
    assert!(!format!("{proxy:?}").contains("secret"));
}
