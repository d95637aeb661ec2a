//! The little of RFC 3986 that redirects and token servers need, on top of [`ureq::http::Uri`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use ureq::http::{HeaderValue, Uri};

/// Scheme, host and port: who is spoken to. Credentials never leave the origin they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// Is it https?
    pub(super) secure: bool,
    /// In lower case, IPv6 addresses in brackets.
    pub(super) host: String,
    /// The explicit or the scheme's default port.
    pub(super) port: u16,
}

impl Origin {
    /// The origin of an absolute `http` or `https` URL; `None` for anything else.
    pub(super) fn of(url: &Uri) -> Option<Origin> {
        let secure = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = url.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        // User names in URLs are phishing or leaked secrets; nothing in a registry's protocol uses them.
        if url.authority()?.as_str().contains('@') {
            return None;
        }
        let port = match port_text(url.authority()?.as_str()) {
            "" if secure => 443,
            "" => 80,
            digits => digits.parse().ok()?,
        };
        Some(Origin { secure, host, port })
    }
}

/// A host that the user has named: who gets the user's headers and certificates.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// `host[:port]`.
    pub(super) authority: String,
    /// Https? `None`: a loopback host that was not asked yet.
    pub(super) secure: Option<bool>,
}

impl Own {
    /// Is that who is asked by this URL? Without TLS it is somebody else, who may only call himself so.
    pub(super) fn is(&self, url: &Uri) -> bool {
        let Some(origin) = Origin::of(url) else { return false };
        let scheme = if origin.secure { "https" } else { "http" };
        let own = absolute(&format!("{scheme}://{}/", self.authority));
        self.secure.is_none_or(|secure| secure == origin.secure)
            && own.as_ref().and_then(Origin::of) == Some(origin)
    }
}

/// Says what a URL's host is, before anybody looks it up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// It is an address, however it is written.
    Address(IpAddr),
    /// It is a name, in lower case and without a dot behind it.
    Name(String),
    /// It is neither: it ends in a number and is no address, or has brackets or colons around none.
    Nonsense,
}

/// Returns the host of a URL. IPv4 addresses have all the forms that inet_aton(3) and web browsers (URL Standard,
/// "IPv4 parser") take: one to four numbers, decimal, octal or hexadecimal, of which the last fills what is left.
pub(super) fn host(url: &Uri) -> Host {
    let host = url.host().unwrap_or_default();
    if host.starts_with('[') || host.contains(':') {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        // `%eth0` (RFC 6874) says only by which way it is reached.
        let address = address.split('%').next().and_then(|address| address.parse::<Ipv6Addr>().ok());
        return address.map_or(Host::Nonsense, |address| Host::Address(IpAddr::V6(address)));
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    let (digits, is_digit): (_, fn(&u8) -> bool) = match last.strip_prefix("0x") {
        Some(digits) => (digits, u8::is_ascii_hexdigit),
        None => (last, u8::is_ascii_digit),
    };
    match !last.is_empty() && digits.as_bytes().iter().all(is_digit) {
        true => ipv4(&name).map_or(Host::Nonsense, |address| Host::Address(IpAddr::V4(address))),
        false => Host::Name(name),
    }
}

/// Reads one number of an IPv4 address.
fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    match digits.starts_with('+') {
        true => None,
        // `0x` is zero, too.
        false if digits.is_empty() && radix == 16 => Some(0),
        false => u32::from_str_radix(digits, radix).ok(),
    }
}

fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut parts = text.split('.').map(number).collect::<Option<Vec<u32>>>()?;
    let last = parts.pop().filter(|_| parts.len() < 4)?;
    let free = 32 - 8 * parts.len() as u32;
    let fits = u64::from(last) < 1 << free && parts.iter().all(|part| *part < 256);
    let above = parts.iter().enumerate().fold(0, |all, (at, part)| all | (part << (24 - 8 * at)));
    fits.then(|| Ipv4Addr::from(above | last))
}

/// An absolute `http` or `https` URL; `None` for anything else. A fragment is dropped.
pub(super) fn absolute(text: &str) -> Option<Uri> {
    let text = text.split('#').next()?;
    // A scheme may be in capital letters (RFC 3986, 3.1).
    let (scheme, rest) = text.split_once(':')?;
    let url: Uri = escaped(&format!("{}:{rest}", scheme.to_ascii_lowercase()))?.parse().ok()?;
    Origin::of(&url)?;
    Some(url)
}

/// A URL with what may not stand in one percent-encoded (RFC 3986, 2.1), as Go's net/url does it when it sends what it has
/// parsed: letters beyond ASCII, blanks, and a few signs. `None` for control characters, which that refuses, too.
fn escaped(text: &str) -> Option<String> {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            0..=0x1f | 0x7f => return None,
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                escaped.push_str(&format!("%{byte:02X}"));
            }
            other => escaped.push(other.into()),
        }
    }
    Some(escaped)
}

/// What `reference` (a `Location`) means at `base` (RFC 3986, 5.2); `None` if it is no http(s) URL.
pub(super) fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next()?;
    let scheme = base.scheme_str()?;
    let has_scheme = reference.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    if has_scheme {
        return absolute(reference);
    }
    if reference.starts_with("//") {
        return absolute(&format!("{scheme}:{reference}"));
    }
    let authority = base.authority()?;
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    let path = match path {
        "" => base.path().to_owned(),
        path if path.starts_with('/') => without_dots(path),
        path => {
            let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
            without_dots(&format!("{directory}/{path}"))
        }
    };
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    absolute(&format!("{scheme}://{authority}{path}{query}"))
}

/// Returns where a `Location` of an answer of `base` leads.
///
/// # Errors
/// Returns why it leads to nowhere, to stand behind a colon.
pub(super) fn leads(base: &Uri, location: Option<&HeaderValue>) -> Result<Uri, &'static str> {
    let location = location.ok_or("there is no Location")?;
    // It need not be UTF-8. What is beyond ASCII is escaped byte by byte, as by Go's net/url.
    let text: String = (location.as_bytes().iter())
        .map(|byte| match byte {
            0x80.. => format!("%{byte:02X}"),
            ascii => char::from(*ascii).to_string(),
        })
        .collect();
    resolve(base, &text).ok_or_else(|| {
        let authority = text.split_once("//").map_or("", |(_, rest)| rest);
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        match port_text(authority) {
            _ if authority.contains('@') => {
                "its Location has a user's name or password, which edgepull sends to nobody"
            }
            digits if !digits.is_empty() && digits.parse::<u16>().is_err() => {
                "its Location has a port that is none"
            }
            _ => "its Location is no http or https URL",
        }
    })
}

/// Returns what stands behind the colon of an authority; empty if there is none. An IPv6 address has its colons in brackets.
fn port_text(authority: &str) -> &str {
    let behind = authority.rsplit_once(']').map_or(authority, |(_, behind)| behind);
    behind.rsplit_once(':').map_or("", |(_, port)| port)
}

/// Removes `.` and `..` segments (RFC 3986, 5.2.4) from an absolute path.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

/// A URL for messages: without the query, where signed URLs have their secrets.
pub(super) fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!("{}://{authority}{}", url.scheme_str().unwrap_or_default(), url.path())
}

/// `url` with more of a query.
pub(super) fn with_query(url: &Uri, query: &str) -> Option<Uri> {
    let joint = if url.query().is_some() { '&' } else { '?' };
    absolute(&format!("{url}{joint}{query}"))
}

/// `text` for a query or form: all but RFC 3986's unreserved characters percent-encoded.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// Is `host` (`name` or `name:port`) this machine itself? Docker tries these without TLS.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved() {
        let base: Uri = "https://r.example:5000/v2/a/blobs/sha256:1?x=1".parse().unwrap();
        for (location, url) in [
            ("https://cdn.example/x?sig=%2F#part", "https://cdn.example/x?sig=%2F"),
            ("HTTPS://cdn.example/x", "https://cdn.example/x"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("/x?y", "https://r.example:5000/x?y"),
            ("x", "https://r.example:5000/v2/a/blobs/x"),
            ("./x", "https://r.example:5000/v2/a/blobs/x"),
            ("../../x/.", "https://r.example:5000/v2/x/"),
            ("/../../x", "https://r.example:5000/x"),
            ("?y=2", "https://r.example:5000/v2/a/blobs/sha256:1?y=2"),
            ("x/a:b", "https://r.example:5000/v2/a/blobs/x/a:b"),
            ("/a b", "https://r.example:5000/a%20b"),
            ("/é?q=\"{}|\\^`<>", "https://r.example:5000/%C3%A9?q=%22%7B%7D%7C%5C%5E%60%3C%3E"),
            ("/%zz", "https://r.example:5000/%zz"),
            ("h\u{8b}", "https://r.example:5000/v2/a/blobs/h%C2%8B"),
        ] {
            assert_eq!(
                resolve(&base, location).map(|url| url.to_string()).as_deref(),
                Some(url),
                "{location}"
            );
        }
        for location in [
            "ftp://x/y",
            "file:///etc/passwd",
            "javascript:1",
            "https://u:p@x/y",
            "https://",
            "/a\tb",
            "/\u{7f}",
        ] {
            assert_eq!(resolve(&base, location), None, "{location}");
        }
    }

    #[test]
    fn a_location_that_leads_nowhere_says_why() {
        let base: Uri = "https://r.example:5000/v2/a/blobs/x".parse().unwrap();
        let leads = |bytes: &[u8]| {
            leads(&base, Some(&HeaderValue::from_bytes(bytes).unwrap())).map(|url| url.to_string())
        };
        for (location, url) in [
            (&b"/\xe4?q=\xff"[..], "https://r.example:5000/%E4?q=%FF"),
            ("/ä".as_bytes(), "https://r.example:5000/%C3%A4"),
            (b"https://[::1]:65535/x", "https://[::1]:65535/x"),
            (b"https://[::1]/a@b", "https://[::1]/a@b"),
            (b"https://a.example:/x", "https://a.example:/x"),
        ] {
            assert_eq!(leads(location).as_deref(), Ok(url));
        }
        for (location, why) in [
            ("http://u:p@127.0.0.1/x", "password"),
            ("//u@cdn.example/x", "password"),
            ("http://127.0.0.1:99999/", "port that is none"),
            ("https://[::1]:65536/", "port that is none"),
            ("ftp://a.example/x", "no http or https URL"),
            ("https://", "no http or https URL"),
        ] {
            let found = leads(location.as_bytes()).unwrap_err();
            assert!(found.contains(why), "{location}: {found}");
        }
        assert_eq!(super::leads(&base, None), Err("there is no Location"));
    }

    #[test]
    fn a_url_may_have_a_query_already() {
        let join = |url: &str| with_query(&absolute(url).unwrap(), "scope=a").unwrap().to_string();
        assert_eq!(join("https://a.example/token"), "https://a.example/token?scope=a");
        assert_eq!(join("https://a.example/token?x=y"), "https://a.example/token?x=y&scope=a");
        assert_eq!(join("https://a.example"), "https://a.example/?scope=a");
    }

    #[test]
    fn default_ports_are_the_same_origin() {
        let origin = |text: &str| Origin::of(&text.parse().unwrap()).unwrap();
        assert_eq!(origin("https://A.example/x"), origin("https://a.example:443/y"));
        assert_ne!(origin("https://a.example/"), origin("http://a.example/"));
        assert_ne!(origin("https://a.example/"), origin("https://a.example:444/"));
    }

    #[test]
    fn a_host_without_tls_is_another() {
        let is = |authority: &str, secure, url: &str| {
            Own { authority: authority.to_owned(), secure }.is(&url.parse().unwrap())
        };
        assert!(is("R.example", Some(true), "https://r.example:443/x"));
        assert!(is("r.example:80", Some(false), "http://r.example/x"));
        assert!(!is("r.example", Some(true), "http://r.example/"));
        assert!(!is("r.example:5000", Some(true), "http://r.example:5000/"));
        assert!(!is("r.example", Some(true), "https://r.example:5000/"));
        assert!(!is("r.example", Some(true), "https://evil-r.example/"));
        for url in ["https://localhost:5000/", "http://localhost:5000/"] {
            assert!(is("localhost:5000", None, url), "{url}");
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "[::2]", "127.0.0.1.example", "10.0.0.1:80"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn messages_have_no_signatures() {
        let url: Uri = "https://cdn.example/x?X-Amz-Signature=secret".parse().unwrap();
        assert_eq!(shown(&url), "https://cdn.example/x");
        assert_eq!(encode("repository:a/b:pull é"), "repository%3Aa%2Fb%3Apull%20%C3%A9");
    }
}
