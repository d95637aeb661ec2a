"""The images that the benchmark pulls, as OCI layouts: made once from this machine's own files, then kept."""

import gzip
import hashlib
import io
import json
import os
import platform
import random
import shutil
import stat
import subprocess
import tarfile
import tempfile

PROGRAMS = ["/usr/lib", "/usr/share", "/usr/bin", "/usr/include", "/usr/libexec", "/usr/sbin"]
GZIP_LEVEL = 6  # what registries hold: gzip's and Docker's default
ZSTD = ["zstd", "-q", "-c", "-3", "--long=23"]  # the level and window of BuildKit and Podman
LONG_NAME = 300 << 20


def architecture():
    """This machine in the words of the image-spec."""
    machine = platform.machine()
    names = {"x86_64": {"architecture": "amd64"}, "aarch64": {"architecture": "arm64"},
             "armv7l": {"architecture": "arm", "variant": "v7"},
             "armv6l": {"architecture": "arm", "variant": "v6"}}
    return dict(names[machine], os="linux")


def files_of_this_machine(largest=None):
    """Regular files and links below PROGRAMS, in a fixed order."""
    for top in PROGRAMS:
        for folder, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                meta = os.lstat(path)
                if stat.S_ISLNK(meta.st_mode) and largest is None:
                    yield path, meta
                elif stat.S_ISREG(meta.st_mode) and (largest is None or 0 < meta.st_size <= largest):
                    yield path, meta


class Tee(io.RawIOBase):
    """Writes to a file and hashes on the way."""

    def __init__(self, file):
        self.file, self.hash, self.count = file, hashlib.sha256(), 0

    def writable(self):
        return True

    def write(self, data):
        self.hash.update(data)
        self.count += len(data)
        return self.file.write(data)

    def digest(self):
        return "sha256:" + self.hash.hexdigest()


class Layout:
    """An OCI image layout of one image in the making."""

    def __init__(self, folder):
        self.folder, self.layers, self.diff_ids = folder, [], []
        self.compression = "gzip"
        self.unpacked, self.names = 0, set()
        os.makedirs(os.path.join(folder, "blobs/sha256"))

    def blob(self, data, media_type):
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        name = hashlib.sha256(data).hexdigest()
        with open(f"{self.folder}/blobs/sha256/{name}", "wb") as file:
            file.write(data)
        return {"mediaType": media_type, "digest": "sha256:" + name, "size": len(data)}

    def layer(self, write):
        """Adds the layer whose tar archive `write(file)` writes."""
        unfinished = f"{self.folder}/unfinished"
        with open(unfinished, "wb") as file:
            wire = Tee(file)
            if self.compression == "zstd":
                tar = self.zstd(wire, write)
            else:
                with gzip.GzipFile(filename="", fileobj=wire, mode="wb", compresslevel=GZIP_LEVEL, mtime=0) as packed:
                    tar = Tee(packed)
                    write(tar)
        os.rename(unfinished, f"{self.folder}/blobs/" + wire.digest().replace(":", "/"))
        kind = "application/vnd.oci.image.layer.v1.tar+" + self.compression
        self.layers.append({"mediaType": kind, "digest": wire.digest(), "size": wire.count})
        self.diff_ids.append(tar.digest())
        self.unpacked += tar.count

    @staticmethod
    def zstd(wire, write):
        with tempfile.TemporaryFile() as plain, tempfile.TemporaryFile() as packed:
            tar = Tee(plain)
            write(tar)
            plain.seek(0)
            subprocess.run(ZSTD, stdin=plain, stdout=packed, check=True)
            packed.seek(0)
            shutil.copyfileobj(packed, wire)
        return tar

    def tar_layer(self, members):
        """Adds a layer of (name, path of the content or bytes, metadata) in this order."""

        def write(out):
            made = set()
            with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for name, content, meta in members:
                    self.parents(tar, name, made)
                    self.member(tar, name, content, meta)

        self.layer(write)

    def parents(self, tar, name, made):
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in made:
                made.add(folder)
                info = tarfile.TarInfo(folder)
                info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, 1700000000
                tar.addfile(info)
                self.names.add(folder)

    def member(self, tar, name, content, meta):
        info = tarfile.TarInfo(name)
        info.mode, info.mtime = stat.S_IMODE(meta.st_mode), int(meta.st_mtime)
        self.names.add(name)
        if stat.S_ISLNK(meta.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(content)
            return tar.addfile(info)
        if isinstance(content, bytes):
            info.size = len(content)
            return tar.addfile(info, io.BytesIO(content))
        info.size = meta.st_size
        with open(content, "rb") as file:
            return tar.addfile(info, file)

    def finish(self):
        """Writes manifest and index; gives what the report says about the image."""
        config = dict(architecture(), config={}, rootfs={"type": "layers", "diff_ids": self.diff_ids})
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "layers": self.layers,
                    "config": self.blob(config, "application/vnd.oci.image.config.v1+json")}
        top = self.blob(manifest, kind)
        top["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
        facts = {"compression": self.compression, "layers": len(self.layers), "entries": len(self.names),
                 "unpacked": self.unpacked, "wire": sum(layer["size"] for layer in self.layers),
                 "digests": [layer["digest"] for layer in self.layers]}
        for name, content in [("index.json", {"schemaVersion": 2, "manifests": [top]}),
                              ("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("facts.json", facts)]:
            with open(f"{self.folder}/{name}", "w") as file:
                json.dump(content, file)
        return facts


def big(layout, scale):
    """Five layers of programs, libraries and documents, together 400 MB unpacked (at scale 1)."""
    wanted = int(400e6 * scale)
    everything = list(files_of_this_machine())
    random.Random(1).shuffle(everything)  # a sample of all sizes and kinds, the same every time
    chosen, total = [], 0
    for path, meta in everything:
        # No file so large that it fills a layer, and more, by itself.
        if meta.st_size <= wanted / 20 and total + meta.st_size <= wanted:
            chosen.append((path.lstrip("/"), path, meta))
            total += meta.st_size
    if total < wanted * 0.75:
        raise SystemExit(f"/usr holds only {total / 1e6:.0f} MB here: too little for the big image")
    chosen.sort(key=lambda member: member[0])
    layers, filled = [[] for _ in range(5)], 0
    for member in chosen:
        layers[min(4, 5 * filled // total)].append(member)
        filled += member[2].st_size
    for members in layers:
        layout.tar_layer(members)


def zstd(layout, scale):
    """The big image in zstd."""
    layout.compression = "zstd"
    big(layout, scale)


def small(layout, scale):
    """One layer of 100,000 small files (at scale 1): what this machine has up to 4 KiB, again and again."""
    wanted = int(100_000 * scale)
    sources = []
    for path, meta in files_of_this_machine(largest=4096):
        with open(path, "rb") as file:
            sources.append((path.lstrip("/"), file.read(), meta))
        if len(sources) == wanted:
            break
    members = []
    while len(members) < wanted:
        copy = len(members) // len(sources)
        members += [(f"copy{copy}/{name}", content, meta) for name, content, meta in sources]
    layout.tar_layer(members[:wanted])


def few(layout, _scale):
    """Ten small files, to hold the memory of many files against."""
    members = [member for _, member in zip(range(10), files_of_this_machine(largest=4096))]
    layout.tar_layer([(path.lstrip("/"), path, meta) for path, meta in members])


def longname(layout, _scale):
    """A hostile layer: a GNU long-name header that announces, and has, a name of 300 MiB."""

    def write(out):
        header = tarfile.TarInfo("././@LongLink")
        header.type, header.size = b"L", LONG_NAME
        out.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(LONG_NAME >> 20):
            out.write(b"n" * (1 << 20))
        out.write(tarfile.TarInfo("n").tobuf(tarfile.GNU_FORMAT) + bytes(1024))

    layout.layer(write)


def update(release):
    """Three layers: a base, 50 files of 2 MB each (at scale 1), an application. From release 2 on another
    application, from release 3 on one of the files is another."""

    def write(layout, scale):
        wanted, content = int(100e6 * scale), bytearray()
        sources = [member for member in files_of_this_machine() if stat.S_ISREG(member[1].st_mode)]
        random.Random(2).shuffle(sources)
        for path, _ in sources:
            if len(content) >= wanted:
                break
            with open(path, "rb") as file:
                content += file.read(2_000_000)
        plain = os.stat(sources[0][0])
        base, total = [], 0
        # Neighbours, for an image has folders with files in them.
        for path, meta in sorted(sources):
            if total + meta.st_size <= 20e6 * scale:
                base.append((path.lstrip("/"), path, meta))
                total += meta.st_size
        layout.tar_layer(base)
        size = wanted // 50
        files = [b"1" + bytes(content[at * size:(at + 1) * size]) for at in range(50)]
        if release >= 3:
            files[25] = b"3" + files[25][:0:-1]
        layout.tar_layer([(f"data/{at}", file, plain) for at, file in enumerate(files)])
        version = min(release, 2)
        program = bytes(content[version * 1000:][:size // 2])
        layout.tar_layer([("app/program", program, plain), ("app/version", str(version).encode(), plain)])

    return write


CONTENTS = {"big": big, "zstd": zstd, "small": small, "few": few, "longname": longname,
            "update1": update(1), "update2": update(2), "update3": update(3)}


def image(name, folder, scale):
    """The layout called `name` in `folder`, made if it is not there; gives its path and its facts."""
    path = os.path.join(folder, f"{name}-{scale}")
    if not os.path.exists(f"{path}/facts.json"):
        os.system(f"rm -rf '{path}'")
        layout = Layout(path)
        CONTENTS[name](layout, scale)
        layout.finish()
    with open(f"{path}/facts.json") as file:
        return path, json.load(file)


def described(layout, data):
    """Writes a blob into a finished layout; its digest and size, as a descriptor has them."""
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(layout, "blobs/sha256", digest), "wb") as file:
        file.write(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}
