//! A token server as docker-registry's `auth: token` wants one (distribution's "Token Authentication
//! Specification" and "OAuth2 Token Authentication"): it signs RS256 JSON Web Tokens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::tools::{Scratch, base64, run};

/// The running server; its thread lives until the tests end.
pub struct TokenServer {
    address: String,
    scratch: Arc<Scratch>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TokenServer {
    pub const SERVICE: &str = "board-registry";
    pub const ISSUER: &str = "board-token-server";
    pub const USER: &str = "board";
    pub const PASSWORD: &str = "correct horse";
    /// What `docker login` would have stored as `identitytoken`.
    pub const IDENTITY: &str = "identity-token-of-board";

    /// A server that gives anybody a token to pull from `public/…`, and [`TokenServer::USER`] any token.
    pub fn start() -> TokenServer {
        let scratch = Arc::new(Scratch::new());
        let (key, certificate) = (scratch.at("key.pem"), scratch.at("certificate.pem"));
        let options = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=tokens"];
        run("openssl", options.iter().chain(&["-keyout", &key, "-out", &certificate]));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        // The thread outlives the test; the folder must not.
        let server = (Arc::downgrade(&scratch), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(scratch) = server.0.upgrade() else { break };
                // A client that hangs up is its own affair.
                let _ = answer(stream, &scratch, &server.1);
            }
        });
        TokenServer { address, scratch, asked }
    }

    pub fn realm(&self) -> String {
        format!("http://{}/token", self.address)
    }

    pub fn certificate(&self) -> String {
        self.scratch.at("certificate.pem")
    }

    /// Every request so far: method, target and form, one a line.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("the list of requests").clone()
    }
}

fn answer(stream: TcpStream, scratch: &Scratch, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length, mut login) = (String::new(), 0, None);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "authorization" => login = value.strip_prefix("Basic ").map(str::to_owned),
            _ => {}
        }
    }
    let mut form = vec![0; length];
    reader.read_exact(&mut form)?;
    let form = String::from_utf8_lossy(&form).into_owned();
    asked.lock().expect("the list of requests").push(format!("{} {form}", first.trim_end()));
    let query =
        first.split(' ').nth(1).and_then(|target| target.split_once('?')).map_or("", |(_, query)| query);
    let fields = format!("{query}&{form}");
    let (status, body) = match grant(&fields, login.as_deref()) {
        Some(access) => ("200 OK", json!({ "token": signed(scratch, access), "expires_in": 300 })),
        None => ("401 Unauthorized", json!({ "errors": [{ "code": "UNAUTHORIZED" }] })),
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
    write!(reader.get_mut(), "{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The `access` claim for a request, or nothing for somebody whose password is wrong.
fn grant(fields: &str, login: Option<&str>) -> Option<serde_json::Value> {
    let field = |name: &str| fields.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let right = base64(format!("{}:{}", TokenServer::USER, TokenServer::PASSWORD).as_bytes());
    let known = match (login, field("refresh_token")) {
        (Some(login), _) if login != right => return None,
        (None, Some(token)) if token != TokenServer::IDENTITY => return None,
        (login, token) => login.is_some() || token.is_some(),
    };
    // A parameter for each of them, or one with all.
    let scopes =
        fields.split('&').filter_map(|pair| pair.strip_prefix("scope=")).flat_map(|all| all.split("%20"));
    let granted = scopes.filter_map(|scope| {
        let scope = scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
        let mut parts = scope.splitn(3, ':');
        let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
        let allowed: Vec<&str> = match (known, name.starts_with("public/")) {
            (true, _) => actions.split(',').collect(),
            (false, true) => vec!["pull"],
            (false, false) => vec![],
        };
        Some(json!({ "type": kind, "name": name, "actions": allowed }))
    });
    // None at all is a token that proves who one is, and opens nothing.
    Some(granted.collect())
}

/// A JSON Web Token with the certificate in its header (RFC 7515, `x5c`), signed by openssl.
fn signed(scratch: &Scratch, access: serde_json::Value) -> String {
    let url_safe = |data: &[u8]| base64(data).replace('+', "-").replace('/', "_").replace('=', "");
    let pem = std::fs::read_to_string(scratch.path("certificate.pem")).expect("the certificate");
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [der] });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let claims = json!({
        "iss": TokenServer::ISSUER, "sub": "", "aud": TokenServer::SERVICE, "jti": "1",
        "iat": now - 60, "nbf": now - 60, "exp": now + 300, "access": access,
    });
    let text =
        format!("{}.{}", url_safe(header.to_string().as_bytes()), url_safe(claims.to_string().as_bytes()));
    let (input, output) = (scratch.write("claims", &text), scratch.at("signature"));
    run("openssl", ["dgst", "-sha256", "-sign", &scratch.at("key.pem"), "-out", &output, &input]);
    let signature = std::fs::read(output).expect("openssl's signature");
    format!("{text}.{}", url_safe(&signature))
}
