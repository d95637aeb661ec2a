//! Proxies, by the variables that curl, Docker and Go's programs heed.
//!
//! `HTTPS_PROXY` for https, by CONNECT; `HTTP_PROXY` for http, by whole URLs in the request's first line;
//! `NO_PROXY` for what is reached without one; all in lower case, too. This machine itself is never reached
//! by a proxy. The proxy finds the names' addresses, which a closed network may not be able to. Passwords in
//! these variables show up nowhere but in `Proxy-Authorization`.

use super::credentials::{Credential, Secret, basic};
use super::http::{Class, Failure};
use super::url::{absolute, is_loopback};
use crate::error::{Error, Kind};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use ureq::http::Uri;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, Either, NextTimeout, Transport};

/// The longest head of an answer to CONNECT, in bytes: what the input buffer holds.
const HEAD_MAX: usize = 8 << 10;

/// One proxy.
#[derive(Debug)]
pub(super) struct Proxy {
    /// `http://host:port`, without user and password.
    pub(super) url: Uri,
    /// The `Proxy-Authorization` header's value.
    authorization: Option<Secret>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.authority().map_or("", |authority| authority.as_str()))
    }
}

/// What the environment says.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    https: Option<Result<Proxy, String>>,
    http: Option<Result<Proxy, String>>,
    without: String,
}

impl Proxies {
    /// Those of this process's environment.
    pub(super) fn of_environment() -> Proxies {
        Proxies::new(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// Reads the proxies from an environment, by its `variable`s.
    pub(super) fn new(variable: &dyn Fn(&str) -> Option<String>) -> Proxies {
        let find = |name: &str| {
            let lower = name.to_ascii_lowercase();
            let found = variable(name).map(|value| (name.to_owned(), value));
            found.or_else(|| variable(&lower).map(|value| (lower, value)))
        };
        let proxy = |name: &str| {
            find(name).map(|(name, value)| parse(&value).map_err(|what| format!("${name} {what}")))
        };
        let without = find("NO_PROXY").map(|(_, value)| value).unwrap_or_default();
        Proxies { https: proxy("HTTPS_PROXY"), http: proxy("HTTP_PROXY"), without }
    }

    /// The proxy for a URL. An error is about the variable that names it.
    pub(super) fn of(&self, url: &Uri) -> Result<Option<&Proxy>, Error> {
        let secure = url.scheme_str() == Some("https");
        let proxy = if secure { &self.https } else { &self.http };
        let (Some(proxy), Some(host)) = (proxy, url.host()) else { return Ok(None) };
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        if is_loopback(host) || self.without.split([',', ' ']).any(|entry| is_for(entry.trim(), host, port)) {
            return Ok(None);
        }
        proxy.as_ref().map(Some).map_err(|what| {
            Error::new(Kind::Usage, what.clone()).hint("a proxy is http://[USER:PASSWORD@]HOST[:PORT]")
        })
    }
}

/// `[http://][user:password@]host[:port]`. The error shows nothing of it, as there may be a password.
fn parse(value: &str) -> Result<Proxy, String> {
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    if !scheme.eq_ignore_ascii_case("http") {
        let scheme: String = scheme.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        return Err(format!("names a proxy of the kind {scheme}, which is not supported"));
    }
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, rest),
    };
    let port_fits = match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok(),
        _ => true,
    };
    let url = absolute(&format!("http://{host}")).filter(|_| port_fits).ok_or("is no proxy's address")?;
    let authorization = user.map(|user| {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        match basic(&format!("{}:{}", decoded(user), decoded(password))) {
            Credential::Basic(secret) => Secret::new(format!("Basic {}", secret.reveal())),
            _ => unreachable!("basic makes Basic"),
        }
    });
    Ok(Proxy { url, authorization })
}

/// Percent-decoded; what is no such escape stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let hex = behind.get(..2).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|hex| !hex.starts_with('+')).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &behind[2..];
            }
            None => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Does an entry of `NO_PROXY` mean this host? `*`; an address or `address/bits`; a name with all below it; with a
/// dot before it, only what is below it; each may have a port.
fn is_for(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') || name.ends_with(']') => (name, Some(digits)),
        _ => (entry, None),
    };
    if name.is_empty() || wanted.is_some_and(|wanted| wanted.parse() != Ok(port)) {
        return false;
    }
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let (name, host) = (bare(name), bare(host));
    if let Ok(address) = host.parse::<IpAddr>() {
        let (network, bits) =
            name.split_once('/').map_or((&*name, None), |(network, bits)| (network, Some(bits)));
        return network.parse().is_ok_and(|network| is_in(address, network, bits));
    }
    let host = host.trim_end_matches('.');
    match name.trim_start_matches('*').strip_prefix('.') {
        Some(below) => host.strip_suffix(below).is_some_and(|rest| rest.ends_with('.')),
        None => host.strip_suffix(&*name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    }
}

fn is_in(address: IpAddr, network: IpAddr, bits: Option<&str>) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    let Ok(bits) = bits.map_or(Ok(width), str::parse::<u32>) else { return false };
    bits <= width && (address ^ network).checked_shr(width - bits).unwrap_or(0) == 0
}

/// Behind the TCP connection, which is one to the proxy: makes of it one to the host.
#[derive(Debug)]
pub(super) struct Tunnel(pub(super) Arc<Proxies>);

impl<In: Transport> Connector<In> for Tunnel {
    type Out = Either<In, WholeUrls<In>>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(mut transport) = chained else { return Ok(None) };
        let proxy = self.0.of(details.uri).map_err(|error| ureq::Error::Other(Box::new(error)))?;
        let Some(proxy) = proxy else { return Ok(Some(Either::A(transport))) };
        let authority = details.uri.authority().map_or("", |authority| authority.as_str());
        let login = proxy.authorization.as_ref();
        let login =
            login.map(|login| format!("Proxy-Authorization: {}\r\n", login.reveal())).unwrap_or_default();
        if !details.needs_tls() {
            let prefix = format!("http://{authority}");
            return Ok(Some(Either::B(WholeUrls { transport, prefix, login, at_start: true })));
        }
        let target = match details.uri.port_u16() {
            Some(_) => authority.to_owned(),
            None => format!("{authority}:443"),
        };
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n");
        send(&mut transport, request.as_bytes(), details.timeout)?;
        let status = answer(&mut transport, details.timeout)?;
        if !(200..300).contains(&status) {
            return Err(ureq::Error::Other(Box::new(Refused(proxy.to_string(), target, status))));
        }
        Ok(Some(Either::A(transport)))
    }
}

/// Sends bytes, whatever the size of the output buffer.
fn send(transport: &mut dyn Transport, bytes: &[u8], timeout: NextTimeout) -> Result<(), ureq::Error> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let output = transport.buffers().output();
        let amount = output.len().min(rest.len());
        output[..amount].copy_from_slice(&rest[..amount]);
        transport.transmit_output(amount, timeout)?;
        rest = &rest[amount..];
    }
    Ok(())
}

/// The status of the answer to a CONNECT, which has no body unless it is an error.
fn answer(transport: &mut dyn Transport, timeout: NextTimeout) -> Result<u16, ureq::Error> {
    loop {
        let input = transport.buffers().input();
        if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            let status =
                input.strip_prefix(b"HTTP/1.").and_then(|rest| std::str::from_utf8(rest.get(2..5)?).ok());
            let status = status.and_then(|status| status.parse().ok()).unwrap_or(0);
            transport.buffers().input_consume(end + 4);
            return Ok(status);
        }
        if input.len() > HEAD_MAX {
            return Ok(0);
        }
        if !transport.await_input(timeout)? {
            // One that is started anew, or overloaded.
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// A proxy does not connect.
#[derive(Debug)]
pub(super) struct Refused(String, String, u16);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused(proxy, target, status) = self;
        match status {
            0 => write!(f, "the proxy {proxy} does not answer as a proxy does"),
            407 => write!(f, "the proxy {proxy} wants another user and password (HTTP 407)"),
            _ => write!(f, "the proxy {proxy} does not connect to {target} (HTTP {status})"),
        }
    }
}

impl std::error::Error for Refused {}

impl Refused {
    /// What it means for the next try.
    pub(super) fn failure(&self) -> Failure {
        match self.2 {
            407 => Failure::last(wants_login(self.to_string())),
            500.. => Failure::new(Class::Busy, Error::new(Kind::Network, self.to_string())),
            _ => Failure::last(
                Error::new(Kind::Network, self.to_string()).hint("does NO_PROXY have to name it?"),
            ),
        }
    }
}

/// A proxy's 407.
pub(super) fn wants_login(message: String) -> Error {
    Error::new(Kind::Auth, message).hint("HTTPS_PROXY or HTTP_PROXY=http://USER:PASSWORD@HOST:PORT")
}

/// A connection to a proxy for http: what is asked for is a whole URL (RFC 9112, 3.2.2).
#[derive(Debug)]
pub(super) struct WholeUrls<In> {
    transport: In,
    /// `http://authority`.
    prefix: String,
    login: String,
    /// Does the next output begin a request?
    at_start: bool,
}

impl<In: Transport> Transport for WholeUrls<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        if !std::mem::replace(&mut self.at_start, false) {
            return self.transport.transmit_output(amount, timeout);
        }
        // ureq writes a request's first line in one piece: `GET /path HTTP/1.1`.
        let head = self.transport.buffers().output()[..amount].to_vec();
        let path = head.iter().position(|&byte| byte == b' ').map_or(0, |space| space + 1);
        let line = head.windows(2).position(|window| window == b"\r\n").map_or(path, |end| end + 2);
        let parts =
            [&head[..path], self.prefix.as_bytes(), &head[path..line], self.login.as_bytes(), &head[line..]];
        send(&mut self.transport, &parts.concat(), timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.at_start = true;
        self.transport.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::config::Config;
    use ureq::unversioned::resolver::{DefaultResolver, Resolver};
    use ureq::unversioned::transport::{LazyBuffers, time};

    /// A proxy that answers to a CONNECT, and hangs up.
    #[derive(Debug)]
    struct Answers(LazyBuffers, &'static [u8]);

    impl Transport for Answers {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.0
        }

        fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), ureq::Error> {
            Ok(())
        }

        fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
            let answer = std::mem::take(&mut self.1);
            self.0.input_append_buf()[..answer.len()].copy_from_slice(answer);
            self.0.input_appended(answer.len());
            Ok(!answer.is_empty())
        }

        fn is_open(&mut self) -> bool {
            true
        }
    }

    fn tunnel(answer: &'static [u8]) -> Result<(), ureq::Error> {
        let resolver = DefaultResolver::default();
        let details = ConnectionDetails {
            uri: &"https://r.example/".parse().unwrap(),
            addrs: resolver.empty(),
            config: &Config::default(),
            request_level: false,
            resolver: &resolver,
            now: time::Instant::now(),
            timeout: NextTimeout::default(),
            current_time: Arc::new(time::Instant::now),
            run_connector: Arc::new(|_| unreachable!()),
            register_shutdown: Arc::new(|_| Ok(())),
        };
        let tunnel = Tunnel(Arc::new(proxies(&[("HTTPS_PROXY", "p.example:3128")])));
        tunnel.connect(&details, Some(Answers(LazyBuffers::new(16 << 10, 64), answer))).map(drop)
    }

    #[test]
    fn answers_to_connect() {
        for good in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 \r\nX: y\r\n\r\n", "HTTP/1.1 204 None\r\n\r\n"]
        {
            tunnel(good.as_bytes()).expect(good);
        }
        for (answer, class) in [
            ("HTTP/1.1 403 Forbidden\r\n\r\n", Class::Final),
            ("HTTP/1.1 503 Busy\r\n\r\n", Class::Busy),
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n", Class::Final),
        ] {
            let Err(ureq::Error::Other(other)) = tunnel(answer.as_bytes()) else { panic!("{answer}") };
            assert_eq!(other.downcast_ref::<Refused>().unwrap().failure().class, class, "{answer}");
        }
        // One that is started anew says nothing, or half of it.
        for nothing in ["", "HTTP/1.1 200"] {
            let result = tunnel(nothing.as_bytes());
            assert!(
                matches!(&result, Err(ureq::Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof),
                "{result:?}"
            );
        }
    }

    fn proxies(set: &[(&str, &str)]) -> Proxies {
        Proxies::new(&|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn of(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(&url.parse().unwrap()).unwrap().map(Proxy::to_string)
    }

    #[test]
    fn each_scheme_has_its_own() {
        let both = proxies(&[("HTTPS_PROXY", "http://s.example:3128"), ("http_proxy", "p.example")]);
        assert_eq!(of(&both, "https://r.example/"), Some("s.example:3128".into()));
        assert_eq!(of(&both, "http://r.example/"), Some("p.example".into()));
        for url in ["https://localhost/", "https://127.0.0.1:5000/", "http://[::1]:5000/"] {
            assert_eq!(of(&both, url), None, "{url}");
        }
        assert_eq!(of(&proxies(&[("HTTP_PROXY", "p")]), "https://r.example/"), None);
    }

    #[test]
    fn no_proxy_as_curl_and_go_read_it() {
        for (entry, url, without) in [
            ("*", "https://r.example/", true),
            ("r.example", "https://r.example/", true),
            ("R.Example", "https://r.eXample/", true),
            ("example", "https://r.example/", true),
            ("r.example", "https://evil-r.example/", false),
            (".example", "https://r.example/", true),
            (".r.example", "https://r.example/", false),
            ("*.example", "https://r.example/", true),
            ("r.example:5000", "https://r.example:5000/", true),
            ("r.example:5000", "https://r.example/", false),
            ("r.example:443", "https://r.example/", true),
            ("other, r.example ,x", "https://r.example/", true),
            ("a b r.example", "https://r.example/", true),
            ("10.0.0.0/8", "https://10.9.9.9:5000/", true),
            ("10.0.0.0/8", "https://11.0.0.1/", false),
            ("10.0.0.0/99", "https://10.0.0.0/", false),
            ("0.0.0.0/0", "https://11.0.0.1/", true),
            ("10.0.0.1", "https://10.0.0.1/", true),
            ("10.0.0.1:80", "https://10.0.0.1/", false),
            ("fd00::/8", "https://[fd12::1]:5000/", true),
            ("[fd12::1]:5000", "https://[fd12::1]:5000/", true),
            ("fd12::1", "https://[fd12::1]/", true),
            ("fd12::2", "https://[fd12::1]/", false),
            ("10.0.0.1", "https://10.0.0.1.example/", false),
            ("", "https://r.example/", false),
        ] {
            let set = proxies(&[("HTTPS_PROXY", "p.example"), ("NO_PROXY", entry)]);
            assert_eq!(of(&set, url).is_none(), without, "{entry} {url}");
        }
    }

    #[test]
    fn a_password_is_shown_to_the_proxy_only() {
        let set = proxies(&[("HTTPS_PROXY", "http://us%65r:hunt%40er2%@p.example:3128/")]);
        let proxy = set.of(&"https://r.example/".parse().unwrap()).unwrap().unwrap();
        let expected = basic("user:hunt@er2%");
        let Credential::Basic(expected) = expected else { panic!() };
        assert_eq!(proxy.authorization.as_ref().unwrap().reveal(), format!("Basic {}", expected.reveal()));
        assert_eq!(proxy.to_string(), "p.example:3128");
        assert!(!format!("{set:?}").contains("hunt"), "{set:?}");
        for value in
            ["socks5://user:hunter2@p:1080", "https://user:hunter2@p", "http://user:hunter2@p:x", "http://"]
        {
            let error = proxies(&[("https_proxy", value)])
                .of(&"https://r.example/".parse().unwrap())
                .map(drop)
                .unwrap_err();
            let text = error.to_string();
            assert!(text.contains("$https_proxy") && !text.contains("hunter2"), "{text}");
        }
    }
}
