//! A scripted HTTP server: each test says what is answered, byte by byte if need be, and afterwards
//! looks at what was asked.

use crate::port::bound;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the kernel may hold of what a server has sent, in bytes as it counts them.
const SEND_BUFFER: usize = 64 << 10;

/// How long a server that drips waits before each byte.
const DRIP: Duration = Duration::from_millis(20);

/// What a client sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    headers: Vec<(String, String)>,
    /// As much of the body as was read.
    pub body: Vec<u8>,
}

impl Request {
    /// A header, its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All headers of that name, in lower case, in their order.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The body, as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// `N` and `M` of `Range: bytes=N-M`.
    pub fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().unwrap(), last.parse().expect("a closed range")))
    }
}

/// How a body ends before its time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// It does not.
    None,
    /// The connection is closed after so many bytes of it.
    Cut(usize),
    /// Nothing more comes after so many bytes; the connection stays open.
    Stall(usize),
    /// After so many bytes, the others come one by one.
    Drip(usize),
    /// It never ends.
    Endless,
}

/// What is answered.
#[derive(Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// What Content-Length says; `None`: there is none, and the end of the connection is the end.
    length: Option<usize>,
    trouble: Trouble,
    /// Stands there in the place of status and headers.
    head: Option<Vec<u8>>,
    /// Before each piece of what has no end.
    pause: Option<Duration>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        let body = body.into();
        let length = Some(body.len());
        Reply { status, headers: Vec::new(), body, length, trouble: Trouble::None, head: None, pause: None }
    }

    /// Exactly `head`, then `again` without an end.
    pub fn flood(head: impl Into<Vec<u8>>, again: impl Into<Vec<u8>>) -> Reply {
        Reply { head: Some(head.into()), ..Reply::new(200, again).endless() }
    }

    /// 200 with a body of that media type.
    pub fn typed(media_type: &str, body: impl Into<Vec<u8>>) -> Reply {
        Reply::new(200, body).with("Content-Type", media_type)
    }

    /// The part of `whole` that the request's Range asks for, or all of it.
    pub fn ranged(request: &Request, whole: &[u8]) -> Reply {
        match request.range() {
            Some((first, last)) => Reply::new(206, &whole[first..=last])
                .with("Content-Range", &format!("bytes {first}-{last}/{}", whole.len())),
            None => Reply::new(200, whole),
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body's, in bytes.
    pub fn size(&self) -> usize {
        self.body.len()
    }

    /// The same with more behind it, which its Content-Length does not know.
    pub fn and(mut self, more: &[u8]) -> Reply {
        self.body.extend_from_slice(more);
        self
    }

    pub fn length(mut self, length: Option<usize>) -> Reply {
        self.length = length;
        self
    }

    pub fn cut(mut self, after: usize) -> Reply {
        self.trouble = Trouble::Cut(after);
        self
    }

    pub fn stall(mut self, after: usize) -> Reply {
        self.trouble = Trouble::Stall(after);
        self
    }

    /// After so many bytes of the body, the others come one by one, [`DRIP`] after each other.
    pub fn drip(mut self, after: usize) -> Reply {
        self.trouble = Trouble::Drip(after);
        self
    }

    /// Exactly `head`, then `again` without an end, [`DRIP`] after each other.
    pub fn flood_slowly(head: impl Into<Vec<u8>>, again: impl Into<Vec<u8>>) -> Reply {
        Reply { pause: Some(DRIP), ..Reply::flood(head, again) }
    }

    pub fn endless(mut self) -> Reply {
        self.trouble = Trouble::Endless;
        self.length = None;
        self
    }
}

type Script = dyn Fn(&Request, usize) -> Reply + Send + Sync;
/// How a request's body is dealt with, going by its head.
type Care = dyn Fn(&Request) -> Taken + Send + Sync;

/// What is taken of a request's body.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// At most so many bytes. Where there are more, the connection is closed after the answer.
    pub most: usize,
    /// Whoever waits for a word before he sends it (100 Continue) gets that.
    pub heard: bool,
    /// It is answered.
    pub answered: bool,
}

impl Taken {
    /// As it should be.
    pub const ALL: Taken = Taken { most: usize::MAX, heard: true, answered: true };
}

/// A server on a loopback port, until the test ends.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    sent: Arc<AtomicUsize>,
}

/// A connection; what is sent over it is counted.
struct Counted(TcpStream, Arc<AtomicUsize>);

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).inspect(|written| _ = self.1.fetch_add(*written, Ordering::SeqCst))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Server {
    /// `script` gets each request and how many there were before it.
    pub fn start(script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_at("127.0.0.1:0", script)
    }

    /// The same at another address.
    pub fn start_at(
        address: &str,
        script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Server {
        Server::listen(TcpListener::bind(address).unwrap(), None, |_| Taken::ALL, script)
    }

    /// The same, which does not take every request's body. `script` gets what came of it.
    #[cfg(feature = "publish")]
    pub fn start_taking(
        care: impl Fn(&Request) -> Taken + Send + Sync + 'static,
        script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Server {
        Server::listen(TcpListener::bind("127.0.0.1:0").unwrap(), None, care, script)
    }

    /// The same at a port where nobody has listened before.
    pub fn start_on(
        bound: TcpListener,
        script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Server {
        rustix::net::listen(&bound, 16).unwrap();
        Server::listen(bound, None, |_| Taken::ALL, script)
    }

    /// The same over TLS.
    pub fn start_tls(
        config: Arc<rustls::ServerConfig>,
        script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Server {
        Server::listen(TcpListener::bind("127.0.0.1:0").unwrap(), Some(config), |_| Taken::ALL, script)
    }

    fn listen(
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        care: impl Fn(&Request) -> Taken + Send + Sync + 'static,
        script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Server {
        // Connections have what their listener has.
        rustix::net::sockopt::set_socket_send_buffer_size(&listener, SEND_BUFFER).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let care: Arc<Care> = Arc::new(care);
        let (seen, sent) = (requests.clone(), Arc::<AtomicUsize>::default());
        let all_sent = sent.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (script, care, seen, tls) = (script.clone(), care.clone(), seen.clone(), tls.clone());
                let connection = connection.unwrap();
                // Head and body are written apart: Nagle's algorithm would wait 40 ms for the client to acknowledge.
                connection.set_nodelay(true).unwrap();
                let connection = Counted(connection, all_sent.clone());
                std::thread::spawn(move || match tls {
                    None => serve(connection, &*care, &*script, &seen),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).unwrap();
                        serve(rustls::StreamOwned::new(session, connection), &*care, &*script, &seen);
                    }
                });
            }
        });
        Server { address, requests, sent }
    }

    /// How many bytes it could send so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Everything that was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The requests whose target contains `part`.
    pub fn asked(&self, part: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.target.contains(part)).collect()
    }
}

/// Answers one connection's requests until one side has enough.
fn serve(connection: impl Read + Write, care: &Care, script: &Script, seen: &Mutex<Vec<Request>>) {
    let mut connection = BufReader::new(connection);
    // A TLS handshake where http is spoken is answered as Go's server does.
    if connection.fill_buf().is_ok_and(|bytes| bytes.first() == Some(&0x16)) {
        let _ = connection.get_mut().write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nno TLS here");
        return;
    }
    while let Some((request, taken)) = read_request(&mut connection, care) {
        let before = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let reply = script(&request, before);
        let whole =
            request.header("content-length").is_none_or(|length| length == request.body.len().to_string());
        if !taken.answered || write_reply(connection.get_mut(), &reply).is_err() {
            return;
        }
        if reply.length.is_none() || !whole {
            return;
        }
        match reply.trouble {
            Trouble::None | Trouble::Drip(_) => {}
            // Held until the client gives up.
            Trouble::Stall(_) => return drop(connection.read(&mut [0])),
            _ => return,
        }
    }
}

fn read_request(connection: &mut BufReader<impl Read + Write>, care: &Care) -> Option<(Request, Taken)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines[0].split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<_> = (lines[1..].iter())
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut request = Request { method, target, headers, body: Vec::new() };
    let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let taken = care(&request);
    let mut body = vec![0; length.min(taken.most)];
    if request.header("expect").is_some() && taken.heard {
        connection.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    connection.read_exact(&mut body).ok()?;
    request.body = body;
    Some((request, taken))
}

fn write_reply(connection: &mut impl Write, reply: &Reply) -> std::io::Result<()> {
    if let Some(head) = &reply.head {
        connection.write_all(head)?;
        loop {
            if let Some(pause) = reply.pause {
                std::thread::sleep(pause);
            }
            connection.write_all(&reply.body)?;
            connection.flush()?;
        }
    }
    let mut head = format!("HTTP/1.1 {} Whatever\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &match reply.length {
        Some(length) => format!("Content-Length: {length}\r\n\r\n"),
        None => "Connection: close\r\n\r\n".to_owned(),
    };
    // In one piece, as servers do.
    connection.write_all(head.as_bytes())?;
    match reply.trouble {
        Trouble::None => connection.write_all(&reply.body)?,
        Trouble::Cut(after) | Trouble::Stall(after) => connection.write_all(&reply.body[..after])?,
        Trouble::Drip(after) => {
            let (at_once, slowly) = reply.body.split_at(after.min(reply.body.len()));
            connection.write_all(at_once)?;
            connection.flush()?;
            for byte in slowly {
                std::thread::sleep(DRIP);
                connection.write_all(&[*byte])?;
                connection.flush()?;
            }
        }
        Trouble::Endless => loop {
            connection.write_all(&reply.body)?;
        },
    }
    connection.flush()
}

/// An address where nobody listens: its port stays taken as long as this process lives.
pub fn closed_port() -> SocketAddr {
    let socket = bound();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    address
}
