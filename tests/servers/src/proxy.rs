//! A TCP proxy that spoils the connections of one server: cut, held back, slow.
//!
//! - It knows no protocol: a cut can be at any byte.
//! - A cut passes on the bytes before it and closes both sides; if the other direction has unread bytes, the system makes
//!   a reset of it, as for real connections.
//! - A held connection takes the client's bytes and gives no answer and no error. A frozen one does so without end; only
//!   open connections can be frozen.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::grpc::listen;

/// Bytes that are passed on at a time.
const CHUNK: usize = 16 * 1024;

/// Which way bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Answers,
}

/// What all connections meet from now on.
#[derive(Clone, Debug, Default)]
struct Weather {
    held: [bool; 2],
    delay: Duration,
    cuts: u64,
    /// How many connections, the first, are frozen.
    frozen: usize,
}

/// The faults ordered for single connections, and their results.
#[derive(Debug, Default)]
struct Orders {
    /// The bytes, by direction, after which the connection that carries the next one is cut.
    cut_after: [Option<usize>; 2],
    /// Draws how many bytes each new connection carries before it is cut, this many on average.
    random: Option<(StdRng, usize)>,
    opened: usize,
    cut: usize,
}

/// One connection.
struct Carried {
    number: usize,
    /// Bytes that it still carries before it is cut, if it is.
    budget: Mutex<Option<usize>>,
}

#[derive(Clone, Debug)]
struct Shared {
    orders: Arc<Mutex<Orders>>,
    weather: watch::Sender<Weather>,
}

/// The way to one server, on a free port of the loopback; it ends when dropped, with all its
/// connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Shared,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Opens the way to a server at `endpoint`, `http://host:port`.
    ///
    /// # Errors
    /// No free port.
    pub async fn start(endpoint: &str) -> io::Result<Self> {
        let (listener, address) = listen().await?;
        let server = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let shared = Shared { orders: Arc::default(), weather: watch::Sender::default() };
        let passing = shared.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(passing.clone().pass(client, server.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, shared, task })
    }

    /// Where the server is reached through it: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts one connection: the one that carries the byte behind the next `bytes`, counted over
    /// all connections from now on.
    pub fn cut_after(&self, direction: Direction, bytes: usize) {
        self.shared.orders().cut_after[direction as usize] = Some(bytes);
    }

    /// Cuts every new connection after a number of bytes, both ways together, that is drawn
    /// around `bytes`; `None` ends it.
    pub fn cut_at_random(&self, seed: u64, bytes: Option<usize>) {
        self.shared.orders().random = bytes.map(|mean| (StdRng::seed_from_u64(seed), mean));
    }

    /// Cuts all connections that are open.
    pub fn cut_all(&self) {
        self.shared.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Stops one direction, or releases its waiting bytes.
    pub fn hold(&self, direction: Direction, hold: bool) {
        self.shared.weather.send_modify(|weather| weather.held[direction as usize] = hold);
    }

    /// Lets nothing through any more on the connections that are open, and leaves them open.
    pub fn freeze_open(&self) {
        let opened = self.opened();
        self.shared.weather.send_modify(|weather| weather.frozen = opened);
    }

    /// Passes on each 16 KiB this much later, and the next only behind them.
    pub fn delay(&self, by: Duration) {
        self.shared.weather.send_modify(|weather| weather.delay = by);
    }

    /// How many connections were made.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.shared.orders().opened
    }

    /// How many connections were cut, those by [`Self::cut_all`] left out.
    #[must_use]
    pub fn cut(&self) -> usize {
        self.shared.orders().cut
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(self, client: TcpStream, server: String) {
        let mut weather = self.weather.subscribe();
        let before = weather.borrow().cuts;
        let (number, budget) = self.orders().admit();
        let carried = Carried { number, budget: Mutex::new(budget) };
        let Ok(server) = TcpStream::connect(server).await else { return };
        // Or the proxy itself would be slow.
        if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
            return;
        }
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        let requests = self.pump(Direction::Requests, from_client, to_server, &carried);
        let answers = self.pump(Direction::Answers, from_server, to_client, &carried);
        tokio::select! {
            // The first to end with an error takes the other with it, and both sockets.
            _ = futures::future::try_join(requests, answers) => {}
            _ = weather.wait_for(|weather| weather.cuts != before) => {}
        }
    }

    /// Passes bytes on until the end of the one side is the end of the other.
    async fn pump(
        &self,
        direction: Direction,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        carried: &Carried,
    ) -> io::Result<()> {
        let mut weather = self.weather.subscribe();
        let mut bytes = vec![0; CHUNK];
        loop {
            let count = from.read(&mut bytes).await?;
            let delay = weather.borrow().delay;
            // Even a sleep of no time takes a millisecond.
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            // The sender lives as long as `self`.
            let held = |at: &Weather| at.held[direction as usize] || carried.number < at.frozen;
            let _ = weather.wait_for(|weather| !held(weather)).await;
            if count == 0 {
                return to.shutdown().await;
            }
            let passed = self.orders().spend(direction, count, carried);
            to.write_all(&bytes[..passed]).await?;
            if passed < count {
                self.orders().cut += 1;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
}

impl Orders {
    /// Counts a connection in: its number, and how many bytes it carries before it is cut, if it
    /// is.
    fn admit(&mut self) -> (usize, Option<usize>) {
        self.opened += 1;
        let drawn = self.random.as_mut().map(|(random, mean)| random.random_range(1..*mean * 2));
        (self.opened - 1, drawn)
    }

    /// How many of `count` bytes still go through.
    fn spend(&mut self, direction: Direction, count: usize, carried: &Carried) -> usize {
        let mut budget = carried.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let ordered = &mut self.cut_after[direction as usize];
        let left = [*ordered, *budget].into_iter().flatten().min();
        let passed = left.unwrap_or(count).min(count);
        match ordered {
            Some(left) if *left < count => *ordered = None,
            Some(left) => *left -= count,
            None => {}
        }
        if let Some(left) = &mut *budget {
            *left -= passed.min(*left);
        }
        passed
    }
}
