//! An image config, and the runtime's `config.json` made of it and of the image's own `/etc/passwd`: it is JSON, and
//! says who `User` is as a plain reading of these files does.
#![no_main]

use edgepull::image::manifest::{ImageConfig, RunConfig};
use edgepull::image::runtime::{Process, config_json};
use edgepull_fuzz::arbitrary::{self, Arbitrary};
use edgepull_fuzz::{assert_message, fuzz_target, memory};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    user: &'a str,
    passwd: Option<&'a [u8]>,
    group: Option<&'a [u8]>,
    rootless: Option<(u32, u32)>,
    config: &'a [u8],
}

fn file(bytes: Option<&[u8]>) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes.ok_or(io::ErrorKind::NotFound)?)?;
    file.rewind()?;
    Ok(file)
}

fuzz_target!(|input: Input<'_>| {
    let limit = 16 * input.config.len() + 16 * 1024;
    let mut image = memory::within(limit, || ImageConfig::parse(input.config)).unwrap_or_default();
    if image.config.user.is_empty() {
        image.config = RunConfig { user: input.user.to_owned(), ..image.config };
    }
    let open = |path: &Path| match path.to_str() {
        Some("/etc/passwd") => file(input.passwd),
        Some("/etc/group") => file(input.group),
        _ => panic!("{} is nothing that is looked at for this", path.display()),
    };
    let process = match Process::of(&image, &open) {
        Ok(process) => process,
        Err(error) => return assert_message(&error.to_string()),
    };
    let text = config_json(&process, input.rootless, true, true);
    let config: serde_json::Value = serde_json::from_str(&text).expect("config.json is JSON");
    let process = &config["process"];
    assert!(process["args"].as_array().is_some_and(|args| !args.is_empty()));
    assert!(process["cwd"].as_str().is_some_and(|cwd| cwd.starts_with('/')));
    assert_eq!(process["noNewPrivileges"], true);
    let uid = process["user"]["uid"].as_u64().expect("a number");
    assert!(process["user"]["additionalGids"].as_array().is_some_and(|gids| gids.len() <= 64));
    // Root only who is called so: by no name at all, by number, or by /etc/passwd.
    let name = image.config.user.split(':').next().unwrap_or_default();
    let named_so = |line: &str| {
        let mut fields = line.split(':');
        let (first, third) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
        (first == name || third.parse::<u32>().ok() == name.parse::<u32>().ok()) && third.parse() == Ok(0u32)
    };
    let passwd = String::from_utf8_lossy(input.passwd.unwrap_or_default());
    if uid == 0 && !name.is_empty() && name.parse() != Ok(0u32) {
        assert!(passwd.split('\n').any(|line| named_so(line.trim_end())), "{name:?} has become root");
    }
});
