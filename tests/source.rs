//! Sources from outside: a scripted registry that misbehaves in every way that registries and links do,
//! layouts and archives as tools write them, and as attackers would. And a registry that is written to.

#[path = "source/archives.rs"]
mod archives;
#[path = "source/auth.rs"]
mod auth;
#[path = "source/blobs.rs"]
mod blobs;
#[path = "source/by_hand.rs"]
mod by_hand;
#[path = "source/clock.rs"]
mod clock;
#[cfg(feature = "publish")]
#[path = "source/destinations.rs"]
mod destinations;
#[path = "source/hostile.rs"]
mod hostile;
#[path = "source/image.rs"]
mod image;
#[path = "source/manifests.rs"]
mod manifests;
#[path = "source/mirrors.rs"]
mod mirrors;
#[path = "source/networks.rs"]
mod networks;
#[path = "source/port.rs"]
mod port;
#[cfg(feature = "publish")]
#[path = "source/publish.rs"]
mod publish;
#[cfg(feature = "publish")]
#[path = "source/push.rs"]
mod push;
#[cfg(feature = "publish")]
#[path = "source/push_answers.rs"]
mod push_answers;
#[path = "source/referrers.rs"]
mod referrers;
#[path = "source/server.rs"]
mod server;
#[path = "source/statuses.rs"]
mod statuses;
#[path = "source/tls.rs"]
mod tls;
#[cfg(feature = "publish")]
#[path = "source/uploads.rs"]
mod uploads;
#[path = "source/with_or_without_tls.rs"]
mod with_or_without_tls;
#[cfg(feature = "publish")]
#[path = "source/written_archives.rs"]
mod written_archives;
#[cfg(feature = "publish")]
#[path = "source/written_layouts.rs"]
mod written_layouts;

use edgepull::error::{Error, Kind, Result};
use edgepull::image::manifest::Descriptor;
use edgepull::source::{Options, Source, open};
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The smallest body that can be a manifest: an index of nothing.
const INDEX: &str = r#"{"manifests":[]}"#;

/// Options that find no credentials, hosts or proxies of whoever runs this, and don't wait long.
fn options() -> Options {
    Options {
        plain_http: true,
        auth_file: Some(PathBuf::from("/nonexistent/auth.json")),
        // A directory that is always there, with none in it that is called like a host.
        hosts_dir: Some(PathBuf::from("/proc/self/fdinfo")),
        proxies: false,
        pause: Duration::from_millis(1),
        ..Options::default()
    }
}

/// The image `team/app:v1` at `address`.
fn registry(address: SocketAddr, options: &Options) -> Box<dyn Source> {
    open(&format!("{address}/team/app:v1").parse().unwrap(), options).unwrap()
}

/// Reads a layer from `offset` to its end.
fn read_layer(source: &mut dyn Source, descriptor: &Descriptor, offset: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = source.layer(descriptor, offset)?;
    reader.read_to_end(&mut bytes).map_err(|error| Error::from_io(Kind::Other, error))?;
    Ok(bytes)
}

/// The error of `result`, which must be of `kind` and say all of `parts`.
#[track_caller]
fn refused<T>(result: Result<T>, kind: Kind, parts: &[&str]) -> String {
    let error = result.err().expect("an error");
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    text
}
