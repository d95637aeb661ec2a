"""What an update costs: the same sequence of releases by edgepull and by its peers, each on a disk of its own.

Bytes fetched are those of the bodies that the registry has sent, by its own log. Bytes written are those of the
disk below the file system, by the kernel's count: metadata and journal included, as flash wears by them, too.
"""

import re
import statistics
import subprocess
from pathlib import Path

FIRST, SAME, TOP, ONE, BACK = STEPS = [
    "first time", "same tag", "top layer changed", "one of 50 files changed, in a 100 MB layer", "rollback"]
# Which release the tag names in each step; for a rollback, which one is gone back to.
RELEASES = {FIRST: 1, SAME: 1, TOP: 2, ONE: 3, BACK: 2}


def edgepull(step, image, registry, out, binary):
    """Keeps two generations, as all contenders do."""
    command = f"{binary} --ca-file {registry.ca} --state-dir {out}/state"
    words = {FIRST: f"deploy app {image}", BACK: "rollback app"}.get(step, "update app")
    return f"{command} {words} >/dev/null; sync -f {out}"


def skopeo_umoci(step, image, registry, out, _binary):
    """The script that people write around the two: a bundle for each release, and a link that is switched."""
    if step == BACK:
        return f"ln -s $(readlink {out}/previous) {out}/next; mv -T {out}/next {out}/current; sync -f {out}"
    return f"""
        options="--cert-dir {registry.work}/certs --no-tags"
        new=$(skopeo --insecure-policy inspect $options --format '{{{{.Digest}}}}' docker://{image})
        [ "$new" != "$(cat {out}/digest 2>/dev/null)" ] || exit 0
        skopeo --insecure-policy copy -q --src-cert-dir {registry.work}/certs docker://{image} oci:{out}/layout:latest
        umoci gc --layout {out}/layout
        bundle={out}/bundle-$(date +%s%N)
        umoci unpack --image {out}/layout:latest $bundle >/dev/null
        sync -f {out}
        if [ -e {out}/previous ]; then rm -rf $(readlink {out}/previous); fi
        if [ -e {out}/current ]; then mv -T {out}/current {out}/previous; fi
        ln -s $bundle {out}/current
        echo $new >{out}/digest
        sync -f {out}"""


def podman(driver):
    def contender(step, image, registry, out, _binary):
        command = f"podman --root {out}/store --runroot {out}/run --storage-driver {driver()}"
        if step == BACK:
            return f"{command} tag $(cat {out}/previous) {image}; sync -f {out}"
        return f"""
            old=$({command} images -q {image})
            {command} pull -q --cert-dir {registry.work}/certs {image} >{out}/id
            [ -z "$old" ] || echo $old >{out}/previous
            sync -f {out}"""

    return contender


TREES = {edgepull: "state/deployments/app/current/rootfs", skopeo_umoci: "current/rootfs"}


class Disk:
    """What was written to the disk below a folder."""

    def __init__(self, folder):
        mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
        device = next(device for device, place, *_ in mounts if Path(place) == Path(folder).parent)
        self.stat = Path("/sys/block") / Path(device).name / "stat"

    def written(self):
        return int(self.stat.read_text().split()[6]) * 512  # Documentation/block/stat.rst


def sent(registry):
    """The bytes of all bodies that the registry has sent so far."""
    log = (registry.work / "log").read_text(errors="replace")
    return sum(int(size) for size in re.findall(r'HTTP/\d\.\d" \d+ (\d+) ', log))


def sequence(bench, contender, out, measure):
    """One contender's way through all steps: a dictionary for each."""
    disk, results = Disk(out), []
    image = f"{bench.registry.address}/bench/update:latest"
    for step in STEPS:
        bench.registry.tag(f"bench/update{RELEASES[step]}", "bench/update")
        subprocess.run(["sync", "-f", out], check=True)
        fetched, written = sent(bench.registry), disk.written()
        # What is noted is not to be counted as written.
        result = measure(contender(step, image, bench.registry, out, bench.binary), bench.work)
        if result["code"]:
            raise SystemExit(f"{step}: exit code {result['code']}")
        result.update(fetched=sent(bench.registry) - fetched, written=disk.written() - written)
        if contender in TREES:
            version = (out / TREES[contender] / "app/version").read_text()
            changed = (out / TREES[contender] / "data/25").read_bytes()[:1]
            assert (version, changed) == (str(min(RELEASES[step], 2)), b"3" if step == ONE else b"1"), step
        results.append(result)
    return results


def table(bench, facts, contenders, results):
    """`results[title]` is a list of sequences, of which the median counts."""
    bench.say(f"**Updates**: {facts['layers']} gzip layers, {facts['wire'] / 1e6:.0f} MB on the wire, "
              f"{facts['unpacked'] / 1e6:.0f} MB of tar, {facts['entries']:,} entries")
    bench.say()
    bench.say("| | | fetched | written to the disk | wall s | CPU s | peak RSS of the largest process |")
    bench.say("|---|---|--:|--:|--:|--:|--:|")
    for number, step in enumerate(STEPS):
        for title in contenders:
            runs = [sequence[number] for sequence in results[title]]
            m = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            bench.say(f"| {step} | {title} | {kilo(m['fetched'])} | {kilo(m['written'])} | {m['wall']:.2f} "
                      f"| {m['cpu']:.2f} | {m['kib'] / 1024:.1f} MiB |")
            step = ""
    bench.say()


def kilo(count):
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
