//! The HTTP client against servers that break its rules, on loopback: each costs an error and nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use podkeep::http::{Cancel, Cause, Client, Error, Method, Options, Request, Response, Url};

/// Serves each connection by `serve`, and counts them.
fn serve(serve: impl Fn(&mut TcpStream, usize) + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let (counted, serve) = (count.clone(), Arc::new(serve));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, serve) = (stream.unwrap(), serve.clone());
            let number = counted.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || serve(&mut stream, number));
        }
    });
    (address, count)
}

/// Reads a request's head; `None` at the end of the connection.
fn head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}

/// A server that says this to everybody, and nothing more, but does not hang up.
fn saying(answer: impl Into<Vec<u8>>) -> Url {
    let answer = answer.into();
    let (address, _) =
        serve(move |stream, _| while head(stream).is_some() && stream.write_all(&answer).is_ok() {});
    format!("http://{address}/").parse().unwrap()
}

fn client() -> Client {
    Client::new(&Options::default(), &Cancel::default()).unwrap()
}

fn get(client: &Client, url: &Url) -> Result<Vec<u8>, Error> {
    client.send(&Request::new(Method::Get, url)).and_then(|response| response.bytes(1 << 20))
}

#[track_caller]
fn assert_malformed(answer: impl Into<Vec<u8>>) {
    let error = get(&client(), &saying(answer)).unwrap_err();
    assert!(matches!(error.cause, Cause::Malformed(_)), "{error}");
    assert!(!error.is_transient(), "{error}");
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for headers in [
        "Content-Length: 5\r\nContent-Length: 4",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: -5",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff",
        "Transfer-Encoding: chunked\r\n\r\n-1",
        "Transfer-Encoding : chunked",
    ] {
        assert_malformed(format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\nhello"));
    }
    assert_malformed("SSH-2.0-OpenSSH_9.2p1\r\n");
}

#[test]
fn a_head_without_end_is_refused_while_it_comes() {
    for endless in ["X-Header: 1\r\n", "x"] {
        let (address, _) = serve(move |stream, _| {
            head(stream);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-First: ");
            while stream.write_all(endless.repeat(1000).as_bytes()).is_ok() {}
        });
        let url = format!("http://{address}/").parse().unwrap();
        let error = get(&client(), &url).unwrap_err();
        assert!(matches!(error.cause, Cause::Malformed(_)), "{error}");
    }
}

#[test]
fn a_chunk_of_any_size_is_kept_up_to_the_limit_only() {
    let (address, _) = serve(|stream, _| {
        head(stream);
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n");
        while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
    });
    let url = format!("http://{address}/").parse().unwrap();
    let error = get(&client(), &url).unwrap_err();
    assert!(matches!(error.cause, Cause::TooLarge { limit: 0x10_0000 }), "{error}");
}

#[test]
fn an_answer_that_drips_is_whole_in_the_end() {
    let (address, _) = serve(|stream, _| {
        stream.set_nodelay(true).unwrap();
        head(stream);
        let answer = b"HTTP/1.1 100 Wait\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        for byte in answer {
            stream.write_all(&[*byte]).unwrap();
        }
    });
    let url = format!("http://{address}/").parse().unwrap();
    assert_eq!(get(&client(), &url).unwrap(), b"hello");
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (address, connections) =
        serve(
            move |stream, _| {
                while head(stream).is_some() && stream.write_all(answer.as_bytes()).is_ok() {}
            },
        );
    let (client, url) = (client(), format!("http://{address}/").parse().unwrap());
    for _ in 0..3 {
        assert_eq!(get(&client, &url).unwrap(), b"ok");
    }
    // Nobody reads the body of this one, but it has come.
    client.send(&Request::new(Method::Get, &url)).unwrap();
    get(&client, &url).unwrap();
    assert!(
        connections.load(Ordering::SeqCst) <= 2,
        "a body that comes later than its head costs a connection"
    );
}

/// Serves answers that pass one off as two, in which the second one would be taken for that of the next request.
#[test]
fn what_comes_after_an_answer_is_not_taken_for_the_next_one() {
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 304 Same\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        let (address, _) = serve(move |stream, number| {
            while head(stream).is_some() {
                let answer =
                    if number == 0 { first } else { "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" };
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let (client, url) = (client(), format!("http://{address}/").parse().unwrap());
        get(&client, &url).unwrap();
        assert_eq!(get(&client, &url).unwrap(), b"good", "{first}");
    }
}

#[test]
fn a_connection_that_was_closed_while_it_lay_idle_costs_no_request() {
    let (closed, is_closed) = mpsc::channel();
    let closed = std::sync::Mutex::new(closed);
    let (address, connections) = serve(move |stream, number| {
        while head(stream).is_some() {
            if number == 0 {
                // The second request is read and not answered.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                let read = head(stream);
                let _ = closed.lock().unwrap().send(read.is_some());
                return;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore");
        }
    });
    let (client, url) = (client(), format!("http://{address}/").parse().unwrap());
    assert_eq!(get(&client, &url).unwrap(), b"ok");
    assert_eq!(get(&client, &url).unwrap(), b"more");
    assert!(is_closed.recv().unwrap(), "the first connection was used again");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[test]
fn a_form_is_never_sent_twice() {
    let (address, connections) = serve(move |stream, _| {
        head(stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        head(stream);
    });
    let (client, url) = (client(), format!("http://{address}/").parse().unwrap());
    get(&client, &url).unwrap();
    let sent = client.send(&Request::post(&url, "a=1".to_owned()));
    assert!(matches!(sent.unwrap_err().cause, Cause::Broken(_)));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_server_that_takes_no_connection_is_left_at_once_when_that_is_cancelled() {
    // Nobody accepts, and the kernel's queue is full: another connection is not even refused.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
    }
    let cancel = Cancel::default();
    let client = Client::new(&Options::default(), &cancel).unwrap();
    let (tell, told) = mpsc::channel();
    let url: Url = format!("http://{address}/").parse().unwrap();
    thread::spawn(move || tell.send(client.send(&Request::new(Method::Get, &url)).unwrap_err()));
    // Cancelled before it connects, it ends too: what matters is that it ends.
    cancel.cancel();
    let error = told.recv_timeout(Duration::from_secs(20)).expect("it ends");
    assert!(error.is_cancelled(), "{error}");
}

#[test]
fn a_handshake_that_drips_takes_no_longer_than_a_connection_may() {
    // The time is over while a byte is waited for, and between two of them.
    for pause in [300, 1].map(Duration::from_millis) {
        // The beginning of a TLS record that says it is long, byte by byte.
        let (address, _) = serve(move |stream, _| {
            let _ = stream.write_all(&[22, 3, 3, 0x40, 0, 2]);
            while stream.write_all(&[0]).is_ok() {
                thread::park_timeout(pause);
            }
        });
        let options = Options { connect_timeout: Some(Duration::from_millis(400)), ..Options::default() };
        let client = Client::new(&options, &Cancel::default()).unwrap();
        let url: Url = format!("https://{address}/").parse().unwrap();
        let error = client.send(&Request::new(Method::Get, &url)).unwrap_err();
        assert!(matches!(error.cause, Cause::ConnectTimeout(_)), "{error}");
    }
}

fn status(response: Result<Response, Error>) -> u16 {
    response.unwrap().status
}

#[test]
fn the_answer_to_head_is_not_waited_for_a_body_of() {
    let url = saying("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    let client = client();
    for _ in 0..2 {
        let response = client.send(&Request::new(Method::Head, &url)).unwrap();
        assert_eq!(response.length(), Some(1_000_000));
        assert_eq!(response.bytes(1 << 20).unwrap(), b"");
    }
    assert_eq!(status(client.send(&Request::new(Method::Head, &url))), 200);
}
