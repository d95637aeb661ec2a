//! One requirement of policy.json, field by field: what containers/image refuses (signature/policy_config.go and
//! policy_config_sigstore.go of version 5) is refused here, too, because a policy that one program reads and another
//! does not is no policy.
//!
//! Two things are stricter: `null` is no value of any field, and an empty text is none; containers/image takes some of
//! these for a field that is not there.

use super::identity::Rule;
use super::json::Json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::PathBuf;

/// One requirement of a list, all of which have to hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Requirement {
    /// `insecureAcceptAnything`.
    AcceptAnything,
    /// `reject`.
    Reject,
    /// Something that edgepull does not know how to check.
    Unsupported(&'static str),
    /// `sigstoreSigned` by any of these keys, with this identity.
    Signed {
        /// At least one.
        keys: Vec<KeySource>,
        /// Says what the signature has to name.
        identity: Rule,
    },
}

/// Names the place of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeySource {
    /// In a file.
    Path(PathBuf),
    /// In the policy.
    Data {
        /// The field that has it, for messages: `keyDatas[1]`.
        field: String,
        /// The key in PEM.
        pem: Vec<u8>,
    },
}

/// The fields of `signedBy` that say where its keys are.
const GPG_SOURCES: [&str; 3] = ["keyPath", "keyPaths", "keyData"];
/// Lists what `keyType` may be; all but the first are reserved, and nobody checks them.
const KEY_TYPES: [&str; 4] = ["GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs"];
/// The fields of `sigstoreSigned` that say who has to have signed.
const SOURCES: [&str; 6] = ["keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki"];
/// The fields of `sigstoreSigned` that say which transparency log has to know of it.
const REKOR: [&str; 4] =
    ["rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"];

/// Reads a requirement. The error says what is wrong with it.
pub(super) fn requirement(json: &Json) -> Result<Requirement, String> {
    match json.text_at("type").ok_or("no requirement, for it has no \"type\"")? {
        "insecureAcceptAnything" => {
            known(json, "the requirement", &["type"]).map(|()| Requirement::AcceptAnything)
        }
        "reject" => known(json, "the requirement", &["type"]).map(|()| Requirement::Reject),
        "signedBy" => signed_by(json),
        "signedBaseLayer" => {
            known(json, "signedBaseLayer", &["type", "baseLayerIdentity"])?;
            let identity = json.get("baseLayerIdentity").ok_or("it needs \"baseLayerIdentity\"")?;
            Rule::parse(identity).map_err(|why| format!("baseLayerIdentity: {why}"))?;
            Ok(Requirement::Unsupported("signedBaseLayer (which skopeo and podman never find met, either)"))
        }
        "sigstoreSigned" => sigstore_signed(json),
        other => Err(format!("{other:?} is no type of requirement")),
    }
}

fn signed_by(json: &Json) -> Result<Requirement, String> {
    known(json, "signedBy", &[&["type", "keyType", "signedIdentity"], &GPG_SOURCES[..]].concat())?;
    match text(json, "keyType")?.ok_or("it needs \"keyType\"")? {
        kind if KEY_TYPES.contains(&kind) => {}
        other => {
            return Err(format!("\"keyType\" is {other:?}, and not one of {}", KEY_TYPES.join(", ")));
        }
    }
    identity(json)?;
    let key = one_of(json, &GPG_SOURCES)?;
    match key {
        "keyPath" => text(json, key).map(drop)?,
        "keyPaths" => list(json, key, |_, path| Ok(path.to_owned())).map(drop)?,
        _ => data(json, key).map(drop)?,
    }
    Ok(Requirement::Unsupported("signedBy (a GPG signature)"))
}

fn sigstore_signed(json: &Json) -> Result<Requirement, String> {
    known(json, "sigstoreSigned", &[&["type", "signedIdentity"], &REKOR[..], &SOURCES[..]].concat())?;
    let identity = identity(json)?;
    let has_rekor = rekor(json)?;
    let key = one_of(json, &SOURCES)?;
    let path = |_: String, path: &str| Ok(KeySource::Path(path.into()));
    let keys = match key {
        "keyPath" => text(json, key)?.into_iter().map(|path| KeySource::Path(path.into())).collect(),
        "keyPaths" => list(json, key, path)?,
        "keyData" => {
            let pem = data(json, key)?;
            pem.into_iter().map(|pem| KeySource::Data { field: key.to_owned(), pem }).collect()
        }
        "keyDatas" => list(json, key, |field, text| {
            let pem = decoded(&field, text)?;
            Ok(KeySource::Data { field, pem })
        })?,
        "fulcio" => {
            fulcio(json.get(key)).map_err(|why| format!("fulcio: {why}"))?;
            if !has_rekor {
                return Err(format!("with \"fulcio\" it needs one of {}", REKOR.join(", ")));
            }
            return Ok(Requirement::Unsupported("sigstoreSigned with fulcio (certificates)"));
        }
        _ => {
            pki(json.get(key)).map_err(|why| format!("pki: {why}"))?;
            return Ok(Requirement::Unsupported("sigstoreSigned with pki (certificates)"));
        }
    };
    if keys.is_empty() {
        return Err(format!("{key:?} is an empty list"));
    }
    match has_rekor {
        true => Ok(Requirement::Unsupported("sigstoreSigned with a rekor key (a transparency log)")),
        false => Ok(Requirement::Signed { keys, identity }),
    }
}

/// Checks the fields about transparency logs, and returns whether there is one.
fn rekor(json: &Json) -> Result<bool, String> {
    at_most_one_of(json, &REKOR)?;
    text(json, "rekorPublicKeyPath")?;
    data(json, "rekorPublicKeyData")?;
    for key in ["rekorPublicKeyPaths", "rekorPublicKeyDatas"] {
        let is_path = key.ends_with("Paths");
        let read = |field: String, text: &str| if is_path { Ok(Vec::new()) } else { decoded(&field, text) };
        if json.get(key).is_some() && list(json, key, read)?.is_empty() {
            return Err(format!("{key:?} is an empty list"));
        }
    }
    Ok(REKOR.iter().any(|key| json.get(key).is_some()))
}

/// Checks the inside of `fulcio`.
fn fulcio(json: Option<&Json>) -> Result<(), String> {
    let Some(json) = json else { return Ok(()) };
    known(json, "it", &["caPath", "caData", "oidcIssuer", "subjectEmail"])?;
    one_of(json, &["caPath", "caData"])?;
    text(json, "caPath")?;
    data(json, "caData")?;
    for key in ["oidcIssuer", "subjectEmail"] {
        text(json, key)?.ok_or_else(|| format!("it needs {key:?}"))?;
    }
    Ok(())
}

/// Checks the inside of `pki`.
fn pki(json: Option<&Json>) -> Result<(), String> {
    const ROOTS: [&str; 2] = ["caRootsPath", "caRootsData"];
    const INTERMEDIATES: [&str; 2] = ["caIntermediatesPath", "caIntermediatesData"];
    const SUBJECT: [&str; 2] = ["subjectEmail", "subjectHostname"];
    let Some(json) = json else { return Ok(()) };
    known(json, "it", &[ROOTS, INTERMEDIATES, SUBJECT].concat())?;
    one_of(json, &ROOTS)?;
    at_most_one_of(json, &INTERMEDIATES)?;
    for key in [ROOTS[0], INTERMEDIATES[0], SUBJECT[0], SUBJECT[1]] {
        text(json, key)?;
    }
    for key in [ROOTS[1], INTERMEDIATES[1]] {
        data(json, key)?;
    }
    match SUBJECT.iter().any(|key| json.get(key).is_some()) {
        true => Ok(()),
        false => Err(format!("it needs at least one of {}", SUBJECT.join(", "))),
    }
}

fn identity(json: &Json) -> Result<Rule, String> {
    match json.get("signedIdentity") {
        None => Ok(Rule::MatchRepoDigestOrExact),
        Some(identity) => Rule::parse(identity).map_err(|why| format!("signedIdentity: {why}")),
    }
}

/// The one of these fields that there is.
fn one_of<'a>(json: &Json, keys: &[&'a str]) -> Result<&'a str, String> {
    at_most_one_of(json, keys)?.ok_or_else(|| format!("it needs one of {}", keys.join(", ")))
}

fn at_most_one_of<'a>(json: &Json, keys: &[&'a str]) -> Result<Option<&'a str>, String> {
    let mut there = keys.iter().copied().filter(|key| json.get(key).is_some());
    match (there.next(), there.next()) {
        (Some(one), Some(other)) => {
            Err(format!("it has {one:?} and {other:?}: of {} only one may be there", keys.join(", ")))
        }
        (one, _) => Ok(one),
    }
}

/// The text in a field, `None` where there is no such field. Empty is an error: nothing can be meant by it.
fn text<'a>(json: &'a Json, key: &str) -> Result<Option<&'a str>, String> {
    let Some(value) = json.get(key) else { return Ok(None) };
    match value.text() {
        Some("") => Err(format!("{key:?} is empty")),
        Some(text) => Ok(Some(text)),
        None => Err(format!("{key:?} is not a text")),
    }
}

/// The bytes in a field, `None` where there is no such field.
fn data(json: &Json, key: &str) -> Result<Option<Vec<u8>>, String> {
    text(json, key)?.map(|text| decoded(key, text)).transpose()
}

/// Decodes base64. Line ends in it are passed over, as by Go's decoder: `base64 FILE` writes them.
fn decoded(key: &str, text: &str) -> Result<Vec<u8>, String> {
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    STANDARD.decode(text).map_err(|_| format!("{key:?} is not base64"))
}

/// The texts of a list, each read by `read`, which is told the element's name; it may have none.
fn list<T>(
    json: &Json,
    key: &str,
    read: impl Fn(String, &str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let Some(Json::List(list)) = json.get(key) else { return Err(format!("{key:?} is not a list")) };
    let one = |(at, json): (usize, &Json)| {
        let field = format!("{key}[{at}]");
        match json.text() {
            Some("") => Err(format!("{field:?} is empty")),
            Some(text) => read(field, text),
            None => Err(format!("{field:?} is not a text")),
        }
    };
    list.iter().enumerate().map(one).collect()
}

/// The keys and values of an object; none where there is nothing.
pub(super) fn fields<'a>(json: Option<&'a Json>, place: &str) -> Result<&'a [(String, Json)], String> {
    match json {
        None => Ok(&[]),
        Some(Json::Object(fields)) => Ok(fields),
        Some(_) => Err(format!("{place}: no object")),
    }
}

/// Refuses an object that has keys besides these.
pub(super) fn known(json: &Json, what: &str, keys: &[&str]) -> Result<(), String> {
    let unknown = fields(Some(json), what)?.iter().find(|(key, _)| !keys.contains(&key.as_str()));
    unknown.map_or(Ok(()), |(key, _)| Err(format!("{what} has {key:?}, which is not known")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Requirement, String> {
        requirement(&Json::parse(text.as_bytes()).unwrap())
    }

    const ROOT: &str = r#""pki":{"caRootsPath":"/r","subjectEmail":"a@b""#;
    const CA: &str =
        r#""rekorPublicKeyPath":"/r","fulcio":{"caPath":"/c","oidcIssuer":"i","subjectEmail":"a@b""#;

    /// The inside of each type of requirement, and whether containers/image 5 reads it.
    #[test]
    fn each_field_is_taken_or_refused_as_by_others() {
        let inside = |kind: &str, rows: &[(&str, bool)]| {
            for (fields, is_good) in rows {
                let comma = if fields.is_empty() { "" } else { "," };
                let text = format!(r#"{{"type":"{kind}"{comma}{fields}}}"#);
                let read = read(&text);
                assert_eq!(read.is_ok(), *is_good, "{text}: {read:?}");
            }
        };
        for kind in ["insecureAcceptAnything", "reject"] {
            let rows = [("", true), (r#""keyPath":"/k""#, false), (r#""signedIdentity":{}"#, false)];
            inside(kind, &rows);
        }
        inside(
            "signedBy",
            &[
                (r#""keyType":"GPGKeys","keyPath":"/k""#, true),
                (r#""keyType":"signedByGPGKeys","keyPath":"/k""#, true),
                (r#""keyType":"X509Certificates","keyPaths":["/k","/l"]"#, true),
                (r#""keyType":"signedByX509CAs","keyData":"QUJD""#, true),
                (r#""keyType":"GPGKeys","keyPaths":[]"#, true),
                (r#""keyType":"GPGKeys","keyPath":"/k","signedIdentity":{"type":"matchExact"}"#, true),
                (r#""keyPath":"/k""#, false),
                (r#""keyType":"gpgkeys","keyPath":"/k""#, false),
                (r#""keyType":null,"keyPath":"/k""#, false),
                (r#""keyType":"GPGKeys""#, false),
                (r#""keyType":"GPGKeys","keyPath":"""#, false),
                (r#""keyType":"GPGKeys","keyPath":1"#, false),
                (r#""keyType":"GPGKeys","keyPaths":"/k""#, false),
                (r#""keyType":"GPGKeys","keyPaths":[1]"#, false),
                (r#""keyType":"GPGKeys","keyData":"!""#, false),
                (r#""keyType":"GPGKeys","keyDatas":["QUJD"]"#, false),
                (r#""keyType":"GPGKeys","keyPath":"/k","keyPaths":["/k"]"#, false),
                (r#""keyType":"GPGKeys","keyPath":"/k","keyData":"QUJD""#, false),
                (r#""keyType":"GPGKeys","keyPath":"/k","signedIdentity":{"type":"x"}"#, false),
                (r#""keyType":"GPGKeys","keyPath":"/k","signedIdentity":null"#, false),
                (r#""keyType":"GPGKeys","keyPath":"/k","fulcio":{}"#, false),
            ],
        );
        inside(
            "signedBaseLayer",
            &[
                (r#""baseLayerIdentity":{"type":"matchExact"}"#, true),
                (r#""baseLayerIdentity":{"type":"exactReference","dockerReference":"a.b/c:1"}"#, true),
                ("", false),
                (r#""baseLayerIdentity":null"#, false),
                (r#""baseLayerIdentity":{"type":"x"}"#, false),
                (r#""baseLayerIdentity":{"type":"matchExact","x":1}"#, false),
                (r#""baseLayerIdentity":{"type":"matchExact"},"keyPath":"/k""#, false),
                (r#""signedIdentity":{"type":"matchExact"}"#, false),
            ],
        );
        inside(
            "sigstoreSigned",
            &[
                (r#""keyPath":"/k""#, true),
                (r#""keyPaths":["/k","/l"]"#, true),
                (r#""keyData":"QUJD""#, true),
                (r#""keyData":"QU\nJD\r\n""#, true),
                (r#""keyDatas":["QUJD"]"#, true),
                (r#""keyPath":"/k","signedIdentity":{"type":"matchRepository"}"#, true),
                (r#""keyPath":"/k","rekorPublicKeyPath":"/r""#, true),
                (r#""keyPath":"/k","rekorPublicKeyPaths":["/r"]"#, true),
                (r#""keyPath":"/k","rekorPublicKeyData":"QUJD""#, true),
                (r#""keyPath":"/k","rekorPublicKeyDatas":["QUJD"]"#, true),
                ("", false),
                (r#""keyType":"GPGKeys","keyPath":"/k""#, false),
                (r#""KeyPath":"/k""#, false),
                (r#""keyPath":"/k","keyPaths":["/k"]"#, false),
                (r#""keyPath":"/k","keyData":"QUJD""#, false),
                (r#""keyData":"QUJD","keyDatas":["QUJD"]"#, false),
                (r#""keyPaths":[]"#, false),
                (r#""keyDatas":[]"#, false),
                (r#""keyPaths":null"#, false),
                (r#""keyDatas":["QUJD","!"]"#, false),
                (r#""keyPath":{}"#, false),
                (r#""keyPath":"/k","baseLayerIdentity":{"type":"matchExact"}"#, false),
                (r#""keyPath":"/k","rekorPublicKeyPath":1"#, false),
                (r#""keyPath":"/k","rekorPublicKeyPaths":[]"#, false),
                (r#""keyPath":"/k","rekorPublicKeyPaths":"/r""#, false),
                (r#""keyPath":"/k","rekorPublicKeyData":"!""#, false),
                (r#""keyPath":"/k","rekorPublicKeyDatas":["!"]"#, false),
                (r#""keyPath":"/k","rekorPublicKeyDatas":[]"#, false),
                (r#""keyPath":"/k","rekorPublicKeyPath":"/r","rekorPublicKeyData":"QUJD""#, false),
                (r#""rekorPublicKeyPath":"/r""#, false),
            ],
        );
        for (rest, is_good) in [
            ("}", true),
            (r#"},"signedIdentity":{"type":"matchExact"}"#, true),
            (r#"},"keyPath":"/k""#, false),
            (r#","caData":"QUJD"}"#, false),
            (r#","x":1}"#, false),
        ] {
            inside("sigstoreSigned", &[(&format!("{CA}{rest}"), is_good)]);
        }
        for (from, to) in [
            (r#""rekorPublicKeyPath":"/r","#, ""),
            (r#""caPath":"/c","#, ""),
            (r#""caPath":"/c""#, r#""caPath":1"#),
            (r#""oidcIssuer":"i","#, ""),
            (r#""oidcIssuer":"i""#, r#""oidcIssuer":"""#),
            (r#","subjectEmail":"a@b""#, ""),
        ] {
            inside("sigstoreSigned", &[(&format!("{}}}", CA.replace(from, to)), false)]);
        }
        inside("sigstoreSigned", &[(r#""rekorPublicKeyPath":"/r","fulcio":null"#, false)]);
        for (rest, is_good) in [
            ("}", true),
            (r#","subjectHostname":"h"}"#, true),
            (r#","caIntermediatesPath":"/i"}"#, true),
            (r#","caIntermediatesData":"QUJD"}"#, true),
            (r#"},"rekorPublicKeyPath":"/r""#, true),
            (r#","caIntermediatesPath":"/i","caIntermediatesData":"QUJD"}"#, false),
            (r#","caRootsData":"QUJD"}"#, false),
            (r#","oidcIssuer":"i"}"#, false),
        ] {
            inside("sigstoreSigned", &[(&format!("{ROOT}{rest}"), is_good)]);
        }
        for (from, to) in [(r#""caRootsPath":"/r","#, ""), (r#","subjectEmail":"a@b""#, "")] {
            inside("sigstoreSigned", &[(&format!("{}}}", ROOT.replace(from, to)), false)]);
        }
        for kind in ["", "SignedBy", "signedby", "prSignedBy", "x"] {
            inside(kind, &[("", false)]);
        }
        for text in ["null", "1", "[]", "{}", r#"{"type":1}"#, r#"{"Type":"reject"}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_field_is_named_that_is_wrong() {
        for (fields, reasons) in [
            (r#""keyPath":"/k","keyData":"QUJD""#, &["\"keyPath\" and \"keyData\"", "only one"][..]),
            (r#""keyDatas":["QUJD","!"]"#, &["keyDatas[1]", "not base64"]),
            (r#""keyPath":"/k","rekorPublicKeyPaths":[""]"#, &["rekorPublicKeyPaths[0]", "empty"]),
            (r#""fulcio":{"caPath":"/c","oidcIssuer":"i"}"#, &["fulcio:", "subjectEmail"]),
            (r#""pki":{"caRootsPath":"/c"}"#, &["pki:", "subjectEmail, subjectHostname"]),
        ] {
            let why = read(&format!(r#"{{"type":"sigstoreSigned",{fields}}}"#)).unwrap_err();
            assert!(reasons.iter().all(|reason| why.contains(reason)), "{fields}: {why}");
        }
    }
}
