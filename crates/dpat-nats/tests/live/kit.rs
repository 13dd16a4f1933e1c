//! What the live tests share: a runtime, connections, names that nobody else has.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dpat_core::{Class, Classify as _, Entropy as _, Sleep as _, SystemEntropy, TokioTime};
use dpat_nats::{Config, Connection};
use dpat_testkit::servers::{Engine, Installed};
use libtest_mimic::Failed;
use tokio::runtime::{Handle, Runtime};

/// The longest that anything may take. A machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let builder = &mut tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("threads")
});

/// Runs a future to its end, on threads that all tests share.
///
/// # Panics
/// If it takes longer than [`PATIENCE`].
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(async {
        let ended = tokio::time::timeout(PATIENCE, future).await;
        ended.expect("it ends within its deadline")
    })
}

/// Lets time pass, wherever it is called.
pub(crate) fn pass(time: Duration) {
    let pass = async move { TokioTime.sleep(time).await };
    match Handle::try_current() {
        Ok(handle) => tokio::task::block_in_place(|| handle.block_on(pass)),
        Err(_) => RUNTIME.block_on(pass),
    }
}

/// A name that no other test has, on no other run.
pub(crate) fn name(of: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let random = SystemEntropy.next_u64();
    format!("{of}-{}-{number}-{random:x}", std::process::id())
}

pub(crate) fn config(url: &str) -> Result<Config, Failed> {
    let config = Config::new(url)?.name("dpat-tests")?;
    Ok(config.request_timeout(Duration::from_secs(20))?)
}

pub(crate) fn connect(url: &str) -> Result<Connection, Failed> {
    let config = config(url)?;
    Ok(block_on(Connection::open(&config))?)
}

/// Connects with a deadline so short that a busy machine may miss it, as often as it takes.
pub(crate) fn connect_hasty(config: &Config) -> Result<Connection, Failed> {
    block_on(async {
        loop {
            match Connection::open(config).await {
                Err(error) if error.class() == Class::Timeout => {}
                opened => return Ok(opened?),
            }
        }
    })
}

/// A server with a configuration of its own. It ends, and its folder goes, when it is dropped.
pub(crate) struct Configured {
    child: Child,
    folder: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Configured {
    /// Starts the installed server with these lines of configuration beside its address.
    pub(crate) fn start(lines: &str) -> Result<Self, Failed> {
        let program = Installed::find(Engine::Nats).map_err(|absent| absent.to_string())?;
        let folder = std::env::temp_dir().join(name("dpat-nats"));
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("nats.conf");
        let shown = folder.to_string_lossy();
        let lines = lines.replace("STORE", &folder.join("store").to_string_lossy());
        std::fs::write(
            &path,
            format!("host: 127.0.0.1\nport: -1\nports_file_dir: {shown:?}\n{lines}\n"),
        )?;
        let mut command = Command::new(program.program);
        let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = silent.arg("-c").arg(path).spawn()?;
        let port = block_on(async {
            loop {
                if let Some(port) = port_in(&folder) {
                    return port;
                }
                TokioTime.sleep(Duration::from_millis(5)).await;
            }
        });
        Ok(Self {
            child,
            folder,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// The port in the file that the server writes once it listens.
fn port_in(folder: &Path) -> Option<u16> {
    let entries = std::fs::read_dir(folder).ok()?;
    let file = entries.flatten().find(|one| {
        let name = one.file_name();
        name.to_string_lossy().ends_with(".ports")
    })?;
    let text = std::fs::read_to_string(file.path()).ok()?;
    let digits = text.split_once("nats://127.0.0.1:")?.1;
    let end = digits.find(|letter: char| !letter.is_ascii_digit())?;
    digits[..end].parse().ok()
}

/// Waits until it is so.
pub(crate) async fn until(is: impl Fn() -> bool) {
    while !is() {
        TokioTime.sleep(Duration::from_millis(5)).await;
    }
}

/// Makes trials of functions, each of its own name.
macro_rules! trials {
    ($live:ident, $($kind:ident $name:ident),+ $(,)?) => {
        vec![$($live.$kind(stringify!($name), $name)),+]
    };
}
pub(crate) use trials;
