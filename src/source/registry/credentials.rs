//! Who the user is, by the files that `docker login` and `podman login` write, and by the helper programs that
//! they name.
//!
//! `--auth-file` alone, if given; else the first of these files that has something for the host:
//!
//! 1. `$REGISTRY_AUTH_FILE`
//! 2. `$CREDENTIALS_DIRECTORY/edgepull.auth.json`: a systemd credential
//! 3. `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`
//! 4. `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`: podman's
//! 5. `/etc/edgepull/auth.json`
//!
//! Within a file: `credHelpers` for the host, then `auths`, then `credsStore` (containers-auth.json(5), Docker's
//! config.json). Nothing in this module ever prints what it read: [`Secret`] has no readable form, and a
//! broken file is reported by line, not by content.

use super::network::Network;
use super::{file, hub};
use crate::error::{Error, Kind, Result};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// The largest credentials file, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// The last place that is looked at.
const OWN_FILE: &str = "/etc/edgepull/auth.json";

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

/// A name and a password from the command line, for the registry itself and for no mirror.
#[cfg(feature = "publish")]
#[derive(Debug, Clone)]
pub struct Login(Credential);

#[cfg(feature = "publish")]
impl Login {
    /// This user with this password.
    pub fn new(username: &str, password: &str) -> Login {
        Login(basic(&format!("{username}:{password}")))
    }

    pub(super) fn lookup(&self) -> Lookup {
        Lookup { credential: Some(self.0.clone()), places: "--username and --password".to_owned() }
    }
}

/// The outcome of looking.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    /// What was found.
    pub(super) credential: Option<Credential>,
    /// Where it was found, or would have been: files, and the helper.
    pub(super) places: String,
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

/// Looks for what opens `repository` at `host` (as the user wrote it; `docker.io` for Docker Hub), and runs the
/// helper program that has it. `named` is the file to use instead of the usual ones.
pub(super) fn lookup(
    named: Option<&Path>,
    host: &str,
    repository: &str,
    network: &Network,
) -> Result<Lookup> {
    let files = match named {
        Some(file) => vec![file.to_owned()],
        None => files(|name| std::env::var_os(name)),
    };
    let mut places = Vec::new();
    for path in &files {
        places.push(path.display().to_string());
        let Some(bytes) = file::read(path, FILE_MAX, "FILE_MAX for credentials", Some(network))? else {
            continue;
        };
        let run = |helper: &str| network.helper(helper, host);
        let found = lookup_in(&bytes, path, host, repository, &run)?;
        if found.credential.is_some() {
            return Ok(found);
        }
        places.pop();
        places.push(found.places);
    }
    Ok(Lookup { credential: None, places: places.join(", ") })
}

/// Which files have the credentials, going by the environment; those of an empty variable are left out.
fn files(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let at = |name: &str, below: &str| {
        let directory = variable(name).filter(|value| !value.is_empty()).map(PathBuf::from)?;
        Some(if below.is_empty() { directory } else { directory.join(below) })
    };
    let docker = at("DOCKER_CONFIG", "config.json").or_else(|| at("HOME", ".docker/config.json"));
    [
        at("REGISTRY_AUTH_FILE", ""),
        at("CREDENTIALS_DIRECTORY", "edgepull.auth.json"),
        docker,
        at("XDG_RUNTIME_DIR", "containers/auth.json"),
        at("HOME", ".config/containers/auth.json"),
        Some(OWN_FILE.into()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a file has. `run` asks a helper.
pub(super) fn lookup_in(
    bytes: &[u8],
    path: &Path,
    host: &str,
    repository: &str,
    run: &dyn Fn(&str) -> Result<Option<Credential>>,
) -> Result<Lookup> {
    // serde_json's message would quote the value that it could not take.
    let file: AuthFile = serde_json::from_slice(bytes)
        .map_err(|error| broken(path, &format!("not valid JSON of that form at line {}", error.line())))?;
    let place = path.display().to_string();
    let helped = |helper: &str| -> Result<Lookup> {
        let credential = run(helper).map_err(|error| error.context(&place))?;
        Ok(Lookup { credential, places: format!("docker-credential-{helper} of {place}") })
    };
    let own =
        file.helpers.iter().flatten().find(|(key, helper)| matches(key, host, "") > 0 && !helper.is_empty());
    if let Some((_, helper)) = own {
        return helped(helper);
    }
    let mut best: Option<(usize, &Entry)> = None;
    for (key, entry) in file.auths.iter().flatten() {
        let length = matches(key, host, repository);
        if length > best.map_or(0, |(length, _)| length) {
            best = Some((length, entry));
        }
    }
    let credential = match best {
        Some((_, entry)) => entry.credential().map_err(|what| broken(path, what))?,
        None => None,
    };
    match file.store.filter(|store| !store.is_empty() && credential.is_none()) {
        Some(store) => helped(&store),
        None => Ok(Lookup { credential, places: place }),
    }
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
    if !(key_host.eq_ignore_ascii_case(host) || (hub::is(key_host) && hub::is(host))) {
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

/// `user:password` as a credential.
pub(super) fn basic(user_and_password: &str) -> Credential {
    Credential::Basic(Secret(BASE64.encode(user_and_password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(file: &str, host: &str, repository: &str) -> Option<Credential> {
        look(file, host, repository).unwrap().credential
    }

    /// With a helper `good` that knows every host, and no other.
    fn look(file: &str, host: &str, repository: &str) -> Result<Lookup> {
        let run = |helper: &str| match helper {
            "good" => Ok(user("helper")),
            "empty" => Ok(None),
            _ => Err(Error::new(Kind::Usage, "it failed")),
        };
        lookup_in(file.as_bytes(), Path::new("/home/u/config.json"), host, repository, &run)
    }

    fn user(name: &str) -> Option<Credential> {
        Some(basic(&format!("{name}:pw")))
    }

    #[test]
    fn the_environment_names_the_files() {
        let with = |set: &[(&str, &str)]| {
            let set: Vec<_> = set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let files =
                files(move |name| set.iter().find(|(key, _)| key == name).map(|(_, value)| value.into()));
            let files: Vec<_> = files.into_iter().map(|file| file.display().to_string()).collect();
            files.join(" ")
        };
        let (a, d, h) = (("REGISTRY_AUTH_FILE", "/a.json"), ("DOCKER_CONFIG", "/d"), ("HOME", "/h"));
        let (c, x) = (("CREDENTIALS_DIRECTORY", "/c"), ("XDG_RUNTIME_DIR", "/x"));
        assert_eq!(
            with(&[x, h, c, d, a]),
            "/a.json /c/edgepull.auth.json /d/config.json /x/containers/auth.json \
             /h/.config/containers/auth.json /etc/edgepull/auth.json"
        );
        assert_eq!(
            with(&[("DOCKER_CONFIG", ""), h]),
            "/h/.docker/config.json /h/.config/containers/auth.json /etc/edgepull/auth.json"
        );
        assert_eq!(with(&[]), "/etc/edgepull/auth.json");
    }

    #[test]
    fn helpers_and_what_stands_in_the_file() {
        let auths = r#""auths":{"h.x":{"auth":"dTpwdw=="},"empty.x":{}}"#;
        for (file, host, expected) in [
            (r#"{"credHelpers":{"h.x":"good"},AUTHS}"#, "h.x", user("helper")),
            (r#"{"credHelpers":{"other.x":"bad"},AUTHS}"#, "h.x", user("u")),
            (r#"{"credsStore":"bad",AUTHS}"#, "h.x", user("u")),
            (r#"{"credsStore":"good",AUTHS}"#, "empty.x", user("helper")),
            (r#"{"credsStore":"empty",AUTHS}"#, "z.x", None),
            (r#"{"credHelpers":{"docker.io":"good"}}"#, "docker.io", user("helper")),
            (r#"{"credHelpers":{"h.x":""},"credsStore":""}"#, "h.x", None),
        ] {
            assert_eq!(find(&file.replace("AUTHS", auths), host, "a"), expected, "{file} {host}");
        }
        let found = look(r#"{"credHelpers":{"h.x":"good"}}"#, "h.x", "a").unwrap();
        assert_eq!(found.places, "docker-credential-good of /home/u/config.json");
        let error = look(r#"{"credsStore":"bad"}"#, "h.x", "a").unwrap_err();
        assert_eq!(error.to_string(), "/home/u/config.json: it failed");
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
            let error = look(file, "h.x", "a").unwrap_err();
            let text = format!("{error} {error:?}");
            assert_eq!(error.kind(), Kind::Usage);
            assert!(text.contains("/home/u/config.json"), "{text}");
            assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
        }
    }

    #[test]
    fn secrets_have_no_readable_form() {
        let found = look(r#"{"auths":{"h.x":{"username":"u","password":"hunter2"}}}"#, "h.x", "a").unwrap();
        let text = format!("{found:?}");
        assert!(!text.contains("hunter2") && !text.contains(&BASE64.encode("u:hunter2")), "{text}");
        assert!(text.contains("Basic(Secret(…))"), "{text}");
    }
}
