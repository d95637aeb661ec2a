//! The `config.json` of an OCI runtime bundle, made from an image config (image-spec conversion.md).
//!
//! The part that says what its process may do is in `limits`. A board's container shares the board's network, so
//! there is no network namespace.

use super::limits;
use super::manifest::{ImageConfig, RunConfig};
use super::program::OpenInRoot;
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The most bytes of `/etc/passwd` or `/etc/group` that are read.
const ACCOUNTS_MAX: u64 = 1 << 20;
/// Who a process runs as.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct User {
    uid: u32,
    gid: u32,
    additional: Vec<u32>,
}

/// The process that an image runs: all that it decides of its `config.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Process {
    user: User,
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    /// Of the image's config: os, architecture and variant.
    platform: [String; 3],
}

impl Process {
    /// That of `image`. User and group names are looked up in the image's own `/etc/passwd` and `/etc/group`.
    ///
    /// # Errors
    /// [`Kind::BadImage`] if one is not there.
    pub fn of(image: &ImageConfig, open: &OpenInRoot) -> Result<Process> {
        let run = &image.config;
        let mut args: Vec<String> = run.args().map(str::to_owned).collect();
        if args.is_empty() {
            args.push("/bin/sh".to_owned());
        }
        let cwd = if run.working_dir.starts_with('/') { run.working_dir.as_str() } else { "/" };
        let variant = image.variant.as_deref().unwrap_or_default();
        Ok(Process {
            user: resolve_user(&run.user, open)?,
            args,
            env: environment(run),
            cwd: cwd.to_owned(),
            platform: [&image.os, &image.architecture, variant].map(str::to_owned),
        })
    }
}

/// The `config.json` of a bundle that runs `process`, whose root is the directory `rootfs` beside it. `rootless` maps
/// the ids of the caller; `readonly` is for a root whose files others have links to; without `seccomp` there is no filter
/// of system calls, for a kernel that has none: crun would refuse to start.
pub fn config_json(process: &Process, rootless: Option<(u32, u32)>, readonly: bool, seccomp: bool) -> String {
    let Process { user, args, env, cwd, platform: [os, architecture, variant] } = process;
    let namespaces = ["pid", "ipc", "uts", "mount"].map(|name| json!({ "type": name }));
    let mut linux = json!({
        "namespaces": namespaces,
        "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
        "maskedPaths": limits::MASKED_PATHS,
        "readonlyPaths": limits::READ_ONLY_PATHS,
    });
    let id_map = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 1 }]);
    if let Some((uid, gid)) = rootless {
        linux["namespaces"].as_array_mut().expect("made above").push(json!({ "type": "user" }));
        linux["uidMappings"] = id_map(uid);
        linux["gidMappings"] = id_map(gid);
        linux.as_object_mut().expect("made above").remove("resources");
    }
    if seccomp {
        linux["seccomp"] = limits::seccomp(architecture);
    }
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.additional },
            "args": args,
            "env": env,
            "cwd": cwd,
            "capabilities": {
                "bounding": limits::CAPABILITIES,
                "effective": limits::CAPABILITIES,
                "permitted": limits::CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": readonly },
        "mounts": mounts(rootless.is_some()),
        "annotations": {
            "org.opencontainers.image.os": os,
            "org.opencontainers.image.architecture": architecture,
            "org.opencontainers.image.variant": variant,
        },
        "linux": linux,
    });
    format!("{config:#}\n")
}

fn environment(run: &RunConfig) -> Vec<String> {
    let mut env = run.env.clone();
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    }
    env
}

fn mounts(rootless: bool) -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    // Without rights over the network namespace sysfs cannot be mounted, only bound.
    let sys = match rootless {
        true => json!({
            "destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]
        }),
        false => mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    };
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !rootless {
        pts.push("gid=5");
    }
    json!([
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
    ])
}

/// `user[:group]`, each a number or a name (image-spec config.md, `User`).
fn resolve_user(text: &str, open: &OpenInRoot) -> Result<User> {
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let unknown = |what: &str, name: &str, file: &str| {
        Error::new(Kind::BadImage, format!("the image runs as {what} {name:?}, who is not in its {file}"))
    };
    let mut user = User { uid: 0, gid: 0, additional: Vec::new() };
    let account = find_account("/etc/passwd", name, open);
    match (&account, name.parse()) {
        _ if name.is_empty() => {}
        (Some(account), _) => {
            user.uid = number(account, 2).ok_or_else(|| unknown("user", name, "/etc/passwd"))?;
            user.gid = number(account, 3).unwrap_or(0);
        }
        (None, Ok(uid)) => user.uid = uid,
        (None, Err(_)) => return Err(unknown("user", name, "/etc/passwd")),
    }
    match group {
        Some(group) if !group.is_empty() => {
            user.gid = match (find_account("/etc/group", group, open), group.parse()) {
                (Some(line), _) => number(&line, 2).ok_or_else(|| unknown("group", group, "/etc/group"))?,
                (None, Ok(gid)) => gid,
                (None, Err(_)) => return Err(unknown("group", group, "/etc/group")),
            };
        }
        _ => {
            let login = account.as_deref().and_then(|account| account.split(':').next()).unwrap_or("root");
            let is_member = |line: &str| {
                line.split(':').nth(3).is_some_and(|members| members.split(',').any(|member| member == login))
            };
            for_lines("/etc/group", open, |line| {
                if is_member(line) {
                    user.additional.extend(number(line, 2));
                }
                user.additional.len() < 64
            });
        }
    }
    Ok(user)
}

/// The line of the account whose name, or else whose number, is `wanted`.
fn find_account(file: &str, wanted: &str, open: &OpenInRoot) -> Option<String> {
    let mut found = None;
    for_lines(file, open, |line| {
        let matches = line.split(':').next() == Some(wanted)
            || found.is_none() && wanted.parse().ok().is_some_and(|id: u32| number(line, 2) == Some(id));
        if matches {
            found = Some(line.to_owned());
        }
        line.split(':').next() != Some(wanted)
    });
    found
}

fn number(line: &str, field: usize) -> Option<u32> {
    line.split(':').nth(field)?.parse().ok()
}

/// Calls `visit` with each line of a file in the image until it says false. No file: no lines.
fn for_lines(file: &str, open: &OpenInRoot, mut visit: impl FnMut(&str) -> bool) {
    let Ok(file) = open(Path::new(file)) else { return };
    let mut reader = BufReader::new(file.take(ACCOUNTS_MAX));
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
        if !visit(String::from_utf8_lossy(&line).trim_end()) {
            return;
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io;

    fn user(text: &str) -> Result<User> {
        let etc = tempfile::tempdir().unwrap();
        std::fs::create_dir(etc.path().join("etc")).unwrap();
        let passwd = "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/:/bin/false\n1000:x:7:8::/:\n";
        std::fs::write(etc.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(etc.path().join("etc/group"), "www:x:34:\nvideo:x:44:pi,www\ndisk:x:6:root\n")
            .unwrap();
        resolve_user(text, &|path: &Path| File::open(etc.path().join(path.strip_prefix("/").unwrap())))
    }

    #[test]
    fn users_by_name_and_number() {
        let is = |uid, gid, additional: &[u32]| User { uid, gid, additional: additional.to_vec() };
        assert_eq!(user("").unwrap(), is(0, 0, &[6]));
        assert_eq!(user("www").unwrap(), is(33, 34, &[44]));
        assert_eq!(user("33").unwrap(), is(33, 34, &[44]));
        assert_eq!(user("www:video").unwrap(), is(33, 44, &[]));
        assert_eq!(user("4711:12").unwrap(), is(4711, 12, &[]));
        assert_eq!(user("1000").unwrap().uid, 7, "a name that looks like a number is a name");
        assert!(user("nobody").unwrap_err().to_string().contains("\"nobody\""));
        assert!(user("www:nogroup").is_err());
    }

    #[test]
    fn the_image_s_command_environment_and_user_come_through() {
        let image = ImageConfig::parse(
            br#"{"os":"linux","architecture":"arm","variant":"v6","config":
                {"Entrypoint":["/a"],"Cmd":["-b"],"Env":["X=1"],"WorkingDir":"/w","User":"5:6"}}"#,
        )
        .unwrap();
        let nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
        let process = Process::of(&image, &nothing).unwrap();
        let config: Value = serde_json::from_str(&config_json(&process, None, true, true)).unwrap();
        assert_eq!(config["process"]["args"], json!(["/a", "-b"]));
        assert_eq!(config["process"]["env"][0], "X=1");
        assert!(config["process"]["env"][1].as_str().unwrap().starts_with("PATH="));
        assert_eq!(config["process"]["cwd"], "/w");
        assert_eq!(config["process"]["user"]["uid"], 5);
        assert_eq!(config["process"]["user"]["gid"], 6);
        assert_eq!(config["root"], json!({ "path": "rootfs", "readonly": true }));
        assert!(config["linux"].get("uidMappings").is_none());
        assert_eq!(
            config["linux"]["seccomp"]["architectures"],
            json!(["SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"])
        );
        let capabilities = config["process"]["capabilities"].as_object().unwrap();
        for set in capabilities.values() {
            assert!(!set.as_array().unwrap().contains(&json!("CAP_MKNOD")));
        }
        let rootless = config_json(&process, Some((1000, 1000)), false, false);
        let rootless: Value = serde_json::from_str(&rootless).unwrap();
        assert_eq!(rootless["linux"]["uidMappings"][0]["hostID"], 1000);
        assert_eq!(rootless["root"]["readonly"], false);
        assert!(rootless["linux"].get("seccomp").is_none(), "a kernel without it");
    }
}
