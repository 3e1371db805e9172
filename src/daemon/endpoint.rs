//! Serves status, health, metrics and ingest.
//!
//! Receives only its own reminder to look after the server. Owns the listening socket. If it
//! crashes, connections are cut, and its next life listens at the same address.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kappa_actors::pipeline::OtherGroups;
use kappa_actors::port::{EventLog, watched_log};
use kappa_actors::supervision::{Address, Me, Role, RoleError, group, worker};
use kappa_actors::vitals::Board;
use tokio::task::JoinHandle;

use crate::settings::Settings;
use crate::status::{BindError, StatusOptions, StatusServer};

/// How often the actor looks after the server.
const LOOK: Duration = Duration::from_secs(1);

/// Binds the endpoint; where that is, and the branch of the tree that serves it.
pub(crate) async fn status_branch(
    settings: &Settings,
    options: StatusOptions,
    board: &Arc<Board>,
    log: &Arc<dyn EventLog>,
) -> Result<(SocketAddr, OtherGroups), BindError> {
    let log = &watched_log(log, &board.calls("event log (publish)"));
    let server = StatusServer::bind(options.clone(), Arc::clone(board), Arc::clone(log)).await?;
    let address = server.address();
    let options = StatusOptions { listen: address, ..options };
    let endpoint = Endpoint::new(server, options, board, log);
    let policy = settings.actors.supervisor.restart.clone();
    let supervisor = Address::new(board.actor("kappa/status", "supervisor"));
    let http = Address::new(board.actor("kappa/status/http", "status"));
    let branch = move || {
        let (http, endpoint, inner) = (http.clone(), endpoint.clone(), policy.clone());
        vec![group(&supervisor, &policy, move || {
            let endpoint = endpoint.clone();
            vec![worker(&http, &inner, move || endpoint.role())]
        })]
    };
    Ok((address, Arc::new(branch)))
}

/// The parts that every life of the endpoint needs.
#[derive(Clone)]
struct Endpoint {
    /// Bound before the tree started; the first life takes it.
    bound: Arc<Mutex<Option<StatusServer>>>,
    options: StatusOptions,
    board: Arc<Board>,
    log: Arc<dyn EventLog>,
}

impl Endpoint {
    fn new(
        bound: StatusServer,
        options: StatusOptions,
        board: &Arc<Board>,
        log: &Arc<dyn EventLog>,
    ) -> Self {
        Self {
            bound: Arc::new(Mutex::new(Some(bound))),
            options,
            board: Arc::clone(board),
            log: Arc::clone(log),
        }
    }

    fn role(&self) -> StatusActor {
        StatusActor { endpoint: self.clone(), serving: None }
    }

    async fn server(&self) -> Result<StatusServer, RoleError> {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner).take();
        match bound {
            Some(server) => Ok(server),
            None => {
                let (board, log) = (Arc::clone(&self.board), Arc::clone(&self.log));
                Ok(StatusServer::bind(self.options.clone(), board, log).await?)
            }
        }
    }
}

/// The status actor's mailbox.
#[derive(Debug)]
struct Look;

/// The role.
struct StatusActor {
    endpoint: Endpoint,
    serving: Option<Serving>,
}

/// A server's task; it ends with this.
struct Serving(JoinHandle<std::io::Result<()>>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Role for StatusActor {
    type Message = Look;

    async fn start(&mut self, me: &Me<Look>) -> Result<(), RoleError> {
        let server = self.endpoint.server().await?;
        self.serving = Some(Serving(tokio::spawn(server.serve(std::future::pending()))));
        me.remind(Look);
        Ok(())
    }

    async fn handle(&mut self, Look: Look, me: &Me<Look>) -> Result<(), RoleError> {
        if self.serving.as_ref().is_none_or(|serving| serving.0.is_finished()) {
            return Err("the server ended".into());
        }
        me.remind_after(LOOK, || Look);
        Ok(())
    }
}
