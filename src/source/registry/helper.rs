//! Credentials from a program: the protocol of docker-credential-helpers. `docker-credential-NAME get` reads the
//! server from standard input and answers with one JSON object.
//!
//! It is run before the first request and never after it, when this process may be confined. What it prints
//! shows up nowhere: neither its answer, nor its complaints, which may quote a secret.

use super::credentials::{Credential, Secret, basic};
use super::hub;
use crate::error::{Error, Kind, Result};
use crate::image::reference::DEFAULT_HOST;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a helper may take.
const TIME_MAX: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes. Tokens of several KiB are normal.
const ANSWER_MAX: usize = 64 << 10;
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What helpers print where they have nothing (docker-credential-helpers, `credentials.NewErrCredentialsNotFound`).
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name that stands for an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: Secret,
}

/// What the helper `name` has for `host`.
///
/// # Errors
/// [`Kind::Usage`] if it cannot be run, takes too long, fails, or answers nonsense.
pub(super) fn get(name: &str, host: &str) -> Result<Option<Credential>> {
    run(name, host, TIME_MAX)
}

fn run(name: &str, host: &str, limit: Duration) -> Result<Option<Credential>> {
    let program = format!("docker-credential-{name}");
    let server = if host == DEFAULT_HOST { hub::SERVER } else { host };
    let wrong = |what: String| {
        Error::new(Kind::Usage, format!("{program}, which has the credentials for {host}: {what}"))
            .hint(format!("try it by hand: echo {server} | {program} get"))
    };
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err(wrong("this is no name of a helper program".into()));
    }
    let ended = (|| -> io::Result<_> {
        let mut child = Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let ended = converse(&mut child, server, limit);
        if !matches!(ended, Ok(Some(_))) {
            // Whatever it has started goes with it.
            let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            child.wait()?;
        }
        ended
    })();
    match ended {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(wrong("there is no such program in PATH".into()))
        }
        Err(error) => Err(wrong(Error::from_io(Kind::Usage, error).to_string())),
        Ok(None) => Err(wrong(format!("it did not end within {} s", limit.as_secs()))),
        Ok(Some((status, answer))) => understand(status, &answer).map_err(wrong),
    }
}

/// Asks and hears. `None`: it took too long.
fn converse(child: &mut Child, server: &str, limit: Duration) -> io::Result<Option<(ExitStatus, Vec<u8>)>> {
    let until = Instant::now() + limit;
    let mut output = child.stdout.take().expect("is piped");
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // Closed at once: some read to the end. One that reads nothing has ended, or will be ended.
    let _ = child.stdin.take().expect("is piped").write_all(format!("{server}\n").as_bytes());
    let mut answer = Vec::new();
    loop {
        let status = child.try_wait()?;
        drain(&mut output, &mut answer)?;
        match status {
            Some(status) => return Ok(Some((status, answer))),
            None if Instant::now() > until => return Ok(None),
            None => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Takes what is there by now.
fn drain(output: &mut ChildStdout, answer: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() > ANSWER_MAX {
            return Err(io::Error::other("its answer is larger than 64 KiB (edgepull's limit ANSWER_MAX)"));
        }
    }
}

fn understand(status: ExitStatus, answer: &[u8]) -> Result<Option<Credential>, String> {
    if !status.success() {
        let nothing = String::from_utf8_lossy(answer).contains(NOT_FOUND);
        return if nothing { Ok(None) } else { Err(format!("it ended with {status}")) };
    }
    // No serde text here: it quotes what it could not take.
    let Ok(Answer { username, secret }) = serde_json::from_slice(answer) else {
        return Err("its answer is not the JSON object that it should be".into());
    };
    Ok(match username.as_str() {
        _ if secret.reveal().is_empty() => None,
        TOKEN_USER => Some(Credential::Identity(secret)),
        user => Some(basic(&format!("{user}:{}", secret.reveal()))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn answers_of_helpers() {
        let (good, bad) = (ExitStatus::from_raw(0), ExitStatus::from_raw(1 << 8));
        let text = br#"{"ServerURL":"r.example","Username":"user","Secret":"pw"}"#;
        assert_eq!(understand(good, text), Ok(Some(basic("user:pw"))));
        let token = br#"{"ServerURL":"r.example","Username":"<token>","Secret":"id"}"#;
        assert_eq!(understand(good, token), Ok(Some(Credential::Identity(Secret::new("id".into())))));
        assert_eq!(understand(bad, b"credentials not found in native keychain\n"), Ok(None));
        for (status, answer) in
            [(bad, &b"hunter2"[..]), (good, b"hunter2"), (good, br#"{"Secret":["hunter2"]}"#)]
        {
            let what = understand(status, answer).unwrap_err();
            assert!(!what.contains("hunter2"), "{what}");
        }
    }

    #[test]
    fn a_helper_that_is_none() {
        for (name, part) in [("of-nobody-here", "no such program"), ("../x", "no name of a helper")] {
            let error = get(name, "r.example").unwrap_err();
            assert!(error.kind() == Kind::Usage && error.to_string().contains(part), "{error}");
        }
    }
}
