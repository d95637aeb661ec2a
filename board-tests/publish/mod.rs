//! Publishing: lists made by edgepull beside those that docker makes of the same images, read by docker, skopeo and
//! podman; what is refused; images that go from one place to another; and the example's Makefile.

mod copying;
mod destinations;
mod example;
mod hostile;
mod lies;
mod lists;
mod logins;
mod peers;
mod specs;

use crate::harness::*;
use serde_json::Value;

pub use example::made;

/// This machine, logged in nowhere, with lists of its own.
fn publisher(scratch: &Scratch) -> Board {
    Board::this_machine().with_env("DOCKER_CONFIG", &scratch.at("no-docker"))
}

/// Pushes an image; gives its name. By edgepull: skopeo reads no Docker manifests in OCI layouts, and no lists in lists.
fn pushed(registry: &Registry, scratch: &Scratch, name: &str, image: Artifact) -> String {
    let (layout, to) = (image.oci(scratch, &name.replace(['/', ':'], "-")), registry.image(name));
    publisher(scratch).edgepull(["copy", &layout, &to]).succeeds();
    to
}

/// The bytes that the registry has under a name, as skopeo reads them.
fn raw(image: &str) -> String {
    skopeo(["inspect", "--raw", "--tls-verify=false", &format!("docker://{image}")])
}

/// The same, parsed.
fn list(image: &str) -> Value {
    serde_json::from_str(&raw(image)).expect("a list in JSON")
}

/// `linux/arm/v6` of every entry.
fn platforms(list: &Value) -> Vec<String> {
    let entries = list["manifests"].as_array().expect("entries");
    let platform = |entry: &Value| {
        let part = |key: &str| entry["platform"][key].as_str().map(str::to_owned);
        [part("os"), part("architecture"), part("variant")]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("/")
    };
    entries.iter().map(platform).collect()
}

/// Whether the registry has something under this name.
fn is_there(registry: &Registry, image: &str) -> bool {
    let (repository, tag) = image.rsplit_once(':').expect("a tag");
    let url = format!("http://{}/v2/{repository}/manifests/{tag}", registry.address());
    let accept = "Accept: application/vnd.oci.image.index.v1+json, \
                  application/vnd.docker.distribution.manifest.list.v2+json, \
                  application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
    run("curl", ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", accept, &url]) == "200"
}
