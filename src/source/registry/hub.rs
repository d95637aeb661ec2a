//! Docker Hub, which has another name for everybody.

use crate::image::reference::DEFAULT_HOST;

/// Where its API is.
pub(super) const API: &str = "registry-1.docker.io";
/// Its entry in Docker's config.json, and what helpers know it by: a URL of old.
const INDEX: &str = "index.docker.io";
pub(super) const SERVER: &str = "https://index.docker.io/v1/";

/// Does `host` mean it?
pub(super) fn is(host: &str) -> bool {
    [DEFAULT_HOST, INDEX, API].contains(&host)
}
