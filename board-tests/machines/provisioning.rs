//! edgepull as the step of an initramfs that provisions the board: run before anything else exists. Nothing
//! is mounted, there is no /etc/ssl and no /etc/resolv.conf, and the clock stands at 1970.

use super::results::{peak_memory, record};
use super::table::Machine as Board;
use crate::harness::*;

/// What the provisioned system says when it has booted.
const GREETING: &str = "this is the provisioned root, PID 1";

pub fn prove(board: &'static Board) {
    let (scratch, authority, expired) = (Scratch::new(), Authority::new(), Authority::expired());
    let registry = Registry::with().tls(&authority).start();
    registry.push(&system(board).layout(&scratch, "system"), "system");
    let image = registry.image_for_guest("system");
    let outdated = FakeRegistry::serving_with_tls(&system(board), &expired);

    let disk = scratch.at("disk");
    run("mke2fs", ["-q", "-t", "ext4", &disk, "64M"]);
    let mut machine = Setup::of(&board.model)
        .bare()
        .disk(&disk)
        .file("/ca.pem", authority.ca())
        .file("/expired.pem", expired.ca())
        .file("/bin/guest-provision", include_str!("guest-provision"))
        .boot();

    machine.proves("that there is nothing: no /proc, no /sys, no /etc, no time");
    machine.run("ls -A /proc /sys /etc").succeeds().says_only("/etc:\n\n/proc:\n\n/sys:\n");
    machine.run("date +%Y").succeeds().says_only("1970\n");
    machine.proves("edgepull platform knows the board without /proc, and says that it is missing");
    let platform = machine.run("edgepull platform").succeeds().stdout();
    assert!(platform.starts_with(&format!("this board is {}: ", board.candidates[0])), "{platform}");
    assert!(platform.contains("mount -t proc proc /proc"), "{platform}");
    machine.run("guest-network").succeeds();

    machine.proves("a name needs a DNS server, and it says so");
    machine
        .run("edgepull --ca-file /ca.pem pull registry.example/system /tmp/system")
        .fails_with(exit::NETWORK)
        .saying("/etc/resolv.conf")
        .saying("literal address");
    machine.proves("without certificates to trust it says how to give some");
    machine.run(&format!("edgepull pull {image} /tmp/system")).fails_with(exit::NETWORK).saying("--ca-file");
    machine.proves("an expired certificate is refused, whatever the clock says");
    let expired_image = outdated.image_for_guest();
    machine
        .run(&format!("edgepull --ca-file /expired.pem pull {expired_image} /tmp/system"))
        .fails_with(exit::NETWORK)
        .saying("expired");
    machine.proves("with a CA and a literal address it pulls, in 1970");
    let outcome = machine.run(&format!("edgepull -v --ca-file /ca.pem pull {image} /tmp/system")).succeeds();
    peak_memory(board.model.name, &outcome);
    machine.run("rm -r /tmp/system").succeeds();

    machine.proves("the init script provisions the disk, and the provisioned root boots");
    let device = machine.disk();
    machine.becomes(&format!("guest-provision {device} {image}"));
    machine.hears(GREETING);
    record(board.model.name, "seconds", machine.seconds());
}

/// A root file system that boots: busybox, and an init that tells who it is.
fn system(board: &Board) -> Artifact {
    let init = format!(
        "#!/bin/sh\n[ ! -e /bin/edgepull ] && echo \"{}\"\nexec sleep 1000\n",
        GREETING.replace('1', "$$")
    );
    let layer = Layer::new()
        .dir("bin", 0o755)
        .dir("sbin", 0o755)
        .dir("dev", 0o755)
        .char_device("dev/console", 5, 1)
        .file_mode("bin/busybox", busybox(&board.model), 0o755)
        .symlink("bin/sh", "busybox")
        .symlink("bin/sleep", "busybox")
        .file_mode("sbin/init", init, 0o755);
    Image::of(board.candidates[0]).layer(layer).entrypoint("/sbin/init").build()
}
