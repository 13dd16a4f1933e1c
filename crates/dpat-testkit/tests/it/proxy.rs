//! The proxy in front of a server that says everything back.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use dpat_testkit::proxy::Proxy;

/// A server that sends back what it gets; it tells each chunk before it answers.
fn echo() -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let tell = tell.clone();
            thread::spawn(move || {
                let mut chunk = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut chunk) {
                    drop(tell.send(chunk[..length].to_vec()));
                    if stream.write_all(&chunk[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, told)
}

fn client(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).unwrap();
    stream
}

fn say(stream: &mut TcpStream, word: &str) -> std::io::Result<String> {
    stream.write_all(word.as_bytes())?;
    let mut heard = vec![0; word.len()];
    stream.read_exact(&mut heard)?;
    Ok(String::from_utf8(heard).unwrap())
}

#[test]
fn what_is_said_is_passed_on() {
    let (server, _told) = echo();
    let proxy = Proxy::start(server).unwrap();
    let mut one = client(&proxy);
    let mut two = client(&proxy);
    assert_eq!(say(&mut one, "one").unwrap(), "one");
    assert_eq!(say(&mut two, "two").unwrap(), "two");
    assert_eq!(say(&mut one, "again").unwrap(), "again");
    assert_eq!((proxy.accepted(), proxy.connections_cut()), (2, 0));
}

#[test]
fn an_answer_is_cut_after_its_request_was_done() {
    let (server, told) = echo();
    let proxy = Proxy::start(server).unwrap();
    let mut stream = client(&proxy);
    proxy.cut_answers(true);
    say(&mut stream, "pay").unwrap_err();
    assert_eq!(told.recv().unwrap(), b"pay");
    assert_eq!(proxy.connections_cut(), 1);
    proxy.cut_answers(false);
    assert_eq!(say(&mut client(&proxy), "pay").unwrap(), "pay");
}

#[test]
fn the_answer_that_is_named_is_cut_and_no_other() {
    let (server, told) = echo();
    let proxy = Proxy::start(server).unwrap();
    let mut stream = client(&proxy);
    proxy.cut_answer(2);
    assert_eq!(say(&mut stream, "one").unwrap(), "one");
    assert!(proxy.is_answer_left());
    say(&mut stream, "two").unwrap_err();
    assert_eq!(told.iter().take(2).last().unwrap(), b"two");
    assert!(!proxy.is_answer_left());
    let mut stream = client(&proxy);
    assert_eq!(say(&mut stream, "two").unwrap(), "two");
    proxy.cut_answer(1);
    proxy.cut_answer(0);
    assert_eq!(say(&mut stream, "three").unwrap(), "three");
    assert_eq!(proxy.connections_cut(), 1);
}

#[test]
fn connections_are_cut_and_refused() {
    let (server, _told) = echo();
    let proxy = Proxy::start(server).unwrap();
    let mut stream = client(&proxy);
    assert_eq!(say(&mut stream, "here").unwrap(), "here");
    proxy.cut();
    say(&mut stream, "gone").unwrap_err();
    proxy.refuse(true);
    say(&mut client(&proxy), "no").unwrap_err();
    proxy.refuse(false);
    assert_eq!(say(&mut client(&proxy), "yes").unwrap(), "yes");
}

#[test]
fn a_stalled_connection_goes_on_where_it_was() {
    let (server, told) = echo();
    let proxy = Proxy::start(server).unwrap();
    let mut stream = client(&proxy);
    assert_eq!(say(&mut stream, "before").unwrap(), "before");
    assert_eq!(told.recv().unwrap(), b"before");
    proxy.stall(true);
    stream.write_all(b"during").unwrap();
    let nothing = told.recv_timeout(Duration::from_millis(50));
    assert_eq!(nothing, Err(mpsc::RecvTimeoutError::Timeout));
    proxy.stall(false);
    assert_eq!(told.recv().unwrap(), b"during");
    let mut heard = [0; 6];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"during");
}

#[test]
fn a_proxy_without_a_server_cuts_its_clients() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = Proxy::start(nobody).unwrap();
    say(&mut client(&proxy), "hello").unwrap_err();
    let address = proxy.address();
    drop(proxy);
    let after = TcpStream::connect(address).and_then(|mut stream| say(&mut stream, "hello"));
    after.unwrap_err();
}
