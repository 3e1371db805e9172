//! The endpoint as its users meet it: over a real connection.

mod access;
mod hostile;
mod ingest;
mod metrics;
mod tls;

use std::sync::Mutex;

use async_trait::async_trait;
use kappa_actors::dead_letter_table::{self, Stage};
use kappa_actors::fault_class::FaultClass;
use kappa_actors::message::{Lease, NewMessage};
use kappa_actors::port::{
    Backlog, LogError, PublishError, Pulled, Refusal, RefusalKind, Room, Sought,
};
use kappa_actors::time::Timestamp;
use kappa_actors::vitals::{ActorState, Phase, Snapshot};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;

/// The log's answer to a message.
#[derive(Clone, Copy)]
enum Answer {
    Takes,
    /// Takes this many, then is full.
    FullAfter(usize),
    Unavailable,
    /// Refuses what begins with `!`.
    RefusesBangs,
}

/// A log that only takes events in.
struct Inbox {
    answer: Answer,
    taken: Mutex<Vec<NewMessage>>,
    /// Messages in the log; none while it does not answer.
    backlog: Mutex<Option<u64>>,
}

impl Inbox {
    fn new(answer: Answer) -> Self {
        Self { answer, taken: Mutex::default(), backlog: Mutex::new(Some(0)) }
    }
}

#[async_trait]
impl EventLog for Inbox {
    async fn pull(&self, _: Room, _: Duration) -> Result<Pulled, LogError> {
        Ok(Pulled::End)
    }
    async fn acknowledge(&self, _: &[Lease]) -> Result<(), LogError> {
        Ok(())
    }
    async fn give_back(&self, _: &[Lease]) -> Result<(), LogError> {
        Ok(())
    }
    async fn seek(&self, _: Timestamp) -> Result<Sought, LogError> {
        Ok(Sought { messages: None })
    }
    async fn backlog(&self) -> Result<Backlog, LogError> {
        let messages = *self.backlog.lock().unwrap();
        match messages {
            Some(_) => Ok(Backlog { messages, oldest: None }),
            None => std::future::pending().await,
        }
    }
    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        let mut taken = self.taken.lock().unwrap();
        let one = |message: NewMessage| match self.answer {
            Answer::FullAfter(n) if taken.len() >= n => Err(PublishError::Full("10 MB".into())),
            Answer::Unavailable => Err(PublishError::Unavailable("locked".into())),
            Answer::RefusesBangs if message.payload.starts_with(b"!") => {
                Err(PublishError::Refused("no bangs".into()))
            }
            _ => {
                taken.push(message);
                Ok(taken.len().to_string())
            }
        };
        messages.into_iter().map(one).collect()
    }
}

/// A served endpoint on a free port, ended when dropped.
struct Served {
    url: String,
    board: Arc<Board>,
    inbox: Arc<Inbox>,
    stop: Option<oneshot::Sender<()>>,
    serving: tokio::task::JoinHandle<io::Result<()>>,
}

fn options() -> StatusOptions {
    StatusOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        token: None,
        senders: BTreeMap::new(),
        tls: None,
        ingest: true,
        max_event_bytes: 100,
        faults: true,
    }
}

async fn served(options: StatusOptions, answer: Answer) -> Served {
    let board = Board::new();
    board.set_phase(Phase::Running);
    let inbox = Arc::new(Inbox::new(answer));
    let log = Arc::clone(&inbox) as Arc<dyn EventLog>;
    let server = StatusServer::bind(options, Arc::clone(&board), log).await.unwrap();
    let url = format!("http://127.0.0.1:{}", server.address().port());
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(server.serve(async {
        let _ = stopped.await;
    }));
    Served { url, board, inbox, stop: Some(stop), serving }
}

/// An answer: status, `retry-after`, body.
type Answered = (u16, Option<String>, String);

impl Served {
    async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answered {
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let call = move || {
            let config =
                ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build();
            let mut answer = config.new_agent().run(request).unwrap();
            let retry = answer.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
            let body = answer.body_mut().read_to_string().unwrap();
            (answer.status().as_u16(), retry, body)
        };
        tokio::task::spawn_blocking(call).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.call("GET", path, &[], "").await;
        (status, body)
    }

    async fn snapshot(&self) -> Snapshot {
        serde_json::from_str(&self.get("/status").await.1).unwrap()
    }

    async fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> (u16, Option<String>, Value) {
        let (status, retry, body) = self.call("POST", path, &[], body).await;
        (status, retry, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.url.strip_prefix("http://").unwrap()).await.unwrap()
    }

    fn taken(&self) -> Vec<String> {
        let taken = self.inbox.taken.lock().unwrap();
        taken.iter().map(|one| String::from_utf8_lossy(&one.payload).into_owned()).collect()
    }
}

/// All that the server sends until it closes the connection.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is cut may end with a reset.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn status_shows_the_board() {
    let served = served(options(), Answer::Takes).await;
    served.board.actor("kappa/intake/reader", "reader").handled(3);
    let (status, body) = served.get("/status").await;
    assert_eq!(status, 200);
    let snapshot: Snapshot = serde_json::from_str(&body).unwrap();
    assert_eq!(snapshot.actors[0].events, 3);
    assert_eq!(snapshot.warnings.len(), 1, "fault injection is warned of");
    let raw: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(raw["state"], "running");
    assert_eq!(raw["actors"][0]["path"], "kappa/intake/reader");
}

#[tokio::test]
async fn readiness_follows_the_state_and_gives_the_reason() {
    let served = served(options(), Answer::Takes).await;
    assert_eq!(served.get("/readyz").await, (200, "ready\n".into()));

    let writer = served.board.actor("kappa/warehouse/writer.orders", "writer");
    writer.trouble("permission revoked", 12);
    let (status, text) = served.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(text.starts_with("degraded\nkappa/warehouse/writer.orders: permission revoked"));
    assert_eq!(served.get("/livez").await.0, 200, "degraded is alive");

    writer.recovered();
    assert_eq!(served.get("/readyz").await.0, 200);
    for (phase, word) in [(Phase::Starting, "starting\n"), (Phase::Draining, "draining\n")] {
        served.board.set_phase(phase);
        assert_eq!(served.get("/readyz").await, (503, word.into()));
    }
}

#[tokio::test]
async fn the_page_is_whole_in_itself() {
    let served = served(options(), Answer::Takes).await;
    let (status, page) = served.get("/").await;
    assert_eq!(status, 200);
    assert!(page.starts_with("<!doctype html>"));
    for outside in ["src=", "href=", "http://", "https://", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[tokio::test]
async fn a_disabled_route_explains_how_to_enable_it() {
    let off = StatusOptions { ingest: false, faults: false, ..options() };
    let served = served(off, Answer::Takes).await;
    served.board.actor("kappa", "root");
    for (path, key) in [("/v1/events", "status.ingest"), ("/faults/kill?actor=kappa", "faults.")] {
        let (status, _, answer) = served.post(path, "a").await;
        assert_eq!(status, 403);
        assert!(answer["error"].as_str().unwrap().contains(key), "{answer}");
    }
    assert!(!served.board.find("kappa").unwrap().take_kill());
    assert_eq!(served.board.snapshot().warnings.len(), 0);
}

#[tokio::test]
async fn a_kill_reaches_its_actor_alone() {
    let served = served(options(), Answer::Takes).await;
    let router = served.board.actor("kappa/intake/router", "router");
    let reader = served.board.actor("kappa/intake/reader", "reader");
    let (status, _, _) = served.post("/faults/kill?actor=kappa/intake/router", "").await;
    assert_eq!(status, 202);
    assert!(router.take_kill() && !reader.take_kill());

    let (status, _, answer) = served.post("/faults/kill?actor=kappa/intake/rooter", "").await;
    assert_eq!(status, 404);
    let known = "no actor kappa/intake/rooter; there are: kappa/intake/reader, kappa/intake/router";
    assert_eq!(answer["error"], known);
    let (status, _, answer) = served.post("/faults/kill", "").await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("/faults/kill?actor=PATH"), "{answer}");
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_refused() {
    let served = served(options(), Answer::Takes).await;
    assert_eq!(served.get("/nothing").await.0, 404);
    assert_eq!(served.get("/v1/events").await.0, 405);
    assert_eq!(served.call("POST", "/status", &[], "").await.0, 405);
}

#[tokio::test]
async fn a_port_in_use_is_named_with_a_way_out() {
    let first = served(options(), Answer::Takes).await;
    let taken = first.url.strip_prefix("http://").unwrap().parse().unwrap();
    let second = StatusOptions { listen: taken, ..options() };
    let log = Arc::clone(&first.inbox) as Arc<dyn EventLog>;
    let error = StatusServer::bind(second, Board::new(), log).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("status.listen: {taken} is in use\nhint: ")), "{error}");
}

#[tokio::test]
async fn a_shutdown_ends_the_endpoint_though_a_connection_stays_open() {
    let mut served = served(options(), Answer::Takes).await;
    assert_eq!(served.get("/livez").await.0, 200);
    let address = served.url.strip_prefix("http://").unwrap().to_owned();
    let idle = tokio::net::TcpStream::connect(&address).await.unwrap();
    served.stop.take().unwrap().send(()).unwrap();
    (&mut served.serving).await.unwrap().unwrap();
    drop(idle);
}

#[tokio::test]
async fn the_client_shows_a_running_daemon() {
    let served = served(options(), Answer::Takes).await;
    served.board.counters().received.add(12);
    let url = served.url.clone();
    let shown = tokio::task::spawn_blocking(move || {
        let options = client::ShowOptions {
            url,
            ca: None,
            token: None,
            watch: false,
            format: client::Format::Plain,
        };
        let mut out = Vec::new();
        client::show(&options, &mut out).map(|()| String::from_utf8(out).unwrap())
    });
    let text = shown.await.unwrap().unwrap();
    assert!(text.starts_with("state running\n") && text.contains("\nreceived 12\n"), "{text}");
}

/// A pipe whose reader leaves after the second look.
struct Leaving {
    looks: usize,
}

impl io::Write for Leaving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.looks += 1;
        if self.looks < 2 { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}

#[tokio::test]
async fn a_watch_looks_again_and_ends_when_its_reader_is_gone() {
    let served = served(options(), Answer::Takes).await;
    let url = served.url.clone();
    let watched = tokio::task::spawn_blocking(move || {
        let options = client::ShowOptions {
            url,
            ca: None,
            token: None,
            watch: true,
            format: client::Format::Json,
        };
        let mut out = Leaving { looks: 0 };
        client::show(&options, &mut out).map(|()| out.looks)
    });
    assert_eq!(watched.await.unwrap().unwrap(), 2);
}
