//! Whether a server answers.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::Engine;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks a server whether it is ready for clients.
pub(super) fn answers(engine: Engine, port: u16, folder: &Path) -> bool {
    let answer = match engine {
        Engine::Postgres => postgres(port),
        Engine::Nats => nats(port, folder),
        Engine::Redis => ask(port, b"PING\r\n").map(|answer| answer == *b"+PONG\r"),
    };
    answer.unwrap_or(false)
}

/// Asks to be let in: the first byte is `R` if it is ready, `E` while it starts or recovers.
fn postgres(port: u16) -> io::Result<bool> {
    const VERSION_3: u32 = 3 << 16;
    let mut body = VERSION_3.to_be_bytes().to_vec();
    body.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    let mut question = length.to_be_bytes().to_vec();
    question.append(&mut body);
    Ok(ask(port, &question)?[0] == b'R')
}

/// Asks for the health that its monitoring tells. Its port is in a file, since the server chose it.
fn nats(port: u16, folder: &Path) -> io::Result<bool> {
    let Some(monitor) = monitor(folder) else {
        // An old file of another life, or none yet.
        return Ok(false);
    };
    let health = ask(monitor, b"GET /healthz HTTP/1.0\r\n\r\n")?;
    Ok(health == *b"HTTP/1" && connect(port).is_ok())
}

fn monitor(folder: &Path) -> Option<u16> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let ports = entries.map(|entry| entry.path()).filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "ports")
    });
    // Of each life there is one; those of lives that were killed stay.
    ports.into_iter().find_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        let (_, after) = text.split_once("\"monitoring\"")?;
        let (_, after) = after.split_once("127.0.0.1:")?;
        let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
        let port = digits.parse().ok()?;
        connect(port).is_ok().then_some(port)
    })
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a question and returns the first bytes of the answer.
fn ask(port: u16, question: &[u8]) -> io::Result<[u8; 6]> {
    let mut stream = connect(port)?;
    stream.write_all(question)?;
    let mut answer = [0; 6];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
