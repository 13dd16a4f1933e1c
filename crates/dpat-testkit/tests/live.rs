//! Each server that the machine has: started, killed, restarted on its data, paused, stopped, and nothing left behind.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use dpat_testkit::live::{self, Live};
use dpat_testkit::servers::{Engine, Server};
use libtest_mimic::Failed;

fn main() {
    let trials = Engine::ALL.into_iter().map(|engine| {
        let name = format!("{engine}_lives_and_dies");
        Live::of(engine).faults(&name, lives_and_dies)
    });
    live::run(trials.collect());
}

fn lives_and_dies(mut server: Server) -> Result<(), Failed> {
    let engine = server.engine();
    let (url, port) = (server.url(), server.port());
    assert!(url.contains(&format!("127.0.0.1:{port}")), "{url}");
    assert!(server.version().starts_with(|c: char| c.is_ascii_digit()));
    if engine == Engine::Redis {
        assert_eq!(redis(port, "SET a 1")?, "+OK");
    }

    server.kill();
    assert!(connect(port).is_err(), "killed, and still there");
    server.restart()?;
    assert_eq!(server.url(), url);
    if engine == Engine::Redis {
        assert_eq!(redis(port, "GET a")?, "$1", "an acknowledged write is lost");
        server.pause();
        redis(port, "PING").expect_err("it is paused");
        server.resume();
        assert_eq!(redis(port, "PING")?, "+PONG");
    }

    server.stop();
    server.stop();
    assert!(connect(port).is_err(), "stopped, and still there");
    server.restart()?;
    let detached = server.detach().ok_or("it runs")?;
    assert!(detached.answers() && detached.runs());
    assert!(detached.folder.is_dir());
    detached.stop()?;
    assert!(!detached.answers());
    assert!(!detached.runs());
    assert!(!detached.folder.exists(), "its folder is left behind");
    // Again is nothing to do.
    detached.stop()?;
    Ok(())
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    Ok(stream)
}

/// Asks Redis and returns the first line of its answer.
fn redis(port: u16, command: &str) -> std::io::Result<String> {
    let mut stream = connect(port)?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte[0] != b'\r' {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
