//! From a registry's 401 to an `Authorization` header: Docker's token protocol (distribution docs,
//! spec/auth/token and spec/auth/oauth), or Basic.
//!
//! Secrets go to the registry itself, to its token server if that is https, and over plain http to
//! nobody but the host that the user chose to reach without TLS.

use super::challenge::Challenge;
use super::credentials::{Credential, Lookup, Secret};
use super::endpoint::{Access, Endpoint};
use super::http::{Answer, Class, Failure};
use super::no_registry;
use super::outcome::{asked_host, begins_a_page, is_html, may_pass, outcome};
use super::url::{Origin, absolute, encode, shown, with_query};
use crate::error::{Error, Kind};
use crate::image::json::{self, Shape, Value};
use std::io::Read;
use ureq::http::{HeaderValue, header};

/// The largest answer of a token server, in bytes: a token of 64 KiB, twice, as Docker Hub's has it under both of its names,
/// and what else is said of it.
const TOKEN_MAX: u64 = 160 << 10;
/// How edgepull calls itself to token servers.
const CLIENT_ID: &str = "edgepull";

/// Answers the challenges of a 401: the value of the `Authorization` header to try next.
pub(super) fn authorize(client: &Endpoint, answer: Answer, access: &Access) -> Result<Secret, Failure> {
    let challenges: Vec<Challenge> = (answer.response.headers().get_all(header::WWW_AUTHENTICATE).iter())
        // A realm may have any letters (RFC 9110, 5.5: obs-text), and who reads it only compares it.
        .flat_map(|header| Challenge::parse(&String::from_utf8_lossy(header.as_bytes())))
        .collect();
    let found = client.credentials().map_err(Failure::last)?;
    let registry = Origin::of(&answer.url);
    if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
        if let Some(Credential::Bearer(token)) = &found.credential {
            return header_value("Bearer", token.reveal());
        }
        // Read to its end, the connection is free for the request that follows.
        outcome(answer);
        return fetch_token(client, bearer, registry, found, access);
    }
    match (challenges.iter().any(|challenge| challenge.scheme == "basic"), &found.credential) {
        (true, Some(Credential::Basic(secret))) => {
            outcome(answer);
            header_value("Basic", secret.reveal())
        }
        _ => Err(client.denied(answer, access)),
    }
}

/// `message` as an error that says what the credentials had to do with it.
pub(super) fn explain(client: &Endpoint, message: String, access: &Access) -> Error {
    let host = &client.host;
    let error = Error::new(Kind::Auth, message);
    let found = match client.credentials() {
        Ok(found) => found,
        Err(error) => return error,
    };
    let places = &found.places;
    let known = found.credential.is_some();
    error.hint(match access {
        Access::Pull if known => format!("the credentials for {host} in {places} were refused"),
        Access::Pull => format!(
            "no credentials found for {host} in {places}: it may not exist, or be private (docker login {host})"
        ),
        #[cfg(feature = "publish")]
        Access::Push { .. } if known => format!(
            "the credentials for {host} in {places} were refused, or may not write to {} (docker login {host})",
            client.repository
        ),
        #[cfg(feature = "publish")]
        Access::Push { .. } => {
            format!("no credentials found for {host} in {places}, and not everybody may write (docker login {host})")
        }
    })
}

/// Gets a token from the server that the challenge names.
fn fetch_token(
    client: &Endpoint,
    bearer: &Challenge,
    registry: Option<Origin>,
    found: &Lookup,
    access: &Access,
) -> Result<Secret, Failure> {
    let fail = |message: String| Failure::last(Error::new(Kind::Auth, format!("{}: {message}", client.host)));
    let realm = bearer.parameter("realm").unwrap_or_default();
    let url = absolute(realm)
        .ok_or_else(|| fail(format!("its token server {:?} is no http or https URL", clipped(realm))))?;
    let (Some(registry), Some(server)) = (registry, Origin::of(&url)) else {
        return Err(fail("its token server has no address".into()));
    };
    if registry.secure && !server.secure {
        return Err(fail(format!("its token server {} has no TLS, but it has: refused", shown(&url))));
    }
    if !server.secure && server.host != registry.host && found.credential.is_some() {
        return Err(fail(format!(
            "its token server {} has no TLS and is another host: credentials are not sent there",
            shown(&url)
        )));
    }
    let scope = access.scope(bearer.parameter("scope"), &client.repository);
    let service = bearer.parameter("service").map(|service| format!("service={}&", encode(service)));
    let service = service.unwrap_or_default();
    let answer = match &found.credential {
        Some(Credential::Identity(token)) => {
            let (scope, token) = (encode(&scope), encode(token.reveal()));
            let form = format!(
                "grant_type=refresh_token&client_id={CLIENT_ID}&{service}scope={scope}&refresh_token={token}"
            );
            client.http.post(&url, &form)?
        }
        other => {
            let basic = match other {
                Some(Credential::Basic(secret)) => Some(header_value("Basic", secret.reveal())?),
                _ => None,
            };
            // One parameter each, where OAuth's form has one for all (RFC 6749, 3.3).
            let scopes: Vec<String> = scope.split(' ').map(|one| format!("scope={}", encode(one))).collect();
            let url = with_query(&url, &format!("{service}{}", scopes.join("&")))
                .ok_or_else(|| fail("its token server has no usable URL".into()))?;
            client.http.get_referred(&url, basic.as_ref().map(Secret::reveal))?
        }
    };
    token_of(client, answer, access)
}

/// Reads the token that a token server has answered with, as Go's encoding/json reads it ([`json`]).
///
/// # Errors
/// Returns [`Kind::Auth`] where the server gives no token, and [`Kind::Network`] where the answer is no JSON object at all:
/// then a page stands before the server, which says nothing of anybody's rights.
fn token_of(client: &Endpoint, answer: Answer, access: &Access) -> Result<Secret, Failure> {
    const SHAPE: Shape = Shape::Object(&[("token", Shape::Text), ("access_token", Shape::Text)]);
    let server = asked_host(&answer);
    let answer = may_pass(answer)
        .map_err(|failure| Failure { error: failure.error.context("token server"), ..failure })?;
    let said = |what: &str| format!("{}: token server {server}: {what}", client.host);
    match answer.status() {
        200..=299 => {}
        // What is posted follows no redirect, and a token server has none: that leads to a page.
        301 | 302 | 303 | 307 | 308 => return Err(no_registry(said(&outcome(answer)))),
        _ => return Err(Failure::last(explain(client, said(&outcome(answer)), access))),
    }
    let wrong = |what: &str| Failure::last(Error::new(Kind::Auth, said(what)));
    let (is_html, mut bytes) = (is_html(&answer), Vec::new());
    (answer.into_body().take(TOKEN_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| Failure::new(Class::Passing, Error::from_io(Kind::Network, error)))?;
    if bytes.len() as u64 > TOKEN_MAX && !is_html && !begins_a_page(&bytes) {
        return Err(wrong("the answer is larger than 160 KiB (edgepull's limit TOKEN_MAX)"));
    }
    let Ok(object @ Value::Fields(_)) = json::read(&bytes, &SHAPE) else {
        return Err(no_registry(said("its answer is no JSON object")));
    };
    let [token, access_token] = object.fields().map(Value::text);
    let filled = |token: &String| !token.is_empty();
    let token = token.filter(filled).or(access_token.filter(filled));
    header_value("Bearer", &token.ok_or_else(|| wrong("the answer holds no token"))?)
}

/// `scheme secret`, if that can stand in a header.
fn header_value(scheme: &str, secret: &str) -> Result<Secret, Failure> {
    let value = format!("{scheme} {secret}");
    match HeaderValue::from_str(&value) {
        Ok(_) => Ok(Secret::new(value)),
        Err(_) => Err(Failure::last(Error::new(Kind::Auth, "the token has characters that no token has"))),
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_cannot_smuggle_headers() {
        let error = header_value("Bearer", "x\r\nHost: evil").unwrap_err().error;
        assert_eq!(error.kind(), Kind::Auth);
        assert_eq!(header_value("Bearer", "x.y-z=").unwrap().reveal(), "Bearer x.y-z=");
    }
}
