//! The server that is measured: a process of its own, started, killed and started again.

use std::fmt;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::client::Client;
use kindred::config::Settings;
use kindred_core::storage;

/// Time between two looks at whether it is ready.
const LOOK: Duration = Duration::from_millis(2);
/// Ports that are tried: between choosing a free one and listening on it, another program may take it.
const TRIES: usize = 5;

/// Where a run keeps the server's data, settings and log.
#[derive(Debug)]
pub(super) struct Folder {
    pub path: PathBuf,
    temporary: Option<TempDir>,
}

impl Folder {
    /// The folder of that path, or a temporary one whose name begins so.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn new(path: Option<&Path>, prefix: &str) -> Result<Self> {
        if let Some(path) = path {
            return Ok(Self { path: std::path::absolute(path)?, temporary: None });
        }
        let temporary = tempfile::Builder::new().prefix(prefix).tempdir().context("cannot make a temporary folder")?;
        Ok(Self { path: temporary.path().to_owned(), temporary: Some(temporary) })
    }

    pub fn is_empty(&self) -> Result<bool> {
        Ok(storage::list_dir(&self.path)?.is_empty())
    }

    /// Lets a temporary folder stay, too.
    pub fn keep(self) -> PathBuf {
        self.temporary.map_or(self.path, TempDir::keep)
    }
}

/// How to start it.
#[derive(Debug)]
pub(super) struct Launch {
    binary: PathBuf,
    settings: PathBuf,
    log: PathBuf,
}

/// The server that is installed, or was built, with this program.
fn next_to_this_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell the path of this program: name the server with --binary")?;
    let server = own.with_file_name(format!("kindred{}", std::env::consts::EXE_SUFFIX));
    anyhow::ensure!(
        server.is_file(),
        "there is no server at {}: name it with --binary, or build it: cargo build --release --workspace",
        server.display()
    );
    Ok(server)
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    root: String,
    log: PathBuf,
    started: Instant,
}

/// Why a started server does not serve.
#[derive(Debug)]
pub(super) enum NotReady {
    Ended { said: String },
    Slow { waited: Duration, said: String },
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended { said } => write!(f, "the server ended before it was ready. It said:\n{said}"),
            Self::Slow { waited, said } => write!(f, "the server was not ready after {} s. It said:\n{said}", waited.as_secs()),
        }
    }
}

impl std::error::Error for NotReady {}

impl Launch {
    /// Prepares starts of `binary` (the `kindred` next to this program, if none is named) with these settings. They and the server's log are kept in
    /// `folder`.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn new(binary: Option<&Path>, settings: &Settings, folder: &Path) -> Result<Self> {
        let binary = match binary {
            Some(path) => std::path::absolute(path)?,
            None => next_to_this_program()?,
        };
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut settings = settings.clone();
        // The server's working folder is the same, but what is written here should say where it is.
        settings.storage.data_dir = std::path::absolute(&settings.storage.data_dir)?;
        settings.encoder.model_dir = std::path::absolute(&settings.encoder.model_dir)?;
        let path = folder.join("settings.toml");
        std::fs::write(&path, toml::to_string(&settings)?).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { binary, settings: path, log: folder.join("server.log") })
    }

    /// Starts it and waits until it is ready. Returns also how long that took.
    ///
    /// # Errors
    /// [`NotReady`], or the program cannot be run.
    pub fn start(&self, limit: Duration) -> Result<(Server, Duration)> {
        for _ in 1..TRIES {
            let mut server = self.spawn()?;
            match server.wait_ready(limit) {
                Err(NotReady::Ended { said }) if said.contains("cannot listen on") => {}
                ready => return Ok(ready.map(|took| (server, took))?),
            }
        }
        let mut server = self.spawn()?;
        Ok(server.wait_ready(limit).map(|took| (server, took))?)
    }

    /// Starts it on a free port, and does not wait.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn spawn(&self) -> Result<Server> {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).context("there is no free port")?.to_string();
        let log = || File::options().append(true).open(&self.log);
        File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = Command::new(&self.binary);
        // The settings are whole: nothing of the environment is to be added once more.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KINDRED__")) {
            command.env_remove(name);
        }
        command.arg("serve").arg("--config").arg(&self.settings).args(["--listen", &address]);
        command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot run {}", self.binary.display()))?;
        Ok(Server { child, root: format!("http://{address}"), log: self.log.clone(), started })
    }
}

impl Server {
    /// What a client calls.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Waits until `/readyz` says yes. Returns the time since the start.
    ///
    /// # Errors
    /// [`NotReady`].
    pub fn wait_ready(&mut self, limit: Duration) -> Result<Duration, NotReady> {
        let client = Client::new(&self.root);
        loop {
            if client.get("/readyz").is_ok_and(|answer| answer.status == 200) {
                return Ok(self.started.elapsed());
            }
            if self.has_ended() {
                return Err(NotReady::Ended { said: self.said() });
            }
            let waited = self.started.elapsed();
            if waited > limit {
                return Err(NotReady::Slow { waited, said: self.said() });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether the process is not there any more.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the process where it stands (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().and_then(|()| self.child.wait()).context("cannot kill the server")?;
        Ok(())
    }

    /// The end of its log.
    pub fn said(&self) -> String {
        const LINES: usize = 30;
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that is gone already cannot be killed, which is as well.
        let _ = self.kill();
    }
}
