//! A node as a process of its own.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;

use super::node::{self, Ended, NodeConfig, NodeError};
use super::service::ports::Peer;
use super::shell::metrics;

/// A node in a child process, which ends when its standard input is closed.
#[derive(Debug)]
pub struct ProcessNode {
    peer: Peer,
    child: Child,
    stdin: Option<ChildStdin>,
    ended: Option<std::process::ExitStatus>,
}

impl ProcessNode {
    /// Starts `program node --config FILE`, with the configuration written to `file`.
    ///
    /// # Errors
    /// [`NodeError::Start`].
    pub fn start(program: &Path, config: &NodeConfig, file: &Path) -> Result<Self, NodeError> {
        let peer = config.peer;
        let start_error = |source| NodeError::Start { peer, source };
        let created = File::create(file).map_err(start_error)?;
        serde_json::to_writer(created, config)
            .map_err(|error| start_error(io::Error::other(error)))?;
        let mut command = Command::new(program);
        command
            .arg("node")
            .arg("--config")
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        // Ctrl-C is for the parent, which then stops its children one by one.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(start_error)?;
        Ok(Self {
            peer,
            stdin: child.stdin.take(),
            child,
            ended: None,
        })
    }

    /// Returns which service it is.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// Returns the process id, unless it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Says whether the process has ended by itself.
    pub fn is_finished(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_some()
    }

    /// Kills the process by SIGKILL.
    pub async fn kill(mut self) {
        // An error means that it has ended before.
        let _ = self.child.kill().await;
    }

    /// Stops the process and waits; or learns how it ended before.
    ///
    /// # Errors
    /// [`NodeError::Exited`].
    pub async fn stop(mut self) -> Result<Ended, NodeError> {
        let peer = self.peer;
        drop(self.stdin.take());
        let status = match self.ended {
            Some(status) => status,
            None => self
                .child
                .wait()
                .await
                .map_err(|source| NodeError::Start { peer, source })?,
        };
        match status.code() {
            Some(0) => Ok(Ended::Stopped),
            // By a signal: it killed itself at a point of the script.
            None => Ok(Ended::Died),
            Some(code) => Err(NodeError::Exited { peer, code }),
        }
    }
}

/// Runs a node in this process until standard input is closed: the other side of [`ProcessNode`].
///
/// A node that dies by its script aborts the process.
///
/// # Errors
/// [`NodeError`].
pub fn run_child(file: &Path) -> Result<(), NodeError> {
    let start_error = |source| NodeError::Start {
        peer: Peer::Gateway,
        source,
    };
    let text = std::fs::read(file).map_err(start_error)?;
    let config: NodeConfig =
        serde_json::from_slice(&text).map_err(|error| start_error(io::Error::other(error)))?;
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut sink = [0; 64];
            // Whatever comes is ignored; the end or an error stops the node.
            while matches!(io::stdin().read(&mut sink), Ok(read) if read > 0) {}
            drop(stop);
        })
        .map_err(start_error)?;
    let severed = Arc::new(AtomicBool::new(false));
    let ended = node::run(config, metrics::recorder(), severed, async {
        let _ = stopped.await;
    })?;
    match ended {
        Ended::Stopped => Ok(()),
        Ended::Died => std::process::abort(),
    }
}
