"""What publishing costs: the same image copied, and the same list made, by edgepull and by its peers.

An image is copied to a registry over TLS, once more, to another repository of it (where blobs can be mounted), and back;
then a list of three images is made, with the tool's own way of remembering it.
"""

import statistics

NEW, SAME, MOUNT, BACK = STEPS = ["to the registry", "the same again", "to another repository there", "to a layout"]
LIST = "a list of 3 images"


def edgepull_copy(step, name, registry, out, binary, layout):
    place = f"{registry.address}/{name}"
    source, target = {
        NEW: (f"oci:{layout}:latest", f"{place}/a:1"), SAME: (f"oci:{layout}:latest", f"{place}/a:1"),
        MOUNT: (f"{place}/a:1", f"{place}/b:1"), BACK: (f"{place}/a:1", f"oci:{out}/layout:1")}[step]
    return f"exec {binary} --ca-file {registry.ca} copy {source} {target} >/dev/null"


def skopeo_copy(step, name, registry, out, _binary, layout):
    place = f"docker://{registry.address}/{name}"
    certs = registry.work / "certs"
    source, target = {
        NEW: (f"oci:{layout}:latest", f"{place}/a:1"), SAME: (f"oci:{layout}:latest", f"{place}/a:1"),
        MOUNT: (f"{place}/a:1", f"{place}/b:1"), BACK: (f"{place}/a:1", f"oci:{out}/layout:1")}[step]
    return (f"exec skopeo --insecure-policy copy -q --all --preserve-digests --src-cert-dir {certs} "
            f"--dest-cert-dir {certs} {source} {target}")


COPIERS = {"`skopeo copy --all`": skopeo_copy, "`edgepull copy`": edgepull_copy}


def docker_list(images, target, out, _binary):
    docker = f"DOCKER_CONFIG={out}/docker docker manifest"
    return (f"{docker} create --insecure {target} {' '.join(images)} >/dev/null\n"
            f"{docker} push --insecure --purge {target} >/dev/null")


def edgepull_list(options):
    def contender(images, target, out, binary):
        edgepull = f"{binary} --state-dir {out}/state manifest"
        return (f"{edgepull} create {target} {' '.join(images)} >/dev/null\n"
                f"{edgepull} push {options} --purge {target} >/dev/null")
    return contender


LISTERS = {"`docker manifest create`, `push`": docker_list,
           "`edgepull manifest create`, `push --no-check`": edgepull_list("--no-check"),
           "the same, with its check": edgepull_list("")}


def copies(bench, contender, number, layout, out, measure):
    """One contender's way through all steps: a result for each."""
    name = f"bench/copy{number}-{contender.__name__}"
    results = []
    for step in STEPS:
        results.append(measure(contender(step, name, bench.registry, out, bench.binary, layout), out))
        if results[-1]["code"]:
            raise SystemExit(f"{contender.__name__}: {step}: exit code {results[-1]['code']}")
    return results


def lists(bench, title, number, images, registry, out, measure):
    target = f"{registry.address}/bench/list:of-{number}-{list(LISTERS).index(title)}"
    result = measure(LISTERS[title](images, target, out, bench.binary), out)
    if result["code"]:
        raise SystemExit(f"{title}: exit code {result['code']}")
    return result


def table(bench, facts, copied, listed):
    """`copied[title]` has a list of results for each run, `listed[title]` a result for each."""
    bench.say(f"**Publishing**: {facts['layers']} layers, {facts['wire'] / 1e6:.0f} MB on the wire")
    bench.say()
    bench.say("| | | wall s | CPU s | peak RSS of the largest process |")
    bench.say("|---|---|--:|--:|--:|")
    for number, step in enumerate(STEPS):
        for title, runs in copied.items():
            row(bench, step, title, [run[number] for run in runs])
            step = ""
    step = LIST
    for title, runs in listed.items():
        row(bench, step, title, runs)
        step = ""
    bench.say()


def row(bench, step, title, runs):
    m = {key: statistics.median(run[key] for run in runs) for key in ("wall", "cpu", "kib")}
    bench.say(f"| {step} | {title} | {m['wall']:.2f} | {m['cpu']:.2f} | {m['kib'] / 1024:.1f} MiB |")
