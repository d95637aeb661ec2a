//! Who the user is, by the files that `docker login` and `podman login` write.
//!
//! `$REGISTRY_AUTH_FILE`, else `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`
//! (containers-auth.json(5), Docker's config.json). Nothing in this module ever prints what it read:
//! [`Secret`] has no readable form, and a broken file is reported by line, not by content.

use crate::error::{Error, Kind, Result};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The largest credentials file, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// Docker Hub's entry in Docker's config.json.
const DOCKER_HUB_KEY: &str = "index.docker.io";

/// Standard base64; the padding may be missing, as some tools write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A string that never shows up in messages or logs.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(String);

impl Secret {
    /// Takes a secret in.
    pub(super) fn new(secret: String) -> Secret {
        Secret(secret)
    }

    /// The secret itself, for the request that needs it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    fn filled(self) -> Option<Secret> {
        (!self.0.is_empty()).then_some(self)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What the user has to show to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// `user:password` in base64, as an `Authorization: Basic` header wants it.
    Basic(Secret),
    /// A refresh token, to be exchanged at the token server.
    Identity(Secret),
    /// A bearer token, to be shown as it is.
    Bearer(Secret),
}

/// The outcome of looking.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    /// What was found.
    pub(super) credential: Option<Credential>,
    /// The file that was, or would have been, looked at.
    pub(super) file: Option<PathBuf>,
    /// Does the file leave secrets to a helper program?
    pub(super) helper: bool,
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(rename = "credsStore", default)]
    store: Option<String>,
    #[serde(rename = "credHelpers", default)]
    helpers: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
    registrytoken: Option<Secret>,
}

/// Looks for what opens `repository` at `host` (as the user wrote it; `docker.io` for Docker Hub).
/// `named` is the file to use instead of the environment's.
pub(super) fn lookup(named: Option<&Path>, host: &str, repository: &str) -> Result<Lookup> {
    let path = named.map(Path::to_owned).or_else(|| file(|name| std::env::var_os(name)));
    let Some(path) = path else { return Ok(Lookup::default()) };
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > FILE_MAX => {
            Err(Error::new(Kind::Usage, format!("{} is larger than 1 MiB", path.display()))
                .hint("edgepull's limit FILE_MAX for credentials"))
        }
        Ok(_) => lookup_in(&bytes, path, host, repository),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(Lookup { file: Some(path), ..Lookup::default() })
        }
        Err(error) => {
            Err(Error::from_io(Kind::Usage, error)
                .context(format_args!("credentials file {}", path.display())))
        }
    }
}

/// Which file has the credentials, going by the environment.
fn file(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("REGISTRY_AUTH_FILE")
        .or_else(|| set("DOCKER_CONFIG").map(|directory| directory.join("config.json")))
        .or_else(|| set("HOME").map(|home| home.join(".docker/config.json")))
}

pub(super) fn lookup_in(bytes: &[u8], path: PathBuf, host: &str, repository: &str) -> Result<Lookup> {
    // serde_json's message would quote the value that it could not take.
    let file: AuthFile = serde_json::from_slice(bytes)
        .map_err(|error| broken(&path, &format!("not valid JSON of that form at line {}", error.line())))?;
    let mut best: Option<(usize, &Entry)> = None;
    for (key, entry) in file.auths.iter().flatten() {
        let length = matches(key, host, repository);
        if length > best.map_or(0, |(length, _)| length) {
            best = Some((length, entry));
        }
    }
    let credential = match best {
        Some((_, entry)) => entry.credential().map_err(|what| broken(&path, what))?,
        None => None,
    };
    let helper = file.store.is_some_and(|store| !store.is_empty())
        || file.helpers.is_some_and(|helpers| !helpers.is_empty());
    Ok(Lookup { credential, file: Some(path), helper })
}

fn broken(path: &Path, what: &str) -> Error {
    Error::new(Kind::Usage, format!("credentials file {}: {what}", path.display()))
        .hint("log in again (docker login, podman login), or mend the file")
}

/// How long the part of `host/repository` is that `key` names; 0 if it names something else.
fn matches(key: &str, host: &str, repository: &str) -> usize {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let key = match bare {
        // Docker's old form is a URL, of which only the host counts.
        Some(url) => url.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    };
    let (key_host, prefix) = key.split_once('/').unwrap_or((key, ""));
    let hub = |name: &str| matches!(name, "docker.io" | DOCKER_HUB_KEY | "registry-1.docker.io");
    if !(key_host.eq_ignore_ascii_case(host) || (hub(key_host) && hub(host))) {
        return 0;
    }
    let prefix = if matches!(prefix, "v1" | "v2") { "" } else { prefix };
    match repository.strip_prefix(prefix) {
        Some("") => 1 + prefix.len(),
        Some(rest) if prefix.is_empty() || rest.starts_with('/') => 1 + prefix.len(),
        _ => 0,
    }
}

impl Entry {
    fn credential(&self) -> Result<Option<Credential>, &'static str> {
        if let Some(token) = self.registrytoken.clone().and_then(Secret::filled) {
            return Ok(Some(Credential::Bearer(token)));
        }
        if let Some(token) = self.identitytoken.clone().and_then(Secret::filled) {
            return Ok(Some(Credential::Identity(token)));
        }
        if let Some(auth) = self.auth.clone().and_then(Secret::filled) {
            // Decoded to check it, and encoded again: what some tools pad with is not for headers.
            let decoded = BASE64.decode(auth.reveal().trim()).map_err(|_| "an auth is not base64")?;
            let text = String::from_utf8(decoded).map_err(|_| "an auth is not text")?;
            let text = text.trim_matches('\0');
            return match text.contains(':') {
                true => Ok(Some(basic(text))),
                false => Err("an auth has no colon between user and password"),
            };
        }
        match (&self.username, &self.password) {
            (Some(user), Some(password)) if !user.is_empty() => {
                Ok(Some(basic(&format!("{user}:{}", password.reveal()))))
            }
            _ => Ok(None),
        }
    }
}

fn basic(user_and_password: &str) -> Credential {
    Credential::Basic(Secret(BASE64.encode(user_and_password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(file: &str, host: &str, repository: &str) -> Option<Credential> {
        lookup_in(file.as_bytes(), "config.json".into(), host, repository).unwrap().credential
    }

    fn user(name: &str) -> Option<Credential> {
        Some(basic(&format!("{name}:pw")))
    }

    #[test]
    fn the_environment_names_the_file() {
        let with = |set: &[(&str, &str)]| {
            let set: Vec<_> = set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            file(move |name| set.iter().find(|(key, _)| key == name).map(|(_, value)| value.into()))
        };
        let (a, d, h) = (("REGISTRY_AUTH_FILE", "/a.json"), ("DOCKER_CONFIG", "/d"), ("HOME", "/h"));
        assert_eq!(with(&[a, d, h]), Some("/a.json".into()));
        assert_eq!(with(&[d, h]), Some("/d/config.json".into()));
        assert_eq!(with(&[("DOCKER_CONFIG", ""), h]), Some("/h/.docker/config.json".into()));
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn the_longest_key_wins() {
        let entry = |name: &str| format!(r#"{{"username":"{name}","password":"pw"}}"#);
        let file = format!(
            r#"{{"auths":{{"r.example":{},"r.example/team":{},"r.example/team/app":{},"https://old.example:5000/v2/":{},
                "https://index.docker.io/v1/":{},"r.example:444":{}}}}}"#,
            entry("host"),
            entry("team"),
            entry("app"),
            entry("old"),
            entry("hub"),
            entry("port")
        );
        for (host, repository, name) in [
            ("r.example", "x", Some("host")),
            ("R.example", "x", Some("host")),
            ("r.example", "teamwork", Some("host")),
            ("r.example", "team", Some("team")),
            ("r.example", "team/other", Some("team")),
            ("r.example", "team/app", Some("app")),
            ("r.example", "team/app/x", Some("app")),
            ("r.example:444", "team", Some("port")),
            ("old.example:5000", "x", Some("old")),
            ("old.example", "x", None),
            ("docker.io", "library/alpine", Some("hub")),
            ("evil-r.example", "x", None),
        ] {
            assert_eq!(find(&file, host, repository), name.and_then(user), "{host}/{repository}");
        }
    }

    #[test]
    fn every_form_of_an_entry() {
        let one = |entry: &str| find(&format!(r#"{{"auths":{{"h.x":{entry}}}}}"#), "h.x", "a");
        assert_eq!(one(r#"{"auth":"dTpwdw=="}"#), user("u"));
        assert_eq!(one(r#"{"auth":"dTpwdw"}"#), user("u"), "padding may be missing");
        assert_eq!(one(r#"{"auth":"dTpwdwA="}"#), user("u"), "old Docker padded with NUL");
        assert_eq!(one(r#"{"auth":"","username":"u","password":"pw"}"#), user("u"));
        assert_eq!(
            one(r#"{"auth":"dTo=","identitytoken":"id"}"#),
            Some(Credential::Identity(Secret("id".into())))
        );
        assert_eq!(one(r#"{"registrytoken":"t"}"#), Some(Credential::Bearer(Secret("t".into()))));
        assert_eq!(one("{}"), None, "docker leaves an empty entry where a helper has the secret");
        let helped = lookup_in(br#"{"credsStore":"pass"}"#, "c".into(), "h", "r").unwrap();
        assert!(helped.helper && helped.credential.is_none());
    }

    #[test]
    fn a_broken_file_is_named_and_its_content_is_not() {
        for file in [
            r#"{"auths":{"h.x":{"auth":["hunter2"]}}}"#,
            r#"{"auths":"hunter2"}"#,
            r#"{"auths":{"h.x":{"auth":"hunter2!"}}}"#,
            r#"{"auths":{"h.x":{"auth":"aHVudGVyMg=="}}}"#,
            "hunter2",
        ] {
            let error = lookup_in(file.as_bytes(), "/home/u/config.json".into(), "h.x", "a").unwrap_err();
            let text = format!("{error} {error:?}");
            assert_eq!(error.kind(), Kind::Usage);
            assert!(text.contains("/home/u/config.json"), "{text}");
            assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
        }
    }

    #[test]
    fn secrets_have_no_readable_form() {
        let found =
            lookup_in(br#"{"auths":{"h.x":{"username":"u","password":"hunter2"}}}"#, "c".into(), "h.x", "a")
                .unwrap();
        let text = format!("{found:?}");
        assert!(!text.contains("hunter2") && !text.contains(&BASE64.encode("u:hunter2")), "{text}");
        assert!(text.contains("Basic(Secret(…))"), "{text}");
    }
}
