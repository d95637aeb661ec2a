//! The system's resolver, and what to say where it has nothing to ask: early in a boot there is no
//! `/etc/resolv.conf`, and libc then asks the machine itself.

use std::path::Path;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Where libc finds its name servers (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// libc's resolver. The one thing added: its failures can be told from those of a socket.
#[derive(Debug, Default)]
pub(super) struct Dns(DefaultResolver);

impl Resolver for Dns {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.0.resolve(uri, config, timeout).map_err(|error| match error {
            ureq::Error::Io(error) => {
                log::debug!("{error}");
                ureq::Error::HostNotFound
            }
            other => other,
        })
    }
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
