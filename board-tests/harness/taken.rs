//! What [`super::FakeRegistry`] is given: uploads, blobs and manifests, as a registry takes them (distribution-spec, "Push").

use std::collections::BTreeMap;

use super::fake::{Fields, Request};
use super::image::digest_of;

/// Status, header fields, body.
type Said = (u16, Fields, Vec<u8>);

/// Everything by its name or digest.
#[derive(Default)]
pub struct Taken {
    /// The one that goes on: a test pushes one blob at a time.
    upload: Vec<u8>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// With their media types.
    manifests: BTreeMap<String, (String, Vec<u8>)>,
}

impl Taken {
    /// The names and digests of its manifests.
    pub fn names(&self) -> Vec<String> {
        self.manifests.keys().cloned().collect()
    }

    /// The answer to what writes, and to what reads what was written; `None` for all else.
    pub fn answer(&mut self, request: &Request, body: &[u8]) -> Option<Said> {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let (rest, name) = path.rsplit_once('/')?;
        match (request.method.as_str(), rest.rsplit('/').next()?) {
            ("POST", "uploads") => {
                self.upload.clear();
                Some((202, vec![("Location", format!("{rest}/upload"))], Vec::new()))
            }
            ("PATCH", "uploads") => {
                self.upload.extend_from_slice(body);
                Some((202, self.range(), Vec::new()))
            }
            ("GET", "uploads") => Some((204, self.range(), Vec::new())),
            ("DELETE", "uploads") => Some((204, Vec::new(), Vec::new())),
            ("PUT", "uploads") => {
                self.upload.extend_from_slice(body);
                let blob = std::mem::take(&mut self.upload);
                let digest = digest_of(&blob);
                let is_right = query.split('&').any(|pair| pair == format!("digest={digest}"));
                self.blobs.insert(digest, blob);
                Some((if is_right { 201 } else { 400 }, Vec::new(), Vec::new()))
            }
            ("PUT", "manifests") => {
                let media_type = request.header("content-type").unwrap_or_default().to_owned();
                for name in [name, &digest_of(body)] {
                    self.manifests.insert(name.to_owned(), (media_type.clone(), body.to_vec()));
                }
                Some((201, vec![("Docker-Content-Digest", digest_of(body))], Vec::new()))
            }
            (_, "manifests") => {
                let (media_type, bytes) = self.manifests.get(name)?.clone();
                let digest = digest_of(&bytes);
                Some((200, vec![("Content-Type", media_type), ("Docker-Content-Digest", digest)], bytes))
            }
            (_, "blobs") => Some((200, Vec::new(), self.blobs.get(name)?.clone())),
            _ => None,
        }
    }

    fn range(&self) -> Fields {
        vec![("Range", format!("0-{}", self.upload.len().saturating_sub(1)))]
    }
}
