//! Tests which peers may refer to which, with real sockets, and names that lead where a test wants.

use super::hosts::Place;
use super::http::{Answer, Failure, Http};
use super::proxy::Proxies;
use crate::source::Options;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use ureq::http::{Method, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Resolves names as a test wants. Each of several answers is given once, and the last from then on. Addresses stand
/// for themselves.
#[derive(Debug, Default)]
struct Names(Mutex<Vec<Name>>);

/// Holds a name and its answers, the first of them last.
#[derive(Debug)]
struct Name(&'static str, Vec<Vec<SocketAddr>>);

impl Names {
    fn with(self, name: &'static str, answers: &[&[SocketAddr]]) -> Names {
        let answers = answers.iter().rev().map(|answer| answer.to_vec()).collect();
        self.0.lock().unwrap().push(Name(name, answers));
        self
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (host, port) = (uri.host().unwrap(), uri.port_u16().unwrap_or(80));
        let mut found = self.empty();
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            found.push(SocketAddr::new(address, port));
            return Ok(found);
        }
        let mut names = self.0.lock().unwrap();
        let found_name = names.iter_mut().find(|Name(name, _)| *name == host);
        let Name(_, answers) = found_name.ok_or(ureq::Error::HostNotFound)?;
        let answer = if answers.len() > 1 { answers.pop().unwrap() } else { answers[0].clone() };
        answer.into_iter().for_each(|address| found.push(address));
        Ok(found)
    }
}

/// Redirects the paths of a list to the URLs beside them, and answers `here` to all others.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(ip: IpAddr, redirects: &[(&str, String)]) -> Server {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let redirects: Vec<(String, String)> =
            redirects.iter().map(|(path, target)| ((*path).to_owned(), target.clone())).collect();
        let seen = asked.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
                let Some(Ok(line)) = lines.next() else { continue };
                lines.find(|line| line.as_ref().is_ok_and(String::is_empty));
                let path = line.split(' ').nth(1).unwrap().to_owned();
                let target = redirects.iter().find(|(from, _)| *from == path).map(|(_, target)| target);
                let head = target.map_or_else(
                    || "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhere".to_owned(),
                    |target| format!("HTTP/1.1 302 X\r\nLocation: {target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
                );
                seen.lock().unwrap().push(path);
                let _ = connection.write_all(head.as_bytes());
            }
        });
        Server { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Makes the client of a registry called `r.example`.
fn client(names: Names, proxies: Proxies) -> Http {
    let place =
        Place { authority: "r.example".into(), path: "/v2".into(), secure: Some(false), ..Place::default() };
    let options = Options { hosts_dir: Some(PathBuf::from("/proc/self/fdinfo")), ..Options::default() };
    Http::with_names(&place, "r.example", false, &Arc::new(proxies), &options, names)
}

fn get(http: &Http, path: &str) -> Result<Answer, Failure> {
    http.get(&Method::GET, &format!("http://r.example{path}").parse().unwrap(), &[], None)
}

#[track_caller]
fn refused(answer: Result<Answer, Failure>, part: &str) {
    let text = answer.err().expect("a refusal").error.to_string();
    assert!(text.contains("which only this board can reach") && text.contains(part), "{text}");
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Finds an address of this machine that is in no near range, and sends nothing for that.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (super::near::range(address) == 0).then_some(address)
}

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[test]
fn what_counts_is_the_peer_and_not_what_else_its_name_stands_for() {
    let service = Server::start(LOOPBACK, &[]);
    let registry = Server::start(
        LOOPBACK,
        &[
            ("/link", "http://cdn.example/x".into()),
            ("/metadata", "http://metadata.example/x".into()),
            ("/service", format!("http://{}/x", service.address)),
        ],
    );
    // It has an address on the link besides the one on the loopback, which answers.
    let http = client(
        Names::default()
            .with("r.example", &[&[registry.address, socket("169.254.1.1:80")]])
            .with("cdn.example", &[&[socket("169.254.1.2:80")]])
            .with("metadata.example", &[&[socket("[fd00:42::42]:80")]]),
        Proxies::default(),
    );
    refused(get(&http, "/link"), "r.example refers to cdn.example (169.254.1.2)");
    refused(get(&http, "/metadata"), "metadata.example (fd00:42::42)");
    assert_eq!(get(&http, "/service").unwrap().status(), 200);
    assert_eq!(service.asked(), ["/x"]);
}

#[test]
fn a_registry_elsewhere_with_a_loopback_address_besides_leads_nobody_there() {
    let Some(own) = own_address() else { return println!("skipped: this machine has only a loopback") };
    let service = Server::start(LOOPBACK, &[]);
    let target = format!("http://127.0.0.1:{}/x", service.address.port());
    let registry = Server::start(own, &[("/", target), ("/name", "http://cdn.example/y".into())]);
    // Nobody listens at the first one.
    let closed = super::tcp::port::bound();
    let http = client(
        Names::default()
            .with("r.example", &[&[closed.local_addr().unwrap(), registry.address]])
            .with("cdn.example", &[&[socket("[::1]:80"), service.address]]),
        Proxies::default(),
    );
    refused(get(&http, "/"), "127.0.0.1");
    refused(get(&http, "/name"), "cdn.example (::1)");
    assert_eq!(registry.asked(), ["/", "/name"]);
    assert!(service.asked().is_empty());
}

#[test]
fn a_name_that_moves_leads_nobody_away() {
    let registry = Server::start(LOOPBACK, &[("/", "http://r.example/again".into())]);
    let names = || Names::default().with("r.example", &[&[registry.address], &[socket("169.254.1.1:80")]]);
    // What the registry itself has named is where it is, although it has its name.
    refused(get(&client(names(), Proxies::default()), "/"), "r.example refers to r.example (169.254.1.1)");
    assert_eq!(registry.asked(), ["/"]);
}

#[test]
fn a_detour_by_another_host_gives_no_way_back() {
    let Some(own) = own_address() else { return println!("skipped: this machine has only a loopback") };
    let service = Server::start(LOOPBACK, &[]);
    let elsewhere = Server::start(own, &[("/", format!("http://{}/x", service.address))]);
    let registry = Server::start(LOOPBACK, &[("/", format!("http://{}/", elsewhere.address))]);
    let http = client(Names::default().with("r.example", &[&[registry.address]]), Proxies::default());
    refused(get(&http, "/"), "127.0.0.1");
    assert_eq!(elsewhere.asked(), ["/"]);
    assert!(service.asked().is_empty());
}

#[test]
fn before_a_registry_has_answered_nothing_near_is_asked_for_it() {
    let service = Server::start(LOOPBACK, &[]);
    let url: Uri = format!("http://{}/x", service.address).parse().unwrap();
    // An image's own URLs may come first.
    let http = client(Names::default().with("r.example", &[&[service.address]]), Proxies::default());
    refused(http.get_foreign(&url, &[]), "127.0.0.1");
    assert!(service.asked().is_empty());
    // It has answered: it is there itself.
    get(&http, "/").unwrap();
    assert_eq!(http.get_foreign(&url, &[]).unwrap().status(), 200);
    assert_eq!(http.get_referred(&url, None).unwrap().status(), 200);
}

#[test]
fn a_proxy_is_not_asked_for_what_is_near() {
    let targets = [
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1:8080/",
        "http://localhost./",
        "http://board.localhost/",
        "http://[::ffff:169.254.1.1]/",
        "http://169.254.169.254/latest/",
        "http://168.63.129.16/",
        "http://metadata.google.internal/",
        "http://999.1.1.1/",
        // These are never reached by a proxy.
        "http://127.0.0.1:1/",
        "http://[::1]:1/",
    ];
    for target in targets {
        // The proxy itself is on the loopback, which gives the registry behind it no right to anything there.
        let proxy = Server::start(LOOPBACK, &[("http://r.example/", target.to_owned())]);
        let address = proxy.address;
        let variable = move |name: &str| (name == "HTTP_PROXY").then(|| format!("http://{address}"));
        refused(get(&client(Names::default(), Proxies::new(&variable)), "/"), "r.example refers to");
        assert_eq!(proxy.asked(), ["http://r.example/"], "{target}");
    }
    // A name is the proxy's to know.
    let proxy = Server::start(LOOPBACK, &[("http://r.example/", "http://cdn.example/x".into())]);
    let address = proxy.address;
    let variable = move |name: &str| (name == "HTTP_PROXY").then(|| format!("http://{address}"));
    assert_eq!(get(&client(Names::default(), Proxies::new(&variable)), "/").unwrap().status(), 200);
    assert_eq!(proxy.asked(), ["http://r.example/", "http://cdn.example/x"]);
}
