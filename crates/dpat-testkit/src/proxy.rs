//! A TCP proxy on the loopback interface that delays, stalls and cuts.
//!
//! What it does holds for connections that are there and for new ones, until it is told otherwise. Cutting an answer
//! ([`Proxy::cut_answers`]) is how a test makes an unknown outcome: the server has got the request and done it, and its
//! client never hears.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::sync::Mutex;
use crate::wait::pause;

/// The bytes that are passed on at once.
const CHUNK: usize = 16 * 1024;
/// How often a stalled connection looks whether it may go on.
const LOOK: Duration = Duration::from_millis(2);
/// The most connections at once; more are refused.
pub const CONNECTIONS_MAX: usize = 1_024;

/// A proxy in front of one server. It ends, and cuts everything, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    ended: AtomicBool,
    refusing: AtomicBool,
    stalled: AtomicBool,
    cut_answers: AtomicBool,
    /// Until the one that is cut; none: 0.
    answers_left: AtomicU64,
    delay_us: AtomicU64,
    accepted: AtomicU64,
    cut: AtomicU64,
    /// Both ends of every connection.
    open: Mutex<Vec<(u64, TcpStream, TcpStream)>>,
}

impl Proxy {
    /// Starts a proxy that passes everything on.
    ///
    /// # Errors
    /// If there is no port.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            ended: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            cut_answers: AtomicBool::new(false),
            answers_left: AtomicU64::new(0),
            delay_us: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            open: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Ok(Self { address, shared })
    }

    /// Returns where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection; new ones are accepted.
    pub fn cut(&self) {
        self.shared.cut_all();
    }

    /// Closes new connections at once, or not any more.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refusing.store(refuse, Ordering::SeqCst);
    }

    /// Passes no byte on, in either direction, or again all that has waited.
    pub fn stall(&self, stall: bool) {
        self.shared.stalled.store(stall, Ordering::SeqCst);
    }

    /// Cuts each connection as soon as its server sends anything: requests arrive, answers do not.
    pub fn cut_answers(&self, cut: bool) {
        self.shared.cut_answers.store(cut, Ordering::SeqCst);
    }

    /// Cuts one connection in place of the `nth` answer from now on; the first is 1, and with 0 none is cut.
    ///
    /// An answer is what a server sends at once, whatever it means: a test that loses each in turn, until none is left to lose,
    /// needs not to know.
    pub fn cut_answer(&self, nth: u64) {
        self.shared.answers_left.store(nth, Ordering::SeqCst);
    }

    /// Returns whether the answer that [`Proxy::cut_answer`] names is still to come.
    #[must_use]
    pub fn is_answer_left(&self) -> bool {
        self.shared.answers_left.load(Ordering::SeqCst) > 0
    }

    /// Holds every chunk back for so long, in each direction.
    pub fn delay(&self, delay: Duration) {
        let us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.shared.delay_us.store(us, Ordering::SeqCst);
    }

    /// Returns how many connections were accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Returns how many connections the proxy has cut.
    #[must_use]
    pub fn connections_cut(&self) -> u64 {
        self.shared.cut.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.cut_all();
        // The listener waits for a connection: this is its last.
        drop(TcpStream::connect(self.address));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let Ok(client) = client else { continue };
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            let full = self.open.lock().len() >= CONNECTIONS_MAX;
            if full || self.refusing.load(Ordering::SeqCst) {
                continue;
            }
            // A client that finds no server behind the proxy is cut, as the server would have done.
            drop(self.connect(number, client));
        }
    }

    fn connect(self: &Arc<Self>, number: u64, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.target)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ends = (number, client.try_clone()?, server.try_clone()?);
        let (from_client, from_server) = (client.try_clone()?, server.try_clone()?);
        self.open.lock().push(ends);
        for (from, to, direction) in [
            (from_client, server, Direction::ToServer),
            (from_server, client, Direction::ToClient),
        ] {
            let shared = Arc::clone(self);
            thread::spawn(move || {
                // However it ends, both ends are told.
                drop(shared.pass_on(number, from, to, direction));
                shared.forget(number);
            });
        }
        Ok(())
    }

    fn pass_on(
        &self,
        number: u64,
        mut from: TcpStream,
        mut to: TcpStream,
        direction: Direction,
    ) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = from.read(&mut chunk)?;
            if direction == Direction::ToClient && self.is_cut() {
                self.cut.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            let delay = self.delay_us.load(Ordering::SeqCst);
            if delay > 0 {
                pause(Duration::from_micros(delay));
            }
            while self.stalled.load(Ordering::SeqCst) && self.is_open(number) {
                pause(LOOK);
            }
            if length == 0 {
                // The other direction may go on.
                return match direction {
                    Direction::ToServer => to
                        .shutdown(Shutdown::Write)
                        .and_then(|()| self.rest(number)),
                    Direction::ToClient => Ok(()),
                };
            }
            to.write_all(&chunk[..length])?;
        }
    }

    /// Whether the connection is cut in place of the answer that has come.
    fn is_cut(&self) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        let (all, left) = (Ordering::SeqCst, &self.answers_left);
        left.fetch_update(all, all, one_less) == Ok(1) || self.cut_answers.load(all)
    }

    /// Waits for the server's side to end.
    fn rest(&self, number: u64) -> io::Result<()> {
        while self.is_open(number) {
            pause(LOOK);
        }
        Ok(())
    }

    fn is_open(&self, number: u64) -> bool {
        self.open.lock().iter().any(|(open, _, _)| *open == number)
    }

    /// Closes both ends of a connection.
    fn forget(&self, number: u64) {
        let mut open = self.open.lock();
        if let Some(at) = open.iter().position(|(open, _, _)| *open == number) {
            let (_, client, server) = open.swap_remove(at);
            close(&client);
            close(&server);
        }
    }

    fn cut_all(&self) {
        for (_, client, server) in self.open.lock().drain(..) {
            self.cut.fetch_add(1, Ordering::SeqCst);
            close(&client);
            close(&server);
        }
    }
}

/// An end that is closed already needs nothing.
fn close(stream: &TcpStream) {
    drop(stream.shutdown(Shutdown::Both));
}
