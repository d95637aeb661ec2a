#!/usr/bin/env python3
"""Writes the image layout in this folder: one image index, five platforms, a tiny program for each.

    examples/hello/generate.py                  write the layout beside this file
    examples/hello/generate.py DIR              write it into DIR
    examples/hello/generate.py --check          fail unless the files here are what would be written
    examples/hello/generate.py --program v6     print one program (v5 v6 v7 arm64 amd64) to stdout

Each program is a static ELF file put together here from machine words, so no toolchain is needed
and every run gives the same bytes. A program is honest about its platform: the number of the system
call write(2) comes out of an instruction that an older CPU does not have (and, where the platform is
hard-float, goes through a VFP register), so on a lesser board it dies of an illegal instruction, as
any other program of that platform would.

As a library: `program(name)` gives an ELF file, `write_layout(dir, entries)` an image index over any
pairs of platform and program, also pairs that do not belong together.
"""

import hashlib
import json
import os
import struct
import sys
import tarfile
import tempfile
import zlib

CREATED = "2024-01-01T00:00:00Z"
MTIME = 1704067200  # the same moment, in the tar header

# ---------------------------------------------------------------------------------------------
# Machine code. Each list prints a message of LENGTH bytes at MESSAGE and exits with status 0.
# ---------------------------------------------------------------------------------------------


def arm_code(write_number, length):
    """A32 code (ARM ARM DDI 0406C, section A8); `write_number` leaves 4, write(2), in r7.

    The message stands right behind the code, which has 7 words besides `write_number`.
    """
    words = [
        0xE3A00001,  # mov  r0, #1                   standard output
        0xE28F1010,  # add  r1, pc, #16              pc is two words ahead: the message
        0xE3A02000 | length,  # mov  r2, #length
        0xEF000000,  # svc  #0                       write(1, message, length)
        0xE3A00000,  # mov  r0, #0
        0xE3A07001,  # mov  r7, #1
        0xEF000000,  # svc  #0                       exit(0)
    ]
    return struct.pack(f"<{len(write_number) + len(words)}I", *write_number, *words)


# ARMv5T brought CLZ: 0x0F000000 has 4 leading zeros.
WRITE_BY_CLZ = [
    0xE3A0740F,  # mov  r7, #0x0F000000
    0xE16F7F17,  # clz  r7, r7
]
THROUGH_VFP = [
    0xEE007A10,  # vmov s0, r7                   hard-float platforms: VFPv2 must be there
    0xEE107A10,  # vmov r7, s0
]
# ARMv6 brought REV: 0x04000000 with its bytes turned round is 4.
WRITE_BY_REV = [
    0xE3A07301,  # mov  r7, #0x04000000
    0xE6BF7F37,  # rev  r7, r7
] + THROUGH_VFP
# ARMv7 brought DMB; MOVW came with ARMv6T2, which the ARM1176 of the Raspberry Pi 1 is not.
WRITE_BY_MOVW = [
    0xF57FF05B,  # dmb  ish
    0xE3007004,  # movw r7, #4
] + THROUGH_VFP


def arm64_code(length):
    """A64 code (ARM ARM DDI 0487, section C6)."""
    return struct.pack(
        "<8I",
        0xD2800020,  # movz x0, #1
        0x100000E1,  # adr  x1, #28                  the message
        0xD2800002 | length << 5,  # movz x2, #length
        0xD2800808,  # movz x8, #64                  write
        0xD4000001,  # svc  #0
        0xD2800000,  # movz x0, #0
        0xD2800BA8,  # movz x8, #93                  exit
        0xD4000001,  # svc  #0
    )


def amd64_code(length):
    """x86-64 code (Intel SDM volume 2)."""
    return (
        b"\xb8\x01\x00\x00\x00"  # mov  eax, 1                   write
        b"\xbf\x01\x00\x00\x00"  # mov  edi, 1
        b"\x48\x8d\x35\x10\x00\x00\x00"  # lea  rsi, [rip+16]       the message
        + b"\xba" + struct.pack("<I", length)  # mov  edx, length
        + b"\x0f\x05"  # syscall
        b"\xb8\x3c\x00\x00\x00"  # mov  eax, 60                  exit
        b"\x31\xff"  # xor  edi, edi
        b"\x0f\x05"  # syscall
    )


# ---------------------------------------------------------------------------------------------
# ELF (System V gABI; ELF for the Arm Architecture, IHI 0044; Addenda to the ABI, IHI 0045)
# ---------------------------------------------------------------------------------------------

EM_ARM, EM_X86_64, EM_AARCH64 = 40, 62, 183
EF_ARM_SOFT_FLOAT, EF_ARM_HARD_FLOAT = 0x05000200, 0x05000400  # EABI version 5

TAG_CPU_NAME, TAG_CPU_ARCH, TAG_CPU_ARCH_PROFILE, TAG_ARM_ISA_USE = 5, 6, 7, 8
TAG_FP_ARCH, TAG_ABI_VFP_ARGS = 10, 28


def arm_attributes(pairs):
    """A `.ARM.attributes` section: one "aeabi" subsection about the whole file."""
    body = b""
    for tag, value in pairs:
        body += bytes([tag]) + (value.encode() + b"\0" if isinstance(value, str) else bytes([value]))
    about_the_file = b"\x01" + struct.pack("<I", 5 + len(body)) + body
    vendor = b"aeabi\0" + about_the_file
    return b"A" + struct.pack("<I", 4 + len(vendor)) + vendor


ATTRIBUTES = {
    "v5": arm_attributes([(TAG_CPU_NAME, "5TE"), (TAG_CPU_ARCH, 4), (TAG_ARM_ISA_USE, 1)]),
    "v6": arm_attributes(
        [(TAG_CPU_NAME, "6"), (TAG_CPU_ARCH, 6), (TAG_ARM_ISA_USE, 1), (TAG_FP_ARCH, 2),
         (TAG_ABI_VFP_ARGS, 1)]
    ),
    "v7": arm_attributes(
        [(TAG_CPU_NAME, "7-A"), (TAG_CPU_ARCH, 10), (TAG_CPU_ARCH_PROFILE, ord("A")),
         (TAG_ARM_ISA_USE, 1), (TAG_FP_ARCH, 4), (TAG_ABI_VFP_ARGS, 1)]
    ),
}


def align(data, to):
    return data + bytes(-len(data) % to)


def elf(machine, flags, code, attributes=None):
    """A static executable: one segment with the headers and `code`, then the sections' table."""
    bits = 32 if machine == EM_ARM else 64
    base = 0x10000 if bits == 32 else 0x400000
    header_size, segment_size, section_size = (52, 32, 40) if bits == 32 else (64, 56, 64)
    start = header_size + 2 * segment_size
    end = start + len(code)

    names = b"\0.text\0.shstrtab\0.ARM.attributes\0"
    contents = align(bytes(start) + code, 4)  # the headers are written over the first bytes
    sections = [(0, 0, 0, 0, 0, 0, 0), (names.index(b".text"), 1, 6, base + start, start, len(code), 4)]
    if attributes is not None:  # type SHT_ARM_ATTRIBUTES
        name = names.index(b".ARM.attributes")
        sections.append((name, 0x70000003, 0, 0, len(contents), len(attributes), 1))
        contents += attributes
    sections.append((names.index(b".shstrtab"), 3, 0, 0, len(contents), len(names), 1))
    contents = align(contents + names, 8)

    header = b"\x7fELF" + bytes([1 if bits == 32 else 2, 1, 1]) + bytes(9)
    header += struct.pack(
        "<HHI" + ("III" if bits == 32 else "QQQ") + "IHHHHHH",
        2, machine, 1, base + start, header_size, len(contents),  # 2: ET_EXEC
        flags, header_size, segment_size, 2, section_size, len(sections), len(sections) - 1,
    )
    if bits == 32:  # PT_LOAD, readable and executable; PT_GNU_STACK, not executable
        header += struct.pack("<8I", 1, 0, base, base, end, end, 5, 0x10000)
        header += struct.pack("<8I", 0x6474E551, 0, 0, 0, 0, 0, 6, 16)
        table = [struct.pack("<10I", n, t, f, a, o, s, 0, 0, g, 0) for n, t, f, a, o, s, g in sections]
    else:
        header += struct.pack("<2I6Q", 1, 5, 0, base, base, end, end, 0x10000)
        header += struct.pack("<2I6Q", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
        table = [struct.pack("<2I4Q2I2Q", n, t, f, a, o, s, 0, 0, g, 0) for n, t, f, a, o, s, g in sections]
    return header + contents[len(header):] + b"".join(table)


# ---------------------------------------------------------------------------------------------
# The platforms
# ---------------------------------------------------------------------------------------------

PLATFORMS = {
    "amd64": {"architecture": "amd64", "os": "linux"},
    "v5": {"architecture": "arm", "os": "linux", "variant": "v5"},
    "v6": {"architecture": "arm", "os": "linux", "variant": "v6"},
    "v7": {"architecture": "arm", "os": "linux", "variant": "v7"},
    "arm64": {"architecture": "arm64", "os": "linux", "variant": "v8"},
}


def platform_text(platform):
    return "/".join(platform[part] for part in ("os", "architecture", "variant") if part in platform)


def program(name):
    """The ELF file for `name`, a key of PLATFORMS."""
    message = f"hello from {platform_text(PLATFORMS[name])}\n".encode()
    if name == "amd64":
        return elf(EM_X86_64, 0, amd64_code(len(message)) + message)
    if name == "arm64":
        return elf(EM_AARCH64, 0, arm64_code(len(message)) + message)
    write_number = {"v5": WRITE_BY_CLZ, "v6": WRITE_BY_REV, "v7": WRITE_BY_MOVW}[name]
    flags = EF_ARM_SOFT_FLOAT if name == "v5" else EF_ARM_HARD_FLOAT
    code = arm_code(write_number, len(message)) + message
    return elf(EM_ARM, flags, code, ATTRIBUTES[name])


# ---------------------------------------------------------------------------------------------
# The image layout (OCI image-spec 1.1)
# ---------------------------------------------------------------------------------------------


def tar_of(content):
    member = tarfile.TarInfo("hello")
    member.size, member.mode, member.mtime = len(content), 0o755, MTIME
    return member.tobuf(tarfile.USTAR_FORMAT) + align(content, 512) + bytes(1024)


def gzip_of(data):
    """One gzip member of stored blocks: a compressor's bytes would change with zlib's version."""
    out = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    for at in range(0, len(data), 0xFFFF):
        block = data[at : at + 0xFFFF]
        last = at + len(block) == len(data)
        out += struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block
    return out + struct.pack("<II", zlib.crc32(data), len(data))


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    """An OCI image layout in a folder."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(os.path.join(folder, "blobs/sha256"), exist_ok=True)

    def write(self, path, data):
        with open(os.path.join(self.folder, path), "wb") as file:
            file.write(data)

    def blob(self, data, media_type, **more):
        """Stores `data` and gives its descriptor."""
        if not isinstance(data, bytes):
            data = json.dumps(data, indent=2).encode() + b"\n"
        self.write("blobs/sha256/" + digest_of(data)[len("sha256:") :], data)
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}

    def image(self, platform, content):
        """An image whose only file is /hello; gives the manifest's descriptor."""
        layer = tar_of(content)
        config = dict(platform)
        config["created"] = CREATED
        config["config"] = {"Entrypoint": ["/hello"]}
        config["rootfs"] = {"type": "layers", "diff_ids": [digest_of(layer)]}
        config["history"] = [{"created": CREATED, "created_by": "examples/hello/generate.py"}]
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.blob(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [self.blob(gzip_of(layer), "application/vnd.oci.image.layer.v1.tar+gzip")],
        }
        return self.blob(manifest, manifest["mediaType"], platform=platform)

    def index(self, descriptors, tag="latest"):
        """One image index over `descriptors`, which `tag` names in index.json."""
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": descriptors,
        }
        named = {"org.opencontainers.image.ref.name": tag}
        top = dict(index, manifests=[self.blob(index, index["mediaType"], annotations=named)])
        self.write("index.json", json.dumps(top, indent=2).encode() + b"\n")
        self.write("oci-layout", b'{"imageLayoutVersion": "1.0.0"}\n')


def write_layout(folder, entries, tag="latest"):
    """Writes an image index over `entries`: pairs of a platform (a dictionary) and a program."""
    layout = Layout(folder)
    layout.index([layout.image(platform, content) for platform, content in entries], tag)


def write_hello(folder):
    write_layout(folder, [(platform, program(name)) for name, platform in PLATFORMS.items()])


def files_below(folder):
    """Every file of the layout in `folder`, by its path from there."""
    found = {}
    for path, _, names in os.walk(folder):
        for name in names:
            if name.endswith((".py", ".pyc", ".md")):
                continue
            full = os.path.join(path, name)
            with open(full, "rb") as file:
                found[os.path.relpath(full, folder)] = file.read()
    return found


def check(folder):
    """What differs between `folder` and a fresh layout, as a list of paths."""
    with tempfile.TemporaryDirectory() as fresh:
        write_hello(fresh)
        expected, seen = files_below(fresh), files_below(folder)
    return sorted(p for p in expected.keys() | seen.keys() if expected.get(p) != seen.get(p))


def main(arguments):
    here = os.path.dirname(os.path.abspath(__file__))
    if arguments == ["--check"]:
        wrong = check(here)
        for path in wrong:
            print(f"examples/hello/{path}: not what generate.py writes", file=sys.stderr)
        return 1 if wrong else 0
    if len(arguments) == 2 and arguments[0] == "--program" and arguments[1] in PLATFORMS:
        sys.stdout.buffer.write(program(arguments[1]))
        return 0
    if len(arguments) > 1 or arguments and arguments[0].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    write_hello(arguments[0] if arguments else here)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
