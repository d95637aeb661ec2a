//! Who is asked for the images of a host: the mirrors that `hosts.toml` names, in its order, and at last the
//! registry itself. containerd's layout (its docs/hosts.md) is read as it is:
//!
//! ```text
//! /etc/edgepull/certs.d, or --hosts-dir DIR
//!   HOST_PORT_ or HOST:PORT or HOST, else _default
//!     hosts.toml
//!     *.crt, *.cert with *.key     Docker's certificates, where there is no hosts.toml
//! ```
//!
//! Two things are stricter than there: `skip_verify` is never obeyed, and a broken file is an error.

use super::toml::{self, Entry, Value};
use super::url::{Own, absolute, is_loopback};
use super::{file, hub};
use crate::error::{Error, Kind, Result};
use crate::image::reference::DEFAULT_HOST;
use crate::source::Options;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::{HeaderName, HeaderValue};

/// Where the hosts' directories are.
const DEFAULT_DIR: &str = "/etc/edgepull/certs.d";
/// The largest `hosts.toml`, in bytes.
const FILE_MAX: u64 = 64 << 10;
/// The most mirrors of a host: each may have roots, keys and connections of its own.
const MIRRORS_MAX: usize = 8;
/// The most certificates in a host's directory.
const CERTIFICATES_MAX: usize = 64;

/// One place to ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// `host[:port]` of the URL.
    pub(super) authority: String,
    /// What stands before `/<repository>/`: `/v2`.
    pub(super) path: String,
    /// Https? `None`: a loopback host that was not asked yet.
    pub(super) secure: Option<bool>,
    /// Whose images it is asked for, where that is another host.
    pub(super) namespace: Option<String>,
    /// May it be asked for what a digest names?
    pub(super) pull: bool,
    /// May it say what a tag means?
    pub(super) resolve: bool,
    /// May it be written to?
    #[cfg(feature = "publish")]
    pub(super) push: bool,
    /// PEM files of authorities that are trusted besides the others.
    pub(super) authorities: Vec<PathBuf>,
    /// PEM files: client certificate, and its key.
    pub(super) client: Vec<(PathBuf, PathBuf)>,
    /// How long connecting may take; `None`: as usual.
    pub(super) connect: Option<Duration>,
    /// For every request to it.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

/// Is a registry that does not speak TLS asked without it?
fn may_lack_tls(host: &str, options: &Options) -> bool {
    #[cfg(feature = "publish")]
    if options.insecure {
        return true;
    }
    let _ = options;
    is_loopback(host)
}

impl Place {
    /// The registry that `host` names, with nothing said about it.
    pub(super) fn registry(host: &str, options: &Options) -> Place {
        let secure = match options.plain_http {
            true => Some(false),
            false => (!may_lack_tls(host, options)).then_some(true),
        };
        let authority = if host == DEFAULT_HOST { hub::API } else { host };
        Place {
            authority: authority.to_owned(),
            path: "/v2".to_owned(),
            secure,
            pull: true,
            resolve: true,
            #[cfg(feature = "publish")]
            push: true,
            ..Place::default()
        }
    }

    /// Who is asked there.
    pub(super) fn own(&self) -> Own {
        Own { authority: self.authority.clone(), secure: self.secure }
    }

    /// What the place is known by: two that differ only in TLS are two.
    pub(super) fn key(&self) -> String {
        format!("{}{}", if self.secure == Some(false) { "http://" } else { "" }, self.shown())
    }

    /// For messages: without scheme, as a registry is called.
    pub(super) fn shown(&self) -> String {
        format!("{}{}", self.authority, self.path.strip_suffix("/v2").unwrap_or(&self.path))
    }
}

/// Whom to ask for the images of `host`: mirrors first, and at last the registry.
pub(super) fn places(host: &str, options: &Options) -> Result<Vec<Place>> {
    let root = options.hosts_dir.as_deref().unwrap_or(Path::new(DEFAULT_DIR));
    if options.hosts_dir.is_some() && !root.is_dir() {
        return Err(Error::new(Kind::Usage, format!("--hosts-dir {}: no such directory", root.display())));
    }
    let mut registry = Place::registry(host, options);
    let mut places = Vec::new();
    if let Some(directory) = directory(root, host) {
        let path = directory.join("hosts.toml");
        match file::read(&path, FILE_MAX, "FILE_MAX for hosts.toml", None)?.filter(|text| !text.is_empty()) {
            Some(bytes) => {
                let text = String::from_utf8(bytes)
                    .map_err(|_| Error::new(Kind::Usage, format!("{} is no text", path.display())))?;
                places = read_hosts(&text, &directory, host, &mut registry)?;
            }
            None => certificates(&directory, &mut registry)?,
        }
    }
    places.push(registry);
    if let Some(credentials) = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|path| !path.is_empty()) {
        for place in &mut places {
            from_credentials(Path::new(&credentials), place);
        }
    }
    Ok(places)
}

/// The first that there is of a host's directories.
fn directory(root: &Path, host: &str) -> Option<PathBuf> {
    [&*with_port(host), host, "_default"].into_iter().map(|name| root.join(name)).find(|path| path.is_dir())
}

/// `host_port_`: a file's name where `:` is no character for one.
fn with_port(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => format!("{name}_{port}_"),
        _ => host.to_owned(),
    }
}

/// systemd credentials: `edgepull.HOST.ca.crt`, `edgepull.HOST.client.cert` and `edgepull.HOST.client.key`.
fn from_credentials(directory: &Path, place: &mut Place) {
    let file = |what: &str| directory.join(format!("edgepull.{}.{what}", with_port(&place.authority)));
    let (authority, certificate, key) = (file("ca.crt"), file("client.cert"), file("client.key"));
    if authority.exists() {
        place.authorities.push(authority);
    }
    if place.client.is_empty() && certificate.exists() {
        place.client.push((certificate, key));
    }
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::from_io(Kind::Usage, error).context(path.display())
}

/// Docker's layout: every `*.crt` is an authority, every `*.cert` a client certificate with its `*.key`.
fn certificates(directory: &Path, place: &mut Place) -> Result<()> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|error| failed(directory, error))? {
        let file = entry.map_err(|error| failed(directory, error))?.path();
        if !file.extension().is_some_and(|extension| extension == "crt" || extension == "cert") {
            continue;
        }
        if files.len() == CERTIFICATES_MAX {
            let message = format!("{} has more than 64 certificates", directory.display());
            return Err(Error::new(Kind::Usage, message).hint("edgepull's limit CERTIFICATES_MAX"));
        }
        // In the order of their names; std's sort would be 3 KB of code.
        let place = files.iter().position(|other| *other > file).unwrap_or(files.len());
        files.insert(place, file);
    }
    for file in files {
        match file.extension().is_some_and(|extension| extension == "crt") {
            true => place.authorities.push(file),
            false => place.client.push((file.clone(), file.with_extension("key"))),
        }
    }
    Ok(())
}

/// Reads a `hosts.toml` in `directory`: the mirrors; and what it says about the registry itself.
pub(super) fn read_hosts(
    text: &str,
    directory: &Path,
    host: &str,
    registry: &mut Place,
) -> Result<Vec<Place>> {
    let file = directory.join("hosts.toml");
    let wrong =
        |line: usize, what: &str| Error::new(Kind::Usage, format!("{}, line {line}: {what}", file.display()));
    let entries = toml::parse(text).map_err(|(line, what)| wrong(line, what))?;
    let find = |name: &str| entries.iter().find(|entry| matches!(&*entry.path, [key] if key == name));
    if let Some(server) = find("server") {
        let Value::Text(url) = &server.value else { return Err(wrong(server.line, "server is no string")) };
        if !url.is_empty() {
            let overrides = find("override_path").is_some_and(|entry| entry.value == Value::Flag(true));
            let place = at(url, overrides, host).map_err(|what| wrong(server.line, what))?;
            registry.clone_from(&place);
        }
    }
    settings(&entries, &[], directory, registry).map_err(|(line, what)| wrong(line, what))?;
    let mut mirrors: Vec<Place> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for entry in &entries {
        let [root, url, ..] = &*entry.path else { continue };
        if root != "host" || names.contains(&url.as_str()) {
            continue;
        }
        names.push(url);
        if mirrors.len() == MIRRORS_MAX {
            return Err(wrong(entry.line, "there are more than 8 hosts (edgepull's limit MIRRORS_MAX)"));
        }
        let table = ["host", url];
        let is_override = |entry: &Entry| {
            entry.path.len() == 3 && entry.path[..2] == table && entry.path[2] == "override_path"
        };
        let overrides = entries.iter().any(|entry| is_override(entry) && entry.value == Value::Flag(true));
        let mut place = at(url, overrides, host).map_err(|what| wrong(entry.line, what))?;
        match settings(&entries, &table, directory, &mut place) {
            Ok(()) => mirrors.push(place),
            Err((line, SKIP_VERIFY)) => {
                log::warn!("{}; the host {url} is left out", wrong(line, SKIP_VERIFY));
            }
            Err((line, what)) => return Err(wrong(line, what)),
        }
    }
    Ok(mirrors)
}

const SKIP_VERIFY: &str =
    "skip_verify is not obeyed, as nobody would know who answers (name the authority by ca)";

/// What a URL of a `hosts.toml` names; containerd's rules for its path.
fn at(url: &str, override_path: bool, host: &str) -> Result<Place, &'static str> {
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let url = absolute(&with_scheme).filter(|url| url.query().is_none()).ok_or("this is no URL of a host")?;
    let mut path = url.path().trim_end_matches('/').to_owned();
    if !override_path && !path.ends_with("/v2") {
        path.push_str("/v2");
    }
    let authority = url.authority().map_or("", |authority| authority.as_str()).to_owned();
    let same = authority.eq_ignore_ascii_case(host) || (host == DEFAULT_HOST && authority == hub::API);
    Ok(Place {
        secure: Some(url.scheme_str() == Some("https")),
        namespace: (!same).then(|| host.to_owned()),
        pull: true,
        resolve: true,
        #[cfg(feature = "publish")]
        push: true,
        authority,
        path,
        ..Place::default()
    })
}

/// Applies the keys of `table` to `place`.
fn settings(
    entries: &[Entry],
    table: &[&str],
    directory: &Path,
    place: &mut Place,
) -> Result<(), toml::Wrong> {
    for entry in entries {
        let Some(keys) = entry.path.get(table.len()..).filter(|_| entry.path[..table.len()] == *table) else {
            continue;
        };
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let wrong = |what| (entry.line, what);
        let file = |text: &str| directory.join(text);
        match (&*keys, &entry.value) {
            (["capabilities"], value) => {
                let words = texts(value).ok_or(wrong("capabilities is no array of strings"))?;
                let has =
                    |word: &str| words.is_empty() || words.iter().any(|one| one.eq_ignore_ascii_case(word));
                // containerd gets new ones; `referrers` is one.
                for word in &words {
                    if !matches!(&*word.to_ascii_lowercase(), "pull" | "resolve" | "push") {
                        log::info!("hosts.toml, line {}: capability {word:?} is not known here", entry.line);
                    }
                }
                (place.pull, place.resolve) = (has("pull"), has("resolve"));
                #[cfg(feature = "publish")]
                {
                    place.push = has("push");
                }
            }
            (["ca"], value) => {
                let files = texts(value).ok_or(wrong("ca is neither a string nor an array of strings"))?;
                place.authorities.extend(files.into_iter().map(file));
            }
            (["client"], Value::Text(one)) => place.client.push((file(one), file(one))),
            (["client"], Value::List(list)) => {
                for one in list {
                    let names = texts(one).unwrap_or_default();
                    place.client.push(match (&*names, one) {
                        ([both], Value::Text(_)) => (file(both), file(both)),
                        ([certificate, ""], _) => (file(certificate), file(certificate)),
                        ([certificate, key], _) => (file(certificate), file(key)),
                        _ => return Err(wrong("client is no list of files or of [certificate, key]")),
                    });
                }
            }
            (["skip_verify"], Value::Flag(true)) => return Err(wrong(SKIP_VERIFY)),
            (["header", name], value) => {
                let name =
                    HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("this is no header's name"))?;
                for text in
                    texts(value).ok_or(wrong("a header is neither a string nor an array of strings"))?
                {
                    let mut value =
                        HeaderValue::from_str(text).map_err(|_| wrong("this cannot stand in a header"))?;
                    value.set_sensitive(true);
                    place.headers.push((name.clone(), value));
                }
            }
            (["dial_timeout"], Value::Text(text)) => {
                let time = duration(text).ok_or(wrong("dial_timeout is no time such as 200ms, 5s or 1m"))?;
                place.connect = Some(time);
            }
            (["skip_verify" | "override_path"], Value::Flag(_)) | (["header"] | [], Value::Table) => {}
            (["server"] | ["host", _, ..], _) | (["host"], Value::Table) if table.is_empty() => {}
            (
                ["skip_verify" | "override_path" | "client" | "header" | "dial_timeout", ..] | ["host"] | [],
                _,
            ) => {
                return Err(wrong("the value of this key is of another type"));
            }
            _ => log::info!("hosts.toml, line {}: {} is not known here", entry.line, entry.path.join(".")),
        }
    }
    Ok(())
}

/// A time as Go writes it (time.ParseDuration), to the millisecond: `1m30s`, `1.5s`. `None` for less than one, too.
fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, 0u64);
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let digits = rest.find(|c: char| !is_number(c))?;
        let unit = rest[digits..].find(is_number).map_or(rest.len(), |end| digits + end);
        let millis = match &rest[digits..unit] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let (whole, fraction) = rest[..digits].split_once('.').unwrap_or((&rest[..digits], "0"));
        let thousandths: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
        sum += u64::from(whole.parse::<u32>().ok()?) * millis + thousandths * millis / 1000;
        rest = &rest[unit..];
    }
    (sum > 0).then_some(Duration::from_millis(sum))
}

/// A string, or an array of strings.
fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::Text(text) => Some(vec![text]),
        Value::List(list) => list
            .iter()
            .map(|one| match one {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places for `host`, whose directory is called `name` and holds these files.
    fn with(name: &str, files: &[(&str, &str)], host: &str) -> Result<Vec<Place>> {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        for (name, content) in files {
            std::fs::write(directory.join(name), content).unwrap();
        }
        places(host, &Options { hosts_dir: Some(root.path().to_owned()), ..Options::default() })
    }

    fn read(text: &str) -> Result<Vec<Place>> {
        with("r.example", &[("hosts.toml", text)], "r.example")
    }

    fn name(path: &Path) -> &str {
        path.file_name().unwrap().to_str().unwrap()
    }

    #[test]
    fn mirrors_stand_in_the_file_s_order_and_the_registry_is_last() {
        let places = read(
            "server = \"https://origin.example:5000\"\nca = \"root.pem\"\n\
             [host.\"https://z.example/v2/cache\"]\ncapabilities = [\"pull\"]\noverride_path = true\n\
             ca = [\"a.pem\", \"/b.pem\"]\nclient = [[\"c.cert\", \"c.key\"], [\"d.pem\", \"\"], \"e.pem\"]\n\
             dial_timeout = \"1m30.2s\"\n[host.\"https://z.example/v2/cache\".header]\nX-One = [\"1\", \"2\"]\n\
             [host.\"http://a.example:81\"]\n[host.\"m.example/x/\"]\n",
        )
        .unwrap();
        let shown: Vec<_> = places.iter().map(|p| (p.shown(), p.path.as_str(), p.secure.unwrap())).collect();
        assert_eq!(
            shown,
            [
                ("z.example/v2/cache".to_owned(), "/v2/cache", true),
                ("a.example:81".to_owned(), "/v2", false),
                ("m.example/x".to_owned(), "/x/v2", true),
                ("origin.example:5000".to_owned(), "/v2", true),
            ]
        );
        assert_eq!(
            places.iter().map(|p| (p.pull, p.resolve)).collect::<Vec<_>>()[..2],
            [(true, false), (true, true)]
        );
        assert!(places.iter().all(|p| p.namespace.as_deref() == Some("r.example")));
        let both = read("[host.\"http://m.example:5000\"]\n[host.\"https://m.example:5000\"]\n").unwrap();
        assert_eq!(both[0].shown(), both[1].shown());
        assert_ne!(both[0].key(), both[1].key(), "one that lied is not the other");
        let first = &places[0];
        assert_eq!(first.authorities.iter().map(|p| name(p)).collect::<Vec<_>>(), ["a.pem", "b.pem"]);
        assert_eq!(first.authorities[1], Path::new("/b.pem"));
        let pairs: Vec<_> = first.client.iter().map(|(c, k)| (name(c), name(k))).collect();
        assert_eq!(pairs, [("c.cert", "c.key"), ("d.pem", "d.pem"), ("e.pem", "e.pem")]);
        assert_eq!(first.headers.len(), 2);
        assert_eq!((first.connect, places[1].connect), (Some(Duration::from_millis(90_200)), None));
        assert_eq!(name(&places[3].authorities[0]), "root.pem");
    }

    #[test]
    fn without_a_server_it_is_the_registry() {
        let places = read("[host.\"https://m.example\"]\n").unwrap();
        let last = places.last().unwrap();
        assert_eq!((last.authority.as_str(), last.namespace.as_deref()), ("r.example", None));
        let hub =
            with("docker.io", &[("hosts.toml", "server = \"https://registry-1.docker.io\"")], "docker.io");
        assert_eq!(hub.unwrap()[0].namespace, None);
        assert_eq!(with("other", &[], "docker.io").unwrap()[0].authority, "registry-1.docker.io");
    }

    #[test]
    fn directories_and_docker_s_certificates() {
        let files = [("ca.crt", ""), ("x.cert", ""), ("x.key", ""), ("README", "")];
        for directory in ["r.example_5000_", "r.example:5000", "_default"] {
            let places = with(directory, &files, "r.example:5000").unwrap();
            let [place] = &*places else { panic!("{places:?}") };
            assert_eq!(name(&place.authorities[0]), "ca.crt");
            assert_eq!((name(&place.client[0].0), name(&place.client[0].1)), ("x.cert", "x.key"));
        }
        assert!(with("r.example", &files, "r.example:5000").unwrap()[0].client.is_empty());
        let others: Vec<_> = (0..CERTIFICATES_MAX).map(|at| format!("{at:02}.txt")).collect();
        let certificates: Vec<_> = (0..=CERTIFICATES_MAX).map(|at| format!("{at:02}.crt")).collect();
        let all = others.iter().chain(&certificates[1..]).map(|name| (&**name, "")).collect::<Vec<_>>();
        let places = with("r.example", &all, "r.example").unwrap();
        assert_eq!(
            places[0].authorities.iter().map(|path| name(path)).collect::<Vec<_>>(),
            certificates[1..]
        );
        let all: Vec<_> = certificates.iter().map(|name| (&**name, "")).collect();
        assert!(with("r.example", &all, "r.example").unwrap_err().to_string().contains("CERTIFICATES_MAX"));
        assert_eq!(with_port("[::1]"), "[::1]");
        assert_eq!(with_port("[::1]:5000"), "[::1]_5000_");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        for (text, part) in [
            ("\nserver = 5", "line 2: server is no string"),
            ("server = \"ftp://x\"", "line 1: this is no URL"),
            ("skip_verify = true", "skip_verify is not obeyed"),
            ("ca = 5", "ca is neither"),
            ("client = [[\"a\", \"b\", \"c\"]]", "client is no list"),
            ("client = 5", "another type"),
            ("header = { \"x y\" = \"1\" }", "no header's name"),
            ("header = { x = \"a\\nb\" }", "cannot stand in a header"),
            ("[host.\"https://u:p@x\"]", "no URL"),
            ("[host.\"https://x?a=b\"]", "no URL"),
            ("[host", "] is missing"),
            ("host.\"https://x\" = \"pull\"", "line 1: the value of this key is of another type"),
            ("\n[host]\n\"https://x\" = true", "line 3: the value of this key is of another type"),
            ("host = [\"https://x\"]", "another type"),
            ("dial_timeout = 5", "another type"),
            ("dial_timeout = \"5\"", "no time"),
            ("dial_timeout = \"-5s\"", "no time"),
            ("dial_timeout = \"0s\"", "no time"),
            ("dial_timeout = \"1.2.3s\"", "no time"),
            ("capabilities = [\n\"pull\",\n5\n]", "line 1: capabilities is no array of strings"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.kind() == Kind::Usage && error.to_string().contains(part), "{error}");
            assert!(error.to_string().contains("hosts.toml"), "{error}");
        }
        let many: String = (0..9).map(|at| format!("[host.\"https://m{at}\"]\n")).collect();
        assert!(read(&many).unwrap_err().to_string().contains("MIRRORS_MAX"));
        let large = "#".repeat(70_000);
        assert!(read(&large).unwrap_err().to_string().contains("64 KiB"));
        let missing = Options { hosts_dir: Some("/nonexistent".into()), ..Options::default() };
        assert!(places("r.example", &missing).unwrap_err().to_string().contains("--hosts-dir"));
    }

    #[test]
    fn keys_that_are_not_known_yet_end_nothing() {
        for unknown in [
            "z = inf",
            "z = [[1],[{a=1}]]",
            "[[zzz]]\nserver = 5",
            "[z]\nd = 1979-05-27 07:32:00",
            "[host.\"https://m.example\"]\n[[host.\"https://m.example\".future]]\nca = 5",
        ] {
            let places = read(&format!("server = \"https://o.example\"\n{unknown}\n")).unwrap();
            assert_eq!(places.len(), 1 + usize::from(unknown.contains("host")), "{unknown}");
            assert_eq!(places.last().unwrap().shown(), "o.example");
        }
        assert!(read("[[host]]").unwrap_err().to_string().contains("another type"));
    }

    #[test]
    fn a_mirror_that_nobody_would_know_is_left_out() {
        let text = "[host.\"https://a.example\"]\nskip_verify = true\n[host.\"https://b.example\"]\nskip_verify = false";
        let places = read(text).unwrap();
        assert_eq!(places.iter().map(Place::shown).collect::<Vec<_>>(), ["b.example", "r.example"]);
    }
}
