//! A thread that owns SQLite connections and takes commands: no SQLite call runs on an async
//! worker.
//!
//! Commands are taken in the order they were sent. Dropping the handle lets the thread finish the
//! commands already sent, and waits for it.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;

/// The thread is gone: it panicked, and nothing can be asked of it any more.
#[derive(Debug, thiserror::Error)]
#[error("the thread that owns the file has ended")]
pub struct Ended;

/// The handle on a thread that takes commands of type `C`.
#[derive(Debug)]
pub struct ConnectionThread<C> {
    // Options only for `drop`, which must close the channel before it joins.
    commands: Option<Sender<C>>,
    thread: Option<JoinHandle<()>>,
}

impl<C: Send + 'static> ConnectionThread<C> {
    /// Starts `run`, which returns when its receiver is disconnected.
    ///
    /// # Errors
    /// When the system starts no further thread.
    pub fn start(name: &str, run: impl FnOnce(Receiver<C>) + Send + 'static) -> io::Result<Self> {
        let (commands, receiver) = channel();
        let thread = Builder::new().name(name.to_owned()).spawn(move || run(receiver))?;
        Ok(Self { commands: Some(commands), thread: Some(thread) })
    }

    /// Sends a command without waiting for anything.
    ///
    /// # Errors
    /// [`Ended`]: it was not taken.
    pub fn send(&self, command: C) -> Result<(), Ended> {
        self.commands.as_ref().and_then(|commands| commands.send(command).ok()).ok_or(Ended)
    }

    /// Sends the command made by `command` and waits for its answer.
    ///
    /// # Errors
    /// [`Ended`]: the command may or may not have been carried out.
    pub async fn ask<R>(&self, command: impl FnOnce(oneshot::Sender<R>) -> C) -> Result<R, Ended> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        answer.await.map_err(|_| Ended)
    }

    /// Whether the thread has ended, which it does by itself only in a panic.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// A sender for another thread. The thread ends only when this is dropped too.
    #[must_use]
    pub fn sender(&self) -> Option<Sender<C>> {
        self.commands.clone()
    }
}

impl<C> Drop for ConnectionThread<C> {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_panicked_has_ended() {
        let thread = ConnectionThread::start("victim", |commands: Receiver<()>| {
            let _ = commands.recv();
            panic!("told to");
        });
        let thread = thread.unwrap();
        assert!(!thread.has_ended());
        thread.send(()).unwrap();
        while !thread.has_ended() {
            tokio::task::yield_now().await;
        }
    }
}
