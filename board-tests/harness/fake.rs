//! A registry that does as it is told: serves an image honestly, and takes others, except where a test has written
//! down which wrong answers come first. It keeps every request, so that a test can read what was sent.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedCipherSuite};

use super::image::{Artifact, digest_of};
use super::machine::for_guest;
use super::pki::Authority;
use super::taken::Taken;

/// How one request is answered.
#[derive(Clone)]
pub enum Answer {
    /// As a registry should.
    Honest,
    /// Honestly, but the connection ends after so many bytes of the body.
    DropAfter(usize),
    /// Honestly, but after so many bytes of the body nothing more comes, until the client goes away.
    StallAfter(usize),
    /// All of it with status 200, also when a part was asked for.
    IgnoreRange,
    /// Status 206 with a `Content-Range` and bytes that begin this many bytes too early.
    RangeEarlierBy(usize),
    /// Exactly this: status, header fields, body.
    Exactly(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Status 307 to another place.
    Redirect(String),
    /// These bytes in place of status line and all that follows, and then those, until the client goes away.
    Flood(Vec<u8>, Vec<u8>),
}

impl Answer {
    /// A status with an empty body.
    pub fn status(code: u16) -> Answer {
        Answer::Exactly(code, Vec::new(), Vec::new())
    }
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A header field by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// All header fields, their names in lower case, as often and in the order in which they came.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[derive(Default)]
struct State {
    artifact: Option<Artifact>,
    script: HashMap<String, VecDeque<Answer>>,
    login: Option<String>,
    date: Option<String>,
    requests: Vec<Request>,
    taken: Taken,
}

/// The running server; its thread lives until the tests end.
pub struct FakeRegistry {
    address: String,
    state: Arc<Mutex<State>>,
}

impl FakeRegistry {
    /// Serves `artifact` as every tag of every name, at a free port of 127.0.0.1.
    pub fn serving(artifact: &Artifact) -> FakeRegistry {
        FakeRegistry::listening("127.0.0.1", artifact, None)
    }

    /// The same at another loopback address: to a client, another host.
    pub fn serving_at(host: &str, artifact: &Artifact) -> FakeRegistry {
        FakeRegistry::listening(host, artifact, None)
    }

    /// The same with TLS.
    pub fn serving_with_tls(artifact: &Artifact, authority: &Authority) -> FakeRegistry {
        FakeRegistry::serving_with_tls_at("127.0.0.1", artifact, authority)
    }

    /// The same at another address of this machine.
    pub fn serving_with_tls_at(host: &str, artifact: &Artifact, authority: &Authority) -> FakeRegistry {
        FakeRegistry::secured(host, artifact, authority, rustls::crypto::ring::default_provider())
    }

    /// The same with TLS in this cipher suite alone, and so in this version of TLS.
    pub fn serving_with_suite(
        artifact: &Artifact,
        authority: &Authority,
        suite: SupportedCipherSuite,
    ) -> FakeRegistry {
        let provider =
            CryptoProvider { cipher_suites: vec![suite], ..rustls::crypto::ring::default_provider() };
        FakeRegistry::secured("127.0.0.1", artifact, authority, provider)
    }

    fn secured(
        host: &str,
        artifact: &Artifact,
        authority: &Authority,
        provider: CryptoProvider,
    ) -> FakeRegistry {
        let certificate = CertificateDer::from_pem_file(authority.certificate()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(authority.key()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate], key))
            .expect("a TLS configuration");
        FakeRegistry::listening(host, artifact, Some(Arc::new(config)))
    }

    fn listening(host: &str, artifact: &Artifact, tls: Option<Arc<ServerConfig>>) -> FakeRegistry {
        let listener = TcpListener::bind((host, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(Mutex::new(State { artifact: Some(artifact.clone()), ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                // A client that hangs up is what some tests are about: not an error here.
                std::thread::spawn(move || match tls {
                    None => drop(serve(stream, &state)),
                    Some(config) => {
                        let tls = ServerConnection::new(config).expect("a TLS connection");
                        drop(serve(StreamOwned::new(tls, stream), &state));
                    }
                });
            }
        });
        FakeRegistry { address, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the registry's state")
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The name of the image here.
    pub fn image(&self) -> String {
        format!("{}/board/app:latest", self.address)
    }

    /// The same name for a guest in QEMU.
    pub fn image_for_guest(&self) -> String {
        for_guest(&self.image())
    }

    /// Where a blob is.
    pub fn blob_url(&self, digest: &str) -> String {
        format!("http://{}/v2/board/app/blobs/{digest}", self.address)
    }

    /// The first requests for a blob get these answers; those after them an honest one.
    pub fn at_blob(self, digest: &str, answers: impl IntoIterator<Item = Answer>) -> FakeRegistry {
        self.at(&format!("blobs/{digest}"), answers)
    }

    /// The same for the manifest by its tag.
    pub fn at_manifest(self, answers: impl IntoIterator<Item = Answer>) -> FakeRegistry {
        self.at("manifests/latest", answers)
    }

    /// The same for anything else: the first requests whose path ends so, or whose method and path do (`PUT /v2/…`).
    pub fn at(self, end_of_path: &str, answers: impl IntoIterator<Item = Answer>) -> FakeRegistry {
        self.state().script.insert(end_of_path.to_owned(), answers.into_iter().collect());
        self
    }

    /// Every request needs this `Authorization` field; without it, status 401 asks for Basic.
    pub fn wanting_authorization(self, value: String) -> FakeRegistry {
        self.state().login = Some(value);
        self
    }

    /// Manifests and blobs come with this `Date` field; without it, with none.
    pub fn saying_date(self, date: String) -> FakeRegistry {
        self.state().date = Some(date);
        self
    }

    /// What it has been given so far: names and digests of manifests.
    pub fn published(&self) -> Vec<String> {
        self.state().taken.names()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// The `Range` fields of all GET requests for a blob, in order; "-" where there was none.
    pub fn ranges_of(&self, digest: &str) -> Vec<String> {
        let asked = self.requests();
        let gets = asked.iter().filter(|r| r.method == "GET" && r.path.ends_with(digest));
        gets.map(|r| r.header("range").unwrap_or("-").to_owned()).collect()
    }
}

fn serve(stream: impl Read + Write, state: &Mutex<State>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let Some(request) = read_request(&mut stream)? else { return Ok(()) };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let line = format!("{} {}", request.method, request.path);
    let (answer, honest, allowed) = {
        let mut state = state.lock().expect("the registry's state");
        state.requests.push(request.clone());
        let scripted = state.script.iter_mut().find(|(path, _)| line.ends_with(path.as_str()));
        let answer = scripted.and_then(|(_, answers)| answers.pop_front()).unwrap_or(Answer::Honest);
        let allowed = state.login.is_none() || state.login.as_deref() == request.header("authorization");
        let is_taken = matches!(answer, Answer::Honest) && allowed;
        if let Some((status, fields, body)) = is_taken.then(|| state.taken.answer(&request, &body)).flatten()
        {
            return respond(stream.get_mut(), &request, status, &fields, &body, usize::MAX);
        }
        let mut honest = state.artifact.as_ref().and_then(|artifact| find(artifact, &request.path));
        if let Some((_, fields)) = &mut honest {
            fields.extend(state.date.iter().map(|date| ("Date", date.clone())));
        }
        (answer, honest, allowed)
    };
    let out = stream.get_mut();
    if let Answer::Flood(head, again) = answer {
        out.write_all(&head)?;
        loop {
            out.write_all(&again)?;
        }
    }
    if !allowed {
        let challenge = "Basic realm=\"board-tests\"".to_owned();
        return respond(out, &request, 401, &[("WWW-Authenticate", challenge)], b"", usize::MAX);
    }
    if request.path == "/v2/" {
        return respond(out, &request, 200, &[], b"{}", usize::MAX);
    }
    let range = request.header("range").and_then(closed_range);
    let Some((data, fields)) = honest else {
        return match answer {
            Answer::Exactly(status, more, body) => respond(out, &request, status, &more, &body, usize::MAX),
            Answer::Redirect(url) => respond(out, &request, 307, &[("Location", url)], b"", usize::MAX),
            _ => respond(out, &request, 404, &[], b"{\"errors\":[]}", usize::MAX),
        };
    };
    let part = |stream: &mut _, early: usize, limit: usize| match range {
        Some((first, last)) => {
            let (first, last) = (first - early, last.min(data.len() - 1) - early);
            let span = format!("bytes {first}-{last}/{}", data.len());
            respond(stream, &request, 206, &[("Content-Range", span)], &data[first..=last], limit)
        }
        None => respond(stream, &request, 200, &fields, &data, limit),
    };
    match answer {
        Answer::Honest => part(out, 0, usize::MAX),
        Answer::DropAfter(bytes) => part(out, 0, bytes),
        Answer::StallAfter(bytes) => {
            part(out, 0, bytes)?;
            stream.read_exact(&mut [0]) // ends when the client does
        }
        Answer::RangeEarlierBy(bytes) => part(out, bytes, usize::MAX),
        Answer::IgnoreRange => respond(out, &request, 200, &fields, &data, usize::MAX),
        Answer::Exactly(status, more, body) => respond(out, &request, status, &more, &body, usize::MAX),
        Answer::Redirect(url) => respond(out, &request, 307, &[("Location", url)], b"", usize::MAX),
        Answer::Flood(..) => Ok(()), // above
    }
}

pub(super) type Fields = Vec<(&'static str, String)>;

/// The bytes behind a path, with the header fields that a registry gives.
fn find(artifact: &Artifact, path: &str) -> Option<(Vec<u8>, Fields)> {
    let (rest, last) = path.split('?').next()?.rsplit_once('/')?;
    let digest = if last.starts_with("sha256:") { last } else { artifact.digest() };
    let data = artifact.blobs.get(digest)?.clone();
    if rest.ends_with("/blobs") {
        return Some((data, vec![("Content-Type", "application/octet-stream".into())]));
    }
    let value: serde_json::Value = serde_json::from_slice(&data).unwrap_or_default();
    let media_type = value["mediaType"].as_str().unwrap_or("application/json").to_owned();
    let fields = vec![("Content-Type", media_type), ("Docker-Content-Digest", digest_of(&data))];
    Some((data, fields))
}

/// `bytes=N-M`; registries differ in what they make of an open range, so this one knows only closed ones.
fn closed_range(field: &str) -> Option<(usize, usize)> {
    let (first, last) = field.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// The next request of a connection; `None` where there is no more.
pub(super) fn read_request(stream: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut first = String::new();
    stream.read_line(&mut first)?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Some(Request { method, path, headers }))
}

/// Sends an answer, of its body no more than `limit` bytes, and ends the connection.
fn respond(
    stream: &mut impl Write,
    request: &Request,
    status: u16,
    fields: &[(&'static str, String)],
    body: &[u8],
    limit: usize,
) -> std::io::Result<()> {
    let mut head =
        format!("HTTP/1.1 {status} Scripted\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(&body[..body.len().min(limit)])?;
    }
    stream.flush()
}
