//! The system's resolver, and what to say where it has nothing to ask: early in a boot there is no
//! `/etc/resolv.conf`, and libc then asks the machine itself. (musl reads that file for each name, glibc when it
//! has changed: a network that comes up later is seen.)
//!
//! All addresses that are connected to come from here, also those of redirects, uploads and token servers, so some of
//! them are left out here ([`super::near`]). A connection that is open already is checked by its peer's address
//! ([`super::tcp`]).

use super::exchange::Exchange;
use super::near;
use super::proxy::Proxies;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
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

/// Resolves the name of one host that the user has named, and of those to which it refers.
#[derive(Debug)]
pub(super) struct Dns<Names> {
    names: Names,
    proxies: Arc<Proxies>,
    exchange: Arc<Exchange>,
}

impl<Names: Resolver> Dns<Names> {
    /// Makes a resolver for the client that has this `exchange`. `names` looks names up:
    /// [`ureq::unversioned::resolver::DefaultResolver`] asks libc.
    pub(super) fn new(names: Names, exchange: Arc<Exchange>, proxies: Arc<Proxies>) -> Dns<Names> {
        Dns { names, proxies, exchange }
    }

    /// Returns those of `addresses` that the request under way may be sent to, or a refusal if there are none.
    fn allowed(&self, url: &Uri, addresses: ResolvedSocketAddrs) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut allowed = self.names.empty();
        for address in addresses.iter().filter(|address| self.exchange.may_reach(near::range(address.ip()))) {
            allowed.push(*address);
        }
        match addresses.first() {
            Some(address) if allowed.is_empty() => {
                let host = url.host().unwrap_or_default();
                Err(self.exchange.refusal(format_args!("{host} ({})", address.ip())))
            }
            _ => Ok(allowed),
        }
    }
}

impl<Names: Resolver> Resolver for Dns<Names> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let resolve = |uri: &Uri| {
            self.names.resolve(uri, config, timeout).map_err(|error| match error {
                // So that it can be told from a socket's.
                ureq::Error::Io(error) => {
                    log::debug!("{error}");
                    ureq::Error::HostNotFound
                }
                other => other,
            })
        };
        match self.proxies.of(uri).map_err(|error| ureq::Error::Other(Box::new(error)))? {
            None => self.allowed(uri, resolve(uri)?),
            // The proxy looks names up; what is none can be judged here.
            Some(_) if !self.exchange.may_reach(near::range_by_name(uri)) => {
                Err(self.exchange.refusal(uri.host().unwrap_or_default()))
            }
            Some(proxy) => resolve(&proxy.url),
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
}
