//! Tokens, senders and hosts.

use tokio::io::AsyncWriteExt as _;

use super::*;

const HIS: (&str, &str) = ("authorization", "Bearer secret");
const EVENT: &str = "{\"a\":1}";

fn with_token(listen: &str) -> StatusOptions {
    let listen = listen.parse().unwrap();
    StatusOptions { listen, token: Some(Token("secret".into())), ..options() }
}

fn with_sender(rate: Option<u64>) -> StatusOptions {
    let shop = SenderSettings { token: Token("shop-token".into()), rate };
    let senders = BTreeMap::from([("shop".to_owned(), shop)]);
    StatusOptions { senders, ..with_token("127.0.0.1:0") }
}

#[tokio::test]
async fn a_token_is_asked_for_on_every_path_but_those_of_probes() {
    for listen in ["0.0.0.0:0", "127.0.0.1:0"] {
        let served = served(with_token(listen), Answer::Takes).await;
        served.board.actor("kappa", "root");
        for (method, path) in [
            ("GET", "/status"),
            ("GET", "/metrics"),
            ("GET", "/nothing"),
            ("POST", "/v1/events"),
            ("POST", "/faults/kill?actor=kappa"),
        ] {
            assert_eq!(served.call(method, path, &[], EVENT).await.0, 401, "{listen} {path}");
            let wrong = [("authorization", "Bearer guess")];
            assert_eq!(served.call(method, path, &wrong, EVENT).await.0, 401, "{listen} {path}");
            let right = served.call(method, path, &[HIS], EVENT).await.0;
            assert!(right < 300 || path == "/nothing" && right == 404, "{listen} {path}: {right}");
        }
        assert_eq!(served.taken(), [EVENT]);
        for path in ["/", "/livez", "/readyz"] {
            assert_eq!(served.get(path).await.0, 200, "{listen} {path}");
        }
    }
}

#[tokio::test]
async fn a_probe_without_the_token_gets_no_reasons() {
    let served = served(with_token("127.0.0.1:0"), Answer::Takes).await;
    let writer = served.board.actor("kappa/warehouse/writer.orders", "writer");
    writer.trouble("permission revoked", 12);
    assert_eq!(served.get("/readyz").await, (503, "degraded\n".into()));
    let (status, _, text) = served.call("GET", "/readyz", &[HIS], "").await;
    assert_eq!(status, 503);
    assert!(text.contains("permission revoked"), "{text}");
}

#[tokio::test]
async fn a_senders_events_name_it_and_its_token_does_nothing_else() {
    let served = served(with_sender(None), Answer::Takes).await;
    let shop = [("authorization", "Bearer shop-token")];
    assert_eq!(served.call("POST", "/v1/events", &shop, EVENT).await.0, 200);
    assert_eq!(served.call("POST", "/v1/events", &[HIS], EVENT).await.0, 200);
    for (method, path) in [("GET", "/status"), ("POST", "/faults/kill?actor=kappa")] {
        assert_eq!(served.call(method, path, &shop, "").await.0, 403, "{path}");
    }
    let taken = served.inbox.taken.lock().unwrap();
    let senders: Vec<_> = taken.iter().map(|one| one.attributes.get("sender")).collect();
    assert_eq!(senders, [Some(&"shop".to_owned()), None]);
}

#[tokio::test]
async fn a_sender_above_its_rate_is_asked_to_wait() {
    let served = served(with_sender(Some(10)), Answer::Takes).await;
    let shop = [("authorization", "Bearer shop-token")];
    let hundred = format!("{EVENT}\n").repeat(100);
    assert_eq!(served.call("POST", "/v1/events", &shop, hundred).await.0, 200);
    let (status, retry, answer) = served.call("POST", "/v1/events", &shop, EVENT).await;
    assert_eq!(status, 429, "{answer}");
    let retry: u64 = retry.unwrap().parse().unwrap();
    assert!((5..=11).contains(&retry), "90 too many at 10 a second: {retry}");
    assert_eq!(served.taken().len(), 100);
    assert_eq!(served.call("POST", "/v1/events", &[HIS], EVENT).await.0, 200, "others may");
}

#[tokio::test]
async fn a_local_address_serves_no_other_web_page() {
    let served = served(options(), Answer::Takes).await;
    for header in [("host", "evil.example"), ("origin", "https://evil.example")] {
        assert_eq!(served.call("POST", "/v1/events", &[header], EVENT).await.0, 403);
    }
    let own = [("origin", served.url.as_str())];
    assert_eq!(served.call("POST", "/v1/events", &own, EVENT).await.0, 200);
    assert_eq!(served.taken(), [EVENT]);
}

#[tokio::test]
async fn a_local_address_is_not_read_by_a_foreign_name() {
    let served = served(options(), Answer::Takes).await;
    for path in ["/status", "/metrics"] {
        assert_eq!(served.call("GET", path, &[("host", "evil.example")], "").await.0, 403);
        assert_eq!(served.get(path).await.0, 200);
    }
    served.board.actor("kappa", "root").trouble("secret table", 1);
    let (status, _, text) = served.call("GET", "/readyz", &[("host", "evil.example")], "").await;
    assert_eq!((status, text.as_str()), (503, "degraded\n"));
}

#[tokio::test]
async fn a_request_that_proxies_may_understand_in_another_way_is_refused() {
    let served = served(options(), Answer::Takes).await;
    for head in [
        "GET /status HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n",
        "GET /livez HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n",
        "GET http://localhost/status HTTP/1.1\r\nhost: localhost\r\n",
        "GET /status HTTP/1.1\r\n",
        "GET /status HTTP/1.1\r\nhost: localhost\r\nauthorization: a\r\nauthorization: b\r\n",
        "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n",
    ] {
        let mut stream = served.connect().await;
        let request = format!("{head}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{head}: {answer}");
    }
}

#[tokio::test]
async fn an_open_address_is_not_served_without_a_token() {
    let open = StatusOptions { listen: "0.0.0.0:0".parse().unwrap(), ..options() };
    let inbox = Arc::new(Inbox::new(Answer::Takes));
    let error = StatusServer::bind(open, Board::new(), inbox).await.unwrap_err().to_string();
    assert!(error.contains("status.token is empty\nhint: "), "{error}");
}

#[tokio::test]
async fn the_client_brings_the_token() {
    let served = served(with_token("127.0.0.1:0"), Answer::Takes).await;
    let show = |token| {
        let options = client::ShowOptions {
            url: served.url.clone(),
            ca: None,
            token,
            watch: false,
            format: client::Format::Plain,
        };
        tokio::task::spawn_blocking(move || client::show(&options, &mut Vec::new()))
    };
    show(Some(Token("secret".into()))).await.unwrap().unwrap();
    let error = show(None).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("wants its token\nhint: "), "{error}");
    let error = show(Some(Token("guess-guess".into()))).await.unwrap().unwrap_err().to_string();
    assert!(!error.contains("guess"), "{error}");
}

#[test]
fn options_never_show_a_token() {
    let shown = format!("{:?}", with_sender(None));
    assert!(!shown.contains("secret") && !shown.contains("shop-token"), "{shown}");
}
