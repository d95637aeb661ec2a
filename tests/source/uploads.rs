//! A registry that takes what is written to it, as the distribution-spec wants it, and no more patiently than that.

use crate::options;
use crate::server::{Reply, Request, Server, Taken};
use edgepull::error::Result;
use edgepull::image::digest::Digest;
use edgepull::image::manifest::Descriptor;
use edgepull::source::{Destination, Options, open_destination};
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::sync::{Arc, LazyLock, Mutex};

/// What one request carries at most.
pub const CHUNK: u64 = 8 << 20;
/// 20 MiB: two chunks and a half.
pub static LARGE: LazyLock<Arc<[u8]>> = LazyLock::new(|| {
    let mut bytes = vec![0; 20 << 20];
    for (at, page) in bytes.chunks_mut(4096).enumerate() {
        page.fill(at as u8);
        page[..8].copy_from_slice(&at.to_le_bytes());
    }
    bytes.into()
});

/// What was written.
#[derive(Default)]
pub struct Written {
    /// By their number; with how often each was answered, which every Location names.
    pub uploads: HashMap<usize, (Vec<u8>, usize)>,
    /// By their digest.
    pub blobs: HashMap<String, Vec<u8>>,
    /// By digest and tag; with their media types.
    pub manifests: HashMap<String, (String, Vec<u8>)>,
    begun: usize,
}

/// What a test answers in the registry's place.
type Twist = dyn Fn(&Request, &mut Written) -> Option<Reply> + Send + Sync;

/// A registry with one repository.
pub struct Registry {
    pub server: Server,
    written: Arc<Mutex<Written>>,
}

impl Registry {
    /// A registry that does as it should.
    pub fn new() -> Registry {
        Registry::start(|_, _| None)
    }

    /// One that does not where `twist` has an answer of its own.
    pub fn start(
        twist: impl Fn(&Request, &mut Written) -> Option<Reply> + Send + Sync + 'static,
    ) -> Registry {
        Registry::start_taking(|_| Taken::ALL, twist)
    }

    /// The same, which does not take every request's body.
    pub fn start_taking(
        care: impl Fn(&Request) -> Taken + Send + Sync + 'static,
        twist: impl Fn(&Request, &mut Written) -> Option<Reply> + Send + Sync + 'static,
    ) -> Registry {
        let written = Arc::<Mutex<Written>>::default();
        let (state, twist): (_, Box<Twist>) = (written.clone(), Box::new(twist));
        let server = Server::start_taking(care, move |request, _| {
            let mut written = state.lock().unwrap();
            match twist(request, &mut written) {
                Some(reply) => reply,
                None => written.answer(request),
            }
        });
        Registry { server, written }
    }

    /// `team/app:v1` there.
    pub fn destination(&self) -> Box<dyn Destination> {
        self.destination_by(&options())
    }

    pub fn destination_by(&self, options: &Options) -> Box<dyn Destination> {
        let reference = format!("{}/team/app:v1", self.server.address).parse().unwrap();
        open_destination(&reference, options).unwrap()
    }

    /// Whether exactly these bytes are there as a blob.
    pub fn has(&self, bytes: &[u8]) -> bool {
        let written = self.written.lock().unwrap();
        written.blobs.get(&Digest::of(bytes).to_string()).is_some_and(|blob| *blob == bytes)
    }

    /// The manifest of that tag or digest.
    pub fn manifest(&self, name: &str) -> Option<Vec<u8>> {
        self.written.lock().unwrap().manifests.get(name).map(|(_, bytes)| bytes.clone())
    }

    /// How many blobs there are, and uploads that nobody has ended.
    pub fn counts(&self) -> (usize, usize) {
        let written = self.written.lock().unwrap();
        (written.blobs.len(), written.uploads.len())
    }

    /// What was asked in which order: `POST`, `PATCH 0-8388607`, `PUT`.
    pub fn steps(&self) -> Vec<String> {
        let step = |request: &Request| match request.header("content-range") {
            Some(range) => format!("{} {range}", request.method),
            None => request.method.clone(),
        };
        self.server.requests().iter().map(step).collect()
    }
}

impl Written {
    fn answer(&mut self, request: &Request) -> Reply {
        let path = request.target.strip_prefix("/v2/team/app/").expect("the repository");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        match path.split('/').collect::<Vec<_>>()[..] {
            ["blobs", "uploads", ""] => {
                self.begun += 1;
                self.uploads.insert(self.begun, (Vec::new(), 0));
                self.status(self.begun, 202)
            }
            ["blobs", "uploads", number] => self.upload(request, number.parse().unwrap(), query),
            ["blobs", digest] => match self.blobs.get(digest) {
                Some(blob) => Reply::new(200, "").length(Some(blob.len())),
                None => Reply::new(404, ""),
            },
            ["manifests", name] if request.method == "PUT" => {
                let (digest, typed) = (Digest::of(&request.body).to_string(), request.header("content-type"));
                let document = (typed.unwrap_or_default().to_owned(), request.body.clone());
                self.manifests.insert(digest.clone(), document.clone());
                self.manifests.insert(name.to_owned(), document);
                Reply::new(201, "").with("Docker-Content-Digest", &digest)
            }
            ["manifests", name] => match self.manifests.get(name) {
                Some((typed, bytes)) => {
                    let body = if request.method == "HEAD" { &[] } else { &bytes[..] };
                    Reply::typed(typed, body)
                        .length(Some(bytes.len()))
                        .with("Docker-Content-Digest", &Digest::of(bytes).to_string())
                }
                None => Reply::new(404, ""),
            },
            _ => panic!("{request:?}"),
        }
    }

    fn upload(&mut self, request: &Request, number: usize, query: &str) -> Reply {
        let Some((bytes, answers)) = self.uploads.get_mut(&number) else {
            return error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        if !query.starts_with(&format!("state={answers}")) {
            return error(400, "BLOB_UPLOAD_INVALID");
        }
        match request.method.as_str() {
            "PATCH" => {
                let range = request.header("content-range").expect("a Content-Range");
                if range.split_once('-').unwrap().0 != bytes.len().to_string() {
                    return error(416, "RANGE_INVALID");
                }
                bytes.extend_from_slice(&request.body);
                match request.header("content-length") == Some(&*request.body.len().to_string()) {
                    true => self.status(number, 202),
                    // Nobody hears where it would go on.
                    false => error(500, "UNKNOWN"),
                }
            }
            "GET" => self.status(number, 204),
            "PUT" => {
                bytes.extend_from_slice(&request.body);
                let digest = query.split_once("&digest=").expect("a digest").1.to_owned();
                let whole = request.header("content-length") == Some(&*request.body.len().to_string());
                if !whole || Digest::of(bytes).to_string() != digest {
                    return error(400, "DIGEST_INVALID");
                }
                let (bytes, _) = self.uploads.remove(&number).unwrap();
                self.blobs.insert(digest.clone(), bytes);
                Reply::new(201, "").with("Docker-Content-Digest", &digest)
            }
            "DELETE" => {
                self.uploads.remove(&number);
                Reply::new(204, "")
            }
            _ => panic!("{request:?}"),
        }
    }

    /// What there is of an upload, and its next Location: relative, with a query, and never the same.
    fn status(&mut self, number: usize, status: u16) -> Reply {
        let (bytes, answers) = self.uploads.get_mut(&number).unwrap();
        *answers += 1;
        Reply::new(status, "")
            .with("Location", &format!("/v2/team/app/blobs/uploads/{number}?state={answers}"))
            .with("Range", &format!("0-{}", bytes.len().saturating_sub(1)))
    }
}

/// An error in the registry's words.
pub fn error(status: u16, code: &str) -> Reply {
    Reply::new(status, format!(r#"{{"errors":[{{"code":"{code}","message":"words of the registry"}}]}}"#))
}

/// Gives `bytes` as the blob `descriptor`; what came of that, where the source was opened, and how many bytes were reported.
pub fn push_as(
    destination: &mut dyn Destination,
    descriptor: &Descriptor,
    bytes: &Arc<[u8]>,
) -> (Result<()>, Vec<u64>, u64) {
    let (mut opened, mut sent) = (Vec::new(), 0);
    let mut open = |offset: u64| {
        opened.push(offset);
        let mut reader = Cursor::new(bytes.clone());
        reader.set_position(offset);
        Ok(Box::new(reader) as Box<dyn Read + Send>)
    };
    let result = destination.blob(descriptor, &mut open, &mut |bytes| sent += bytes);
    (result, opened, sent)
}

/// Gives them as what they are.
pub fn push(destination: &mut dyn Destination, bytes: &Arc<[u8]>) -> (Result<()>, Vec<u64>, u64) {
    let descriptor = crate::image::descriptor("application/octet-stream", bytes);
    push_as(destination, &descriptor, bytes)
}
