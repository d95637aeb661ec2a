//! The system's resolver, and what to say where it has nothing to ask: early in a boot there is no
//! `/etc/resolv.conf`, and libc then asks the machine itself. (musl reads that file for each name, glibc when it
//! has changed: a network that comes up later is seen.)
//!
//! All addresses that are connected to come from here, also those of redirects and token servers, so that here
//! is where some of them are refused ([`super::near`]).

use super::near::{self, Ranges};
use super::proxy::Proxies;
use super::url::Own;
use crate::error::{Error, Kind};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Where libc finds its name servers (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What glibc reads besides, and the libraries that it loads.
const GLIBC: [&str; 7] = [
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/ld.so.cache",
    "/lib",
    "/lib64",
    "/usr/lib",
];

/// The host that the user has named was not looked up yet. No range has this bit.
const UNKNOWN: Ranges = 64;

/// libc's resolver, for one host that the user has named, and for those to which it refers.
#[derive(Debug)]
pub(super) struct Dns {
    resolver: DefaultResolver,
    proxies: Arc<Proxies>,
    /// Who the user has named.
    own: Own,
    /// Which near ranges it has addresses of; or [`UNKNOWN`].
    near: AtomicU8,
}

impl Dns {
    /// For the host `own`.
    pub(super) fn new(own: Own, proxies: Arc<Proxies>) -> Dns {
        Dns { resolver: DefaultResolver::default(), proxies, own, near: AtomicU8::new(UNKNOWN) }
    }

    /// Those of `addresses` that `url` may lead to. `resolve` finds a name's.
    fn allowed(
        &self,
        url: &Uri,
        addresses: ResolvedSocketAddrs,
        resolve: &dyn Fn(&Uri) -> Result<ResolvedSocketAddrs, ureq::Error>,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let ranges =
            |addresses: &[SocketAddr]| addresses.iter().fold(0, |all, one| all | near::range(one.ip()));
        if self.own.is(url) {
            self.near.store(ranges(&addresses), Ordering::Relaxed);
            return Ok(addresses);
        }
        if ranges(&addresses) == 0 {
            return Ok(addresses);
        }
        let mut known = self.near.load(Ordering::Relaxed);
        if known == UNKNOWN {
            // A layer's urls come before the registry.
            let own = format!("http://{}/", self.own.authority).parse().map_err(ureq::http::Error::from)?;
            known = resolve(&own).map_or(0, |addresses| ranges(&addresses));
        }
        let mut allowed = self.resolver.empty();
        for address in addresses.iter().filter(|address| near::is_allowed(address.ip(), known)) {
            allowed.push(*address);
        }
        match addresses.first() {
            Some(address) if allowed.is_empty() => {
                let host = url.host().unwrap_or_default();
                let own = &self.own.authority;
                let message = format!(
                    "{own} refers to {host}, whose address {} only this board can reach",
                    address.ip()
                );
                Err(ureq::Error::Other(Box::new(Error::new(Kind::Network, message).hint(
                    "refused: no registry has to send a board to itself, its link or a metadata service",
                ))))
            }
            _ => Ok(allowed),
        }
    }
}

impl Resolver for Dns {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let resolve = |uri: &Uri| {
            self.resolver.resolve(uri, config, timeout).map_err(|error| match error {
                // So that it can be told from a socket's.
                ureq::Error::Io(error) => {
                    log::debug!("{error}");
                    ureq::Error::HostNotFound
                }
                other => other,
            })
        };
        match self.proxies.of(uri).map_err(|error| ureq::Error::Other(Box::new(error)))? {
            None => self.allowed(uri, resolve(uri)?, &resolve),
            Some(proxy) => {
                // The proxy looks names up; a literal address can be judged here.
                let host = uri.host().unwrap_or_default();
                if host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() {
                    self.allowed(uri, resolve(uri)?, &resolve)?;
                }
                resolve(&proxy.url)
            }
        }
    }
}

/// What libc reads to look a name up. Of resolv.conf it is the directory that is named, as whoever writes it anew puts
/// another file into its place.
pub(super) fn files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/hosts")];
    if cfg!(target_env = "gnu") {
        // nsswitch.conf(5) names libraries that are loaded then.
        files.extend(GLIBC.map(PathBuf::from));
    }
    files.extend(written_in(Path::new(RESOLV_CONF)));
    files
}

/// The directory in which `file`, or what it is a link to, is or will be written; none where nearer than the root directory
/// there is none: that would be everything.
fn written_in(file: &Path) -> Option<PathBuf> {
    let there = fs::canonicalize(file).or_else(|_| {
        // A link to what is made while the network comes up; or nothing yet.
        fs::read_link(file).map(|target| file.with_file_name(target))
    });
    let there = there.as_deref().unwrap_or(file);
    let directory = there.ancestors().skip(1).find(|path| path.is_dir())?;
    fs::canonicalize(directory).ok().filter(|directory| directory != Path::new("/"))
}

/// Whether there is a DNS server to ask. Where there is none, asking again is of no use.
pub(super) fn is_set_up() -> bool {
    Path::new(RESOLV_CONF).exists()
}

/// What the user can do about a name that is not known.
pub(super) fn hint() -> String {
    match is_set_up() {
        true => "check the name, and this board's DNS".to_owned(),
        false => format!(
            "there is no {RESOLV_CONF}, which names the DNS servers: write 'nameserver ADDRESS' into it, or \
             give the registry's literal address (192.0.2.1:5000/…, [2001:db8::1]:5000/…), which its \
             certificate must then name, too"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(own: &str, addresses: &[&str], uri: &str) -> Result<Vec<String>, String> {
        let dns = Dns::new(Own { authority: own.to_owned(), secure: None }, Arc::default());
        let nobody = |_: &Uri| panic!("it is known already");
        let mut all = dns.resolver.empty();
        all.push("10.0.0.1:443".parse().unwrap());
        if own.starts_with("127.") {
            all.push("127.0.0.1:443".parse().unwrap());
        }
        dns.allowed(&format!("https://{own}/").parse().unwrap(), all, &nobody).unwrap();
        let mut theirs = dns.resolver.empty();
        for address in addresses {
            theirs.push(address.parse().unwrap());
        }
        let allowed =
            dns.allowed(&uri.parse().unwrap(), theirs, &nobody).map_err(|error| error.to_string())?;
        Ok(allowed.iter().map(|address| address.to_string()).collect())
    }

    #[test]
    fn where_name_servers_are_written_is_found_before_they_are() {
        let home = tempfile::tempdir().unwrap();
        let home = fs::canonicalize(home.path()).unwrap();
        let (etc, run) = (home.join("etc"), home.join("run/resolve"));
        fs::create_dir_all(&etc).unwrap();
        fs::create_dir_all(run.parent().unwrap()).unwrap();
        let file = etc.join("resolv.conf");
        let found = || written_in(&file).unwrap();
        assert_eq!(found(), etc, "nothing is there");
        fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(found(), etc);
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("../run/resolve/stub.conf", &file).unwrap();
        assert_eq!(found(), run.parent().unwrap(), "not even its directory is there");
        fs::create_dir(&run).unwrap();
        assert_eq!(found(), run);
        fs::write(run.join("stub.conf"), "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(found(), run);
        // Neither may that come to the root directory.
        assert_eq!(written_in(Path::new("/nonexistent/resolv.conf")), None);
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("../".repeat(20) + "nonexistent/stub.conf", &file).unwrap();
        assert_eq!(written_in(&file), None);
    }

    #[test]
    fn names_that_lead_to_the_board_itself_are_refused() {
        let error =
            resolved("r.example", &["127.0.0.1:443", "[::1]:443"], "https://cdn.example/x").unwrap_err();
        assert!(error.contains("r.example refers to cdn.example, whose address 127.0.0.1"), "{error}");
        assert!(resolved("r.example", &["169.254.169.254:80"], "http://cdn.example/").is_err());
        assert!(resolved("127.0.0.1:5000", &["169.254.169.254:80"], "http://cdn.example/").is_err());
        for link in ["169.254.7.7:80", "[fe80::7]:80", "[::ffff:169.254.7.7]:80"] {
            assert!(resolved("r.example", &[link], "http://cdn.example/").is_err(), "{link}");
        }
        assert_eq!(
            resolved("r.example", &["127.0.0.1:443", "10.0.0.9:443"], "https://cdn.example/").unwrap(),
            ["10.0.0.9:443"]
        );
        assert_eq!(
            resolved("127.0.0.1:5000", &["127.0.0.1:443"], "https://cdn.example/").unwrap(),
            ["127.0.0.1:443"]
        );
    }
}
