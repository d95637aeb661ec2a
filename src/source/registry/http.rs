//! One HTTP request, redirects included: what is sent to whom, and what kind of failure comes back.
//!
//! Redirects are followed here and not by ureq, because an `Authorization` header belongs to one origin
//! (S3 answers 400 to a foreign one, and it is nobody else's business), and https must not lead to http.
//! Time-outs are such that a slow link never fails: only connecting, a connection that sends nothing at all, and one
//! that sends next to nothing ([`super::pace`]), are limited.

use super::body::BodyStream;
use super::dns::{self, Dns};
use super::exchange::Exchange;
pub(super) use super::failure::{Class, Failure};
use super::hosts::Place;
use super::near::{self, Ranges};
use super::pace::{Pace, TooSlow};
use super::proxy::{Proxies, Refused, Tunnel};
use super::refusal;
use super::retry::retry_after;
use super::tcp::Tcp;
use super::tls::{HandshakeFailed, Setup, Tls};
use super::url::{Origin, Own, leads, shown};
use super::verify::Floored;
use crate::error::{Error, Kind};
use crate::source::Options;
use crate::sys;
use rustls::AlertDescription;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::request::Builder;
use ureq::http::uri::Scheme;
use ureq::http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use ureq::unversioned::resolver::{DefaultResolver, Resolver};
use ureq::unversioned::transport::Connector;
use ureq::{Agent, AsSendBody, Body, Timeout};

/// The most redirects that one request follows.
pub(super) const REDIRECTS_MAX: usize = 5;
/// How long connecting may take, TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The same for a mirror, without which it goes on.
const MIRROR_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the head of an answer may take, from its first byte awaited to its last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// What one read takes from a connection at most, in bytes: one TLS record. It is the longest head of an answer, too.
const INPUT_BUFFER: usize = 16 << 10;
/// The longest line of a request's head, in bytes: a signed URL, or a token, of which GitLab and Harbor make such as name
/// every project of a user. ureq writes whole lines into its buffer, which has this size.
const LINE_MAX: usize = 65 << 10;
/// What surrounds a URL or a header's name and value in their lines, at most: `HEAD `, ` HTTP/1.1`, `: `, the line's end.
const LINE_FRAME: usize = 16;
/// What a board without a network needs.
const NO_ROUTE: &str = "is the network up? (ip link set eth0 up, an address, a default route; or DHCP)";
/// Open connections that are kept for the next request: the registry's and its blob store's.
const IDLE_CONNECTIONS: usize = 2;

/// Says who has made up a URL that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The user has named the host, and edgepull has made up the rest by the protocol; its peer may be anywhere.
    User,
    /// A server, or an image, has named the URL; it must not lead to where only this board can reach ([`near`]).
    Server,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    /// Head and body.
    pub(super) response: Response<Body>,
    /// Who gave it, after redirects.
    pub(super) url: Uri,
    /// Is that the origin that was asked?
    pub(super) same_origin: bool,
    /// Whose connection it came over.
    pub(super) http: Http,
    /// Which of the client's places gave it.
    pub(super) place: usize,
}

impl Answer {
    /// The status code.
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header as text; `None` if it is missing or not ASCII.
    pub(super) fn header(&self, name: impl ureq::http::header::AsHeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Returns the Content-Type without its parameters; empty if there is none.
    pub(super) fn media_type(&self) -> &str {
        let content_type = self.header(header::CONTENT_TYPE).unwrap_or_default();
        content_type.split(';').next().unwrap_or_default().trim()
    }

    /// How long the server wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        retry_after(self.header(header::RETRY_AFTER)?, sys::unix_time())
    }

    /// The body, as a stream whose errors tell who broke off.
    pub(super) fn into_body(self) -> BodyStream {
        BodyStream::new(self.response.into_body().into_reader(), self.http, self.url)
    }
}

/// Sends requests to one host, and to those to which it refers. Clones share everything.
#[derive(Clone)]
pub(super) struct Http(Arc<Shared>);

struct Shared {
    agent: Agent,
    tls: Tls,
    proxies: Arc<Proxies>,
    /// Shared with the connections.
    exchange: Arc<Exchange>,
    stall: Duration,
    connect: Duration,
    /// The host, and what it is told in each request.
    own: Own,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Http {
    /// Makes a client with no connections yet, for `place`, which is the `registry` or a mirror of it. A mirror has
    /// less time to connect.
    pub(super) fn new(
        place: &Place,
        registry: &str,
        is_mirror: bool,
        proxies: &Arc<Proxies>,
        options: &Options,
    ) -> Http {
        Http::with_names(place, registry, is_mirror, proxies, options, DefaultResolver::default())
    }

    /// Makes such a client, which finds names by `names`.
    pub(super) fn with_names(
        place: &Place,
        registry: &str,
        is_mirror: bool,
        proxies: &Arc<Proxies>,
        options: &Options,
        names: impl Resolver,
    ) -> Http {
        let usual = if is_mirror { MIRROR_TIMEOUT } else { CONNECT_TIMEOUT };
        let connect = place.connect.unwrap_or(usual);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("edgepull/", env!("CARGO_PKG_VERSION")))
            // Digests are those of the bytes as stored; nobody on the way may compress them.
            .accept_encoding("identity")
            .timeout_connect(Some(connect))
            .timeout_recv_response(Some(HEAD_TIMEOUT))
            .timeout_per_read(Some(options.stall))
            .timeout_per_write(Some(options.stall))
            .input_buffer_size(INPUT_BUFFER)
            .output_buffer_size(LINE_MAX)
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(1)
            .build();
        let tls = Tls::new(Setup {
            ca_file: options.ca_file.clone(),
            authorities: place.authorities.clone(),
            client: place.client.clone(),
            own: place.own(),
            is_registry: !is_mirror,
            time: Floored { clock: options.clock.clone(), registry: registry.to_owned() },
            network: options.network.clone(),
        });
        let exchange = Arc::new(Exchange::new(place.own().authority, Pace::new(options.lowest)));
        let (network, shared) = (options.network.clone(), exchange.clone());
        let tcp = Tcp { network, exchange: shared, proxies: proxies.clone() };
        let connector = tcp.chain(Tunnel(proxies.clone())).chain(tls.clone());
        Http(Arc::new(Shared {
            agent: Agent::with_parts(config, connector, Dns::new(names, exchange.clone(), proxies.clone())),
            tls,
            proxies: proxies.clone(),
            exchange,
            stall: options.stall,
            connect,
            own: place.own(),
            headers: place.headers.clone(),
        }))
    }

    /// Sends one request to `url`, whose peer may be in the ranges `allowed`, and takes note of the answer's `Date`.
    fn run(
        &self,
        request: Request<impl AsSendBody>,
        url: &Uri,
        allowed: Ranges,
    ) -> Result<Response<Body>, Failure> {
        let path = url.path_and_query().map_or("", |path| path.as_str());
        let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.len()));
        for (name, length) in headers.chain([("URL", path.len())]) {
            if name.len() + length + LINE_FRAME > LINE_MAX {
                let message = format!("{}: a request's {name} would have {length} bytes", self.asked(url));
                return Err(Failure::last(
                    Error::new(Kind::Network, message).hint("edgepull's limit LINE_MAX, 65 KiB"),
                ));
            }
        }
        self.0.exchange.reads_on();
        self.0.exchange.allow(allowed);
        let response = self.0.agent.run(request).map_err(|error| self.failure(error, url))?;
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        self.0.tls.answered(url, date);
        Ok(response)
    }

    /// Somebody reads on in a body.
    pub(super) fn reads_on(&self) {
        self.0.exchange.reads_on();
    }

    /// Notes that so many bytes of a body came.
    pub(super) fn came(&self, bytes: usize) {
        self.0.exchange.came(bytes);
    }

    /// Returns how long its servers were waited for in all.
    pub(super) fn waited(&self) -> Duration {
        self.0.exchange.waited_in_all()
    }

    /// Who was asked, for messages: the host, and the proxy on the way to it.
    fn asked(&self, url: &Uri) -> String {
        let host = url.authority().map_or("", |authority| authority.as_str());
        match self.0.proxies.of(url) {
            Ok(Some(proxy)) => format!("{host} by the proxy {proxy}"),
            _ => host.to_owned(),
        }
    }

    /// Gets what is the user's own, by GET or HEAD, and follows redirects. `authorization` goes to the origin of
    /// `url` only, and the user's headers only to the host that they are for.
    pub(super) fn get(
        &self,
        method: &Method,
        url: &Uri,
        headers: &[(HeaderName, &str)],
        authorization: Option<&str>,
    ) -> Result<Answer, Failure> {
        self.follow(method, url, By::User, headers, authorization, &self.0.headers)
    }

    /// Gets a URL that the host has named, and follows redirects. `authorization` goes to the origin of `url` only.
    pub(super) fn get_referred(&self, url: &Uri, authorization: Option<&str>) -> Result<Answer, Failure> {
        self.follow(&Method::GET, url, By::Server, &[], authorization, &self.0.headers)
    }

    /// GET of a URL that an image has named, following redirects. Nothing is added for anybody.
    pub(super) fn get_foreign(&self, url: &Uri, headers: &[(HeaderName, &str)]) -> Result<Answer, Failure> {
        self.follow(&Method::GET, url, By::Server, headers, None, &[])
    }

    /// Begins the account of time for a request, with all of its redirects, and returns the ranges in which its peer
    /// may be.
    fn begin(&self, by: By) -> Ranges {
        self.0.exchange.begins();
        match by {
            By::User => near::ANY,
            By::Server => self.0.exchange.referred(),
        }
    }

    fn follow(
        &self,
        method: &Method,
        url: &Uri,
        by: By,
        headers: &[(HeaderName, &str)],
        authorization: Option<&str>,
        own: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, Failure> {
        let first = Origin::of(url);
        let (mut url, mut allowed) = (url.clone(), self.begin(by));
        for hop in 0..=REDIRECTS_MAX {
            let same_origin = Origin::of(&url) == first;
            let request = self.request(method, &url, headers, authorization.filter(|_| same_origin), own);
            let request = request.body(()).map_err(|error| self.failure(error.into(), &url))?;
            let response = self
                .run(request, &url, allowed)
                .map_err(|failure| if hop == 0 { failure } else { failure.behind_redirect() })?;
            // Whoever is not near gives no way back to where it is.
            allowed &= self.0.exchange.answered(by == By::User && hop == 0);
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { response, url, same_origin, http: self.clone(), place: 0 });
            }
            url = next(&url, &response).map_err(Failure::last)?;
            log::debug!("redirected to {}", shown(&url));
        }
        let message = format!("{}: more than {REDIRECTS_MAX} redirects", shown(&url));
        Err(Failure::last(Error::new(Kind::Network, message).hint("edgepull's limit REDIRECTS_MAX")))
    }

    /// The head of a request. The user's own headers are for his host only.
    fn request(
        &self,
        method: &Method,
        url: &Uri,
        headers: &[(HeaderName, &str)],
        authorization: Option<&str>,
        own: &[(HeaderName, HeaderValue)],
    ) -> Builder {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        for (name, value) in own.iter().filter(|_| self.0.own.is(url)) {
            request = request.header(name, value);
        }
        request
    }

    /// Sends a form to a URL that the host has named, by POST.
    pub(super) fn post(&self, url: &Uri, form: &str) -> Result<Answer, Failure> {
        let headers = [(header::CONTENT_TYPE, "application/x-www-form-urlencoded")];
        self.send(&Method::POST, url, By::Server, &headers, None, form)
    }

    /// One request with a body. A redirect is an answer like any other: a secret follows none, and what is streamed
    /// cannot. `authorization` goes to whoever `url` names.
    pub(super) fn send(
        &self,
        method: &Method,
        url: &Uri,
        by: By,
        headers: &[(HeaderName, &str)],
        authorization: Option<&str>,
        body: impl AsSendBody,
    ) -> Result<Answer, Failure> {
        let allowed = self.begin(by);
        let request = self.request(method, url, headers, authorization, &self.0.headers);
        let request = request.body(body).map_err(|error| self.failure(error.into(), url))?;
        let response = self.run(request, url, allowed)?;
        self.0.exchange.answered(by == By::User);
        Ok(Answer { response, url: url.clone(), same_origin: true, http: self.clone(), place: 0 })
    }

    /// What a failed request means. `url` was asked.
    pub(super) fn failure(&self, error: ureq::Error, url: &Uri) -> Failure {
        let host = self.asked(url);
        let network = |message: String| Error::new(Kind::Network, format!("{host}: {message}"));
        match error {
            ureq::Error::Timeout(Timeout::Connect) => {
                let message = format!("no connection within {:?}", self.0.connect);
                Failure::new(Class::Passing, network(message)).offline()
            }
            ureq::Error::Timeout(Timeout::RecvResponse) => {
                Failure::new(Class::Passing, network(format!("no whole answer within {HEAD_TIMEOUT:?}")))
            }
            ureq::Error::Timeout(_) => {
                Failure::new(Class::Passing, network(format!("not a byte for {:?}", self.0.stall)))
            }
            ureq::Error::HostNotFound => {
                let class = if dns::is_set_up() { Class::Unreachable } else { Class::Final };
                Failure::new(class, network("the host name is not known".into()).hint(dns::hint())).offline()
            }
            ureq::Error::Other(other) => {
                if let Some(refused) = other.downcast_ref::<Refused>() {
                    return refused.failure();
                }
                if let Some(slow) = other.downcast_ref::<TooSlow>() {
                    return Failure::new(Class::Passing, slow.error(&host));
                }
                match other.downcast::<HandshakeFailed>() {
                    Ok(failed) => self.handshake(failed.0, url, &host),
                    Err(other) => match other.downcast::<Error>() {
                        Ok(own) => Failure::last(*own),
                        Err(other) => Failure::last(network(other.to_string())),
                    },
                }
            }
            ureq::Error::LargeResponseHeader(..) => Failure::last(network(
                "the head of the answer, or of a chunk of it, is larger than 16 KiB".into(),
            )),
            ureq::Error::Io(error) => self.io(error, &host),
            ureq::Error::Protocol(_) if url.scheme() == Some(&Scheme::HTTP) => Failure {
                wants_tls: true,
                ..Failure::last(network("the answer is no HTTP, as of servers that speak TLS only".into()))
            },
            ureq::Error::Protocol(_) => {
                Failure::last(network("the answer is no HTTP".into()).hint("is this a registry?"))
            }
            ureq::Error::Rustls(error) => Failure::last(network(refusal::tls(&error))),
            other => Failure::last(network(other.to_string())),
        }
    }

    /// What a failed read of a body means. The server spoke proper HTTP a moment ago, so whatever cut it
    /// short will pass.
    pub(super) fn broken_body(&self, error: io::Error, url: &Uri) -> Failure {
        let error = match ureq::Error::from(error) {
            ureq::Error::Protocol(_) => io::Error::from(io::ErrorKind::UnexpectedEof).into(),
            other => other,
        };
        Failure::new(Class::Passing, self.failure(error, url).error)
    }

    fn io(&self, error: io::Error, host: &str) -> Failure {
        let network = |message: String| Error::new(Kind::Network, format!("{host}: {message}"));
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return match wants_certificate(tls) {
                true => Failure::last(unknown_to(host, tls)),
                false => Failure::new(Class::Passing, network(refusal::tls(tls))),
            };
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                let error =
                    network("connection refused".into()).hint("nothing listens there: check host and port");
                Failure::new(Class::Unreachable, error).offline()
            }
            io::ErrorKind::UnexpectedEof => {
                Failure::new(Class::Passing, network("the connection was closed too early".into()))
            }
            io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable => {
                let error = Error::from_io(Kind::Network, error).context(host);
                Failure::new(Class::Passing, error.hint(NO_ROUTE)).offline()
            }
            _ => Failure::new(Class::Passing, Error::from_io(Kind::Network, error).context(host)),
        }
    }

    fn handshake(&self, error: io::Error, url: &Uri, host: &str) -> Failure {
        let network = |message: String| Error::new(Kind::Network, format!("{host}: {message}"));
        let mut failure = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(_)) => {
                Failure::last(network("the server does not speak TLS".into()))
            }
            Some(other) if wants_certificate(other) => return Failure::last(unknown_to(host, other)),
            Some(other) => return Failure::last(network(refusal::tls(other))),
            None => self.failure(error.into(), url),
        };
        failure.no_tls = true;
        failure
    }
}

/// Does a server complain about our certificate, or that there was none? (RFC 8446, 6.2)
fn wants_certificate(error: &rustls::Error) -> bool {
    use AlertDescription::*;
    matches!(
        error,
        rustls::Error::AlertReceived(
            CertificateRequired
                | BadCertificate
                | UnsupportedCertificate
                | CertificateRevoked
                | CertificateExpired
                | CertificateUnknown
                | UnknownCA
                | AccessDenied
        )
    )
}

fn unknown_to(host: &str, alert: &rustls::Error) -> Error {
    let message = format!(
        "{host}: the server does not take this board's certificate, or there is none: {}",
        refusal::tls(alert)
    );
    Error::new(Kind::Auth, message).hint(
        "client certificates are HOST/*.cert with *.key in /etc/edgepull/certs.d or --hosts-dir, or `client` in its \
         hosts.toml",
    )
}

/// Where a redirect leads.
fn next(url: &Uri, response: &Response<Body>) -> Result<Uri, Error> {
    let wrong = |what: &str| Error::new(Kind::Network, format!("{}: {what}", shown(url)));
    let target = leads(url, response.headers().get(header::LOCATION))
        .map_err(|why| wrong(&format!("redirects to nowhere: {why}")))?;
    if url.scheme_str() == Some("https") && target.scheme_str() != Some("https") {
        return Err(wrong(&format!("redirects from https to {}", shown(&target)))
            .hint("refused: what is protected must not become readable on the way"));
    }
    Ok(target)
}
