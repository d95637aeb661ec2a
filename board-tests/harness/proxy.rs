//! A proxy before a real registry: every byte and every field is the registry's own, but for what a test
//! lets go wrong on the way. [`super::FakeRegistry`] makes its answers up, and so shows what edgepull asks
//! for; here are the answers that a registry really gives, over connections that live as long as they do
//! with one, and every byte that went out to the client is counted: an interruption costs what was sent
//! twice, and the client is the last to be asked about that.
//!
//! To the registry, each request is a connection and HTTP/1.0: the answer ends with it, and is never chunked.

use std::io::{BufRead, BufReader, Error, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::sleep;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_linger, set_socket_send_buffer_size};

use super::fake::{Request, read_request};
use super::registry::Registry;

/// What the kernel keeps of what was sent until the client has acknowledged it, in bytes (the kernel doubles
/// it for its own needs): nearly all that is counted has reached the client's side.
const SEND_BUFFER: usize = 16 << 10;
/// How much goes out and is counted at once, in bytes.
const CHUNK: usize = 4 << 10;
/// A slow link sends so many times a second.
const TRICKLES: u32 = 20;
/// The first byte of a TLS handshake (RFC 8446, 5.1, ContentType).
const TLS_HANDSHAKE: u8 = 22;

/// Which requests a fault is for.
#[derive(Clone)]
pub enum Place {
    /// But not the start of a TLS handshake, which is refused as a registry without TLS does.
    Everything,
    Manifests,
    Blobs,
    /// The one of this digest.
    Blob(String),
}

impl Place {
    fn holds(&self, path: &str) -> bool {
        let path = without_query(path);
        match self {
            Place::Everything => true,
            Place::Manifests => path.contains("/manifests/"),
            Place::Blobs => path.contains("/blobs/"),
            Place::Blob(digest) => path.ends_with(digest.as_str()),
        }
    }
}

/// A mirror is told in the query whose images it is asked for.
fn without_query(path: &str) -> &str {
    path.split('?').next().expect("there is always a first part")
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq)]
pub enum End {
    /// In order (FIN), all that was sent arrives.
    Closed,
    /// With a reset (RST), which throws away what is on its way.
    Reset,
    /// It stays open, and nothing comes any more, until the client goes away.
    Silent,
}

impl From<Error> for End {
    /// The client or the registry has left: so do we.
    fn from(_: Error) -> End {
        End::Closed
    }
}

/// What goes wrong with one answer. Offsets and lengths are in bytes.
#[derive(Clone)]
pub enum Fault {
    /// The registry is not asked: this status, with a `Retry-After` of so many seconds.
    Status(u16, Option<u32>),
    /// The connection ends and there is no answer.
    NoAnswer(End),
    /// It ends in the middle of the answer's head.
    InHead(End),
    /// It ends after so much of the answer's body.
    InBody(u64, End),
    /// One bit of the byte at this offset of the whole blob or manifest is another.
    Corrupt(u64),
    /// The registry does not see that only a range was asked for: 200, and all of it.
    IgnoreRange,
    /// A range comes under this `Content-Range`, whatever it is.
    ContentRange(&'static str),
    /// Another range comes than was asked for, from so much further ahead, and says so.
    EarlierRange(u64),
    /// The same, under the `Content-Range` of what was asked for.
    OtherBytes(u64),
    /// So much of the body comes slowly, at so many bytes a second.
    Trickle { length: u64, rate: u64 },
}

/// One request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    /// Its `Range`; "-" where there was none.
    pub range: String,
    /// What was sent of a blob, in bytes: 0 for manifests and errors.
    pub blob_bytes: u64,
}

/// What was sent over one connection, in bytes. At the client's end, some of it may still wait to be read: in
/// the kernel's buffer for received data (`tcp_rmem`), which grows with what a client has read fast.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Of the bodies of blobs.
    pub blobs: u64,
    /// All else: heads, manifests, errors.
    pub rest: u64,
}

#[derive(Default)]
struct State {
    /// A place, a fault, and how often it still comes; the first that holds is next.
    faults: Vec<(Place, Fault, usize)>,
    /// How much a connection carries before it ends.
    connections_carry: Option<u64>,
    asked: Vec<Asked>,
    connections: Vec<Sent>,
}

/// The running proxy; its threads live until the tests end.
pub struct Proxy {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Passes all on to `registry` as it is, at a free port of 127.0.0.1.
    pub fn before(registry: &Registry) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        // Accepted connections inherit it.
        set_socket_send_buffer_size(&listener, SEND_BUFFER).expect("a socket with a buffer");
        let address = listener.local_addr().expect("an address").to_string();
        let (state, registry) = (Arc::<Mutex<State>>::default(), registry.address().to_owned());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (state, registry) = (Arc::clone(&shared), registry.clone());
                std::thread::spawn(move || Connection::new(client, registry, state).serve());
            }
        });
        Proxy { address, state }
    }

    /// The next `times` answers to requests for `place` have this fault; those after them the fault that is
    /// named next.
    pub fn times(self, times: usize, place: Place, fault: Fault) -> Proxy {
        lock(&self.state).faults.push((place, fault, times));
        self
    }

    /// All further answers to requests for `place` have this fault.
    pub fn always(self, place: Place, fault: Fault) -> Proxy {
        self.times(usize::MAX, place, fault)
    }

    /// Every connection ends when it has carried so many bytes to the client, whatever they were.
    pub fn connections_carry(self, bytes: u64) -> Proxy {
        lock(&self.state).connections_carry = Some(bytes);
        self
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        let mut state = lock(&self.state);
        state.faults.clear();
        state.connections_carry = None;
    }

    /// The name of an image of the registry, here.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state).asked.clone()
    }

    /// Every request for the blob of this digest so far.
    pub fn asked_for(&self, digest: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| without_query(&asked.path).ends_with(digest)).collect()
    }

    /// What each connection has carried so far.
    pub fn connections(&self) -> Vec<Sent> {
        lock(&self.state).connections.clone()
    }

    /// The sum of that.
    pub fn sent(&self) -> Sent {
        self.connections().iter().fold(Sent::default(), |sum, sent| Sent {
            blobs: sum.blobs + sent.blobs,
            rest: sum.rest + sent.rest,
        })
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("the proxy's state")
}

/// The answer of the registry that is being passed on.
struct Answer {
    body: BufReader<TcpStream>,
    /// Status line and fields.
    lines: Vec<String>,
}

impl Answer {
    /// Reads the head.
    fn read(registry: TcpStream) -> Result<Answer, End> {
        let mut body = BufReader::new(registry);
        let mut lines: Vec<String> = Vec::new();
        loop {
            let mut line = String::new();
            body.read_line(&mut line)?;
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines.first_mut().ok_or(End::Closed)?;
        *status = status.replacen("HTTP/1.0", "HTTP/1.1", 1);
        Ok(Answer { body, lines })
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.lines.iter().filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn set_field(&mut self, name: &str, value: &str) {
        let is_it =
            |line: &String| line.split_once(':').is_some_and(|(field, _)| field.eq_ignore_ascii_case(name));
        self.lines.retain(|line| !is_it(line));
        self.lines.push(format!("{name}: {value}"));
    }

    fn is_success(&self) -> bool {
        self.lines[0].split(' ').nth(1).is_some_and(|status| status.starts_with('2'))
    }

    /// The body's, in bytes.
    fn length(&self) -> u64 {
        let length = self.field("Content-Length").and_then(|length| length.parse().ok());
        length.expect("docker-registry says how long its answers to HTTP/1.0 are")
    }

    /// Where in the whole blob or manifest its body begins.
    fn offset(&self) -> u64 {
        let range = self.field("Content-Range").and_then(|range| range.strip_prefix("bytes "));
        let first = range.and_then(|range| range.split('-').next());
        first.and_then(|first| first.parse().ok()).unwrap_or(0)
    }
}

/// A client's connection.
struct Connection {
    client: BufReader<TcpStream>,
    number: usize,
    registry: String,
    state: Arc<Mutex<State>>,
}

impl Connection {
    fn new(client: TcpStream, registry: String, state: Arc<Mutex<State>>) -> Connection {
        let number = {
            let connections = &mut lock(&state).connections;
            connections.push(Sent::default());
            connections.len() - 1
        };
        Connection { client: BufReader::new(client), number, registry, state }
    }

    /// Answers one request after the other, to the end of the connection.
    fn serve(mut self) {
        let end = loop {
            if let Err(end) = self.exchange() {
                break end;
            }
        };
        // A client that is gone by itself takes no notice of how this ends.
        match end {
            End::Closed => {}
            End::Reset => drop(set_socket_linger(self.client.get_ref(), Some(Duration::ZERO))),
            End::Silent => drop(self.client.read_to_end(&mut Vec::new())),
        }
    }

    fn exchange(&mut self) -> Result<(), End> {
        if self.client.fill_buf()?.first() == Some(&TLS_HANDSHAKE) {
            self.send(b"HTTP/1.0 400 Bad Request\r\n\r\n", None)?;
            return Err(End::Closed);
        }
        let request = read_request(&mut self.client)?.ok_or(End::Closed)?;
        let (number, fault) = self.note(&request);
        let fault = fault.as_ref();
        match fault {
            Some(Fault::Status(status, retry_after)) => self.refuse(*status, *retry_after),
            Some(Fault::NoAnswer(end)) => Err(*end),
            _ => self.pass_on(self.ask(&request, fault)?, &request, number, fault),
        }
    }

    /// Writes a request down: its number, and what goes wrong with it.
    fn note(&self, request: &Request) -> (usize, Option<Fault>) {
        let mut state = lock(&self.state);
        let range = request.header("range").unwrap_or("-").to_owned();
        state.asked.push(Asked { path: request.path.clone(), range, blob_bytes: 0 });
        let number = state.asked.len() - 1;
        let next = state.faults.iter_mut().find(|(place, _, left)| *left > 0 && place.holds(&request.path));
        let fault = next.map(|(_, fault, left)| {
            *left -= 1;
            fault.clone()
        });
        (number, fault)
    }

    fn refuse(&mut self, status: u16, retry_after: Option<u32>) -> Result<(), End> {
        let body = r#"{"errors":[{"code":"UNAVAILABLE","message":"as the test wants"}]}"#;
        let retry_after = retry_after.map_or(String::new(), |after| format!("Retry-After: {after}\r\n"));
        let length = body.len();
        let head = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {length}\r\n{retry_after}\r\n");
        self.send((head + body).as_bytes(), None)
    }

    /// Asks the registry, and reads the head of what it answers.
    fn ask(&self, request: &Request, fault: Option<&Fault>) -> Result<Answer, End> {
        let mut head = format!("{} {} HTTP/1.0\r\n", request.method, request.path);
        for (name, value) in request.headers() {
            match (name, fault) {
                ("connection", _) | ("range", Some(Fault::IgnoreRange)) => {}
                ("range", Some(Fault::EarlierRange(by) | Fault::OtherBytes(by))) => {
                    head += &format!("range: {}\r\n", earlier(value, *by));
                }
                _ => head += &format!("{name}: {value}\r\n"),
            }
        }
        let mut registry = TcpStream::connect(&self.registry)?;
        registry.write_all((head + "\r\n").as_bytes())?;
        let mut answer = Answer::read(registry)?;
        match (fault, request.header("range")) {
            (Some(Fault::ContentRange(label)), Some(_)) => answer.set_field("Content-Range", label),
            (Some(Fault::OtherBytes(_)), Some(range)) => {
                let given = answer.field("Content-Range").expect("a range was asked for");
                let (_, total) = given.split_once('/').expect("a total");
                let label = format!("{}/{total}", range.replace('=', " "));
                answer.set_field("Content-Range", &label);
            }
            _ => {}
        }
        Ok(answer)
    }

    /// Sends the registry's answer to the client.
    fn pass_on(
        &mut self,
        mut answer: Answer,
        request: &Request,
        number: usize,
        fault: Option<&Fault>,
    ) -> Result<(), End> {
        let head = answer.lines.join("\r\n") + "\r\n\r\n";
        if let Some(Fault::InHead(end)) = fault {
            self.send(&head.as_bytes()[..head.len() / 2], None)?;
            return Err(*end);
        }
        self.send(head.as_bytes(), None)?;
        let is_blob = Place::Blobs.holds(&request.path) && answer.is_success();
        let length = if request.method == "HEAD" { 0 } else { answer.length() };
        let (offset, mut sent) = (answer.offset(), 0);
        let mut buffer = [0; CHUNK];
        while sent < length {
            let mut wanted = (length - sent).min(CHUNK as u64);
            match fault {
                Some(Fault::InBody(at, end)) if *at == sent => return Err(*end),
                Some(Fault::InBody(at, _)) => wanted = wanted.min(at - sent),
                Some(Fault::Trickle { length, rate }) if sent < *length => {
                    sleep(Duration::from_secs(1) / TRICKLES);
                    wanted = wanted.min(rate / u64::from(TRICKLES));
                }
                _ => {}
            }
            let part = &mut buffer[..wanted as usize];
            answer.body.read_exact(part)?;
            if let Some(Fault::Corrupt(at)) = fault
                && let Some(byte) = at.checked_sub(offset + sent)
                && byte < wanted
            {
                part[byte as usize] ^= 1;
            }
            self.send(part, is_blob.then_some(number))?;
            sent += wanted;
        }
        Ok(())
    }

    /// Sends to the client and counts: as the body of the blob of request `blob`, or as all else.
    fn send(&mut self, mut bytes: &[u8], blob: Option<usize>) -> Result<(), End> {
        while !bytes.is_empty() {
            let room = {
                let state = lock(&self.state);
                let Sent { blobs, rest } = state.connections[self.number];
                state.connections_carry.map_or(u64::MAX, |most| most.saturating_sub(blobs + rest))
            };
            if room == 0 {
                return Err(End::Closed);
            }
            let part = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let sent = self.client.get_ref().write(&bytes[..part])?;
            bytes = &bytes[sent..];
            let mut state = lock(&self.state);
            match blob {
                Some(number) => {
                    state.asked[number].blob_bytes += sent as u64;
                    state.connections[self.number].blobs += sent as u64;
                }
                None => state.connections[self.number].rest += sent as u64,
            }
        }
        Ok(())
    }
}

/// The closed range `bytes=N-M`, so much further ahead.
fn earlier(range: &str, by: u64) -> String {
    let ends = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).expect("a closed range");
    let [first, last] = [ends.0, ends.1].map(|end| end.parse::<u64>().expect("a closed range") - by);
    format!("bytes={first}-{last}")
}
