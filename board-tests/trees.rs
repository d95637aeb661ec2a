//! The same images by edgepull and by umoci: the trees have to be equal, entry by entry.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::harness::*;

/// Pulls `image` and gives the tree.
#[track_caller]
fn pulled(image: &str, scratch: &Scratch, folder: &str) -> Tree {
    Board::armv7().edgepull(["pull", image, &scratch.at(folder)]).succeeds();
    Tree::of(scratch.path(folder))
}

/// Pulls the image and unpacks it with umoci; the trees have to be equal.
#[track_caller]
fn as_umoci_does(artifact: &Artifact) -> Tree {
    let scratch = Scratch::new();
    let layout = artifact.layout(&scratch, "image");
    let tree = pulled(&format!("oci:{layout}"), &scratch, "root");
    tree.equals(&Tree::of(umoci_unpack(&layout, "latest", &scratch)));
    tree
}

fn image(layers: impl IntoIterator<Item = Layer>) -> Artifact {
    layers.into_iter().fold(Image::of("linux/arm/v7"), Image::layer).build()
}

#[test]
fn every_kind_of_entry() {
    let layer = Layer::new()
        .dir("etc", 0o755)
        .file("etc/hostname", "board\n")
        .file_mode("etc/shadow", "root:*:", 0o640)
        .symlink("etc/localtime", "/usr/share/zoneinfo/UTC")
        .symlink("etc/nowhere", "../../../../nowhere")
        .dir("usr", 0o755)
        .dir("usr/bin", 0o755)
        .file_mode("usr/bin/su", "setuid", 0o4755)
        .file_mode("usr/bin/wall", "setgid", 0o2755)
        .hardlink("usr/bin/su2", "usr/bin/su")
        .hardlink("usr/bin/time", "etc/localtime")
        .dir("tmp", 0o1777)
        .owned_by(1000, 50)
        .dir("home", 0o700)
        .file("home/mine", "mine")
        .symlink("home/link", "mine")
        .owned_by(4_000_000, 4_000_001)
        .file("home/far", "an owner beyond octal's seven digits")
        .fifo("tmp/pipe")
        .char_device("tmp/null", 1, 3)
        .char_device("tmp/big", 511, 70_000)
        .file("empty", "");
    let tree = as_umoci_does(&image([layer]));
    assert!(tree.entry("usr/bin/su").contains("mode=4755"), "{}", tree.entry("usr/bin/su"));
    assert!(tree.entry("usr/bin/su2").contains("same-as=usr/bin/su"), "{}", tree.entry("usr/bin/su2"));
    assert!(tree.entry("home/far").contains("owner=4000000:4000001"), "{}", tree.entry("home/far"));
}

#[test]
fn whiteouts_hide_what_lies_below_and_nothing_else() {
    let base = || {
        Layer::new()
            .dir("data", 0o755)
            .file("data/kept", "kept")
            .file("data/gone", "gone")
            .dir("data/sub", 0o755)
            .file("data/sub/deep", "deep")
            .dir("opaque", 0o755)
            .file("opaque/old", "old")
            .dir("opaque/oldsub", 0o755)
            .file("opaque/oldsub/file", "old")
    };
    let above = Layer::new()
        .whiteout("data/gone")
        .whiteout("data/sub")
        .dir("opaque", 0o700)
        .file("opaque/new", "new")
        .opaque("opaque");
    let tree = as_umoci_does(&image([base(), above]));
    assert!(tree.has("data/kept") && tree.has("opaque/new"));
    assert!(!tree.has("data/gone") && !tree.has("data/sub") && !tree.has("opaque/old"));
    assert!(!tree.has("data/.wh.gone") && !tree.has("opaque/.wh..wh..opq"));
}

#[test]
fn a_whiteout_in_the_lowest_layer_hides_nothing() {
    let tree = as_umoci_does(&image([Layer::new().dir("d", 0o755).whiteout("d/x").file("d/y", "y")]));
    assert!(tree.has("d/y"));
}

#[test]
fn a_layer_may_make_another_type_of_what_lay_below() {
    let below = Layer::new()
        .dir("dir-to-file", 0o755)
        .file("dir-to-file/x", "x")
        .file("file-to-dir", "was a file")
        .symlink("link-to-dir", "dir-to-file")
        .file("file-to-link", "was a file")
        .dir("dir-to-link", 0o755)
        .file("file-to-file", "long, long before")
        .dir("dir-to-dir", 0o755)
        .file("dir-to-dir/stays", "stays");
    let above = Layer::new()
        .file("dir-to-file", "now a file")
        .dir("file-to-dir", 0o755)
        .file("file-to-dir/y", "y")
        .dir("link-to-dir", 0o711)
        .file("link-to-dir/z", "z")
        .symlink("file-to-link", "file-to-file")
        .symlink("dir-to-link", "dir-to-dir")
        .file_mode("file-to-file", "short", 0o600)
        .dir("dir-to-dir", 0o700);
    let tree = as_umoci_does(&image([below, above]));
    assert!(tree.has("dir-to-dir/stays") && tree.entry("dir-to-dir").contains("mode=0700"));
}

#[test]
fn a_hardlink_to_a_file_of_the_layer_below() {
    let tree = as_umoci_does(&image([Layer::new().file("a", "a"), Layer::new().hardlink("b", "a")]));
    assert!(tree.entry("b").contains("same-as=a"), "{}", tree.entry("b"));
}

#[test]
fn times_to_the_nanosecond_and_those_of_folders_last() {
    let layer = Layer::new()
        .pax(&[("mtime", b"1600000000.123456789")])
        .dir("d", 0o755)
        .pax(&[("mtime", b"1500000000.000000001")])
        .file("d/x", "x")
        .pax(&[("mtime", b"-1.5")])
        .file("d/before-1970", "x");
    let tree = as_umoci_does(&image([
        layer,
        Layer::new().file("d/y", "y").pax(&[("mtime", b"1600000000.5")]).dir("d", 0o755),
    ]));
    assert!(tree.entry("d").contains("mtime=1600000000.500000000"), "{}", tree.entry("d"));
    assert!(tree.entry("d/x").contains("mtime=1500000000.000000001"), "{}", tree.entry("d/x"));
}

#[test]
fn long_names_and_xattrs() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let target = "t/".repeat(400);
    let capability = *b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"; // cap_net_raw=ep, version 2
    let layer = Layer::new()
        .pax(&[("path", "d".repeat(120).as_bytes())])
        .dir("short", 0o755)
        .pax(&[("path", long.as_bytes())])
        .file("short", "a long name")
        .pax(&[("linkpath", target.as_bytes())])
        .symlink("link", "short")
        .pax(&[("path", "ünï → ✓".as_bytes())])
        .file("short", "letters of all kinds")
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.note", b"of the board"),
        ])
        .file_mode("ping", "ping", 0o755);
    let tree = as_umoci_does(&image([layer]));
    assert!(tree.has(&long));
    assert!(tree.entry("ping").contains("security.capability="), "{}", tree.entry("ping"));
    assert!(tree.entry("ping").contains("user.note="), "{}", tree.entry("ping"));
}

#[test]
fn attributes_that_cannot_be_set_are_left_out_for_the_reason_that_is_told() {
    let sys_admin = "trusted.* or security.* attributes were left out, they take CAP_SYS_ADMIN";
    let forbidden = "extended attributes were left out, this user may not set them";
    let on_node = "user.* attributes were left out, Linux has them for files and directories only";
    let all = [sys_admin, forbidden, on_node];
    let capability = *b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let plain = |name: &str, value: &[u8]| Layer::new().pax(&[(name, value)]).file("file", "text");
    let trusted = plain("SCHILY.xattr.trusted.note", b"x").pax(&[("SCHILY.xattr.trusted.n", b"x")]);
    let rows = [
        (trusted.symlink("link", "file"), sys_admin, sys_admin),
        (plain("SCHILY.xattr.security.board", b"x"), sys_admin, sys_admin),
        (plain("SCHILY.xattr.security.capability", &capability), "", forbidden),
        (Layer::new().pax(&[("SCHILY.xattr.user.n", b"x")]).symlink("link", "file"), on_node, on_node),
        (plain("SCHILY.xattr.user.note", b"x"), "", ""),
    ];
    for (number, (layer, by_root, by_nobody)) in rows.into_iter().enumerate() {
        let (scratch, name) = (Scratch::new(), format!("image-{number}"));
        let image = image([layer]).oci(&scratch, &name);
        let nobody = Board::armv7().run_by_nobody(&scratch);
        for (board, reason, root) in [(Board::armv7(), by_root, "root"), (nobody, by_nobody, "home/root")] {
            let outcome = board.edgepull(["pull", &image, &scratch.at(root)]).succeeds();
            let said = outcome.stderr();
            for text in all {
                assert_eq!(said.contains(text), text == reason, "{number}, {root}: {said}");
            }
        }
    }
}

#[test]
fn sparse_files_of_every_format_that_gnu_tar_writes() {
    let scratch = Scratch::new();
    let file = scratch.at("tree/holes");
    scratch.write("tree/holes", "begin");
    run(
        "sh",
        [
            "-c",
            &format!(
                "printf middle | dd of={file} bs=1 seek=3000000 conv=notrunc status=none && truncate -s 9000000 {file} && touch -d @1700000000 {file}"
            ),
        ],
    );
    for (name, options) in [
        ("old", vec!["--format=gnu"]),
        ("0.0", vec!["--format=pax", "--sparse-version=0.0"]),
        ("0.1", vec!["--format=pax", "--sparse-version=0.1"]),
        ("1.0", vec!["--format=pax", "--sparse-version=1.0"]),
    ] {
        let tar = scratch.at(&format!("{name}.tar"));
        let folder = scratch.at("tree");
        run("tar", [options, vec!["-S", "-cf", &tar, "-C", &folder, "holes"]].concat());
        let tar = std::fs::read(tar).expect("a tar");
        assert!(tar.len() < 1_000_000, "{name}: not sparse");
        let artifact = Image::of("linux/arm/v7").raw_layer(tar).build();
        let tree = pulled(&artifact.oci(&scratch, name), &scratch, &format!("root-{name}"));
        tree.equals(&Tree::of(&folder));
        let blocks = run("stat", ["-c", "%b", &scratch.at(&format!("root-{name}/holes"))]);
        assert!(
            blocks.trim().parse::<u64>().expect("a number") * 512 < 1_000_000,
            "{name}: holes were filled"
        );
    }
}

#[test]
fn each_compression_gives_the_same_tree() {
    let scratch = Scratch::new();
    let layer = || Layer::new().dir("d", 0o755).file("d/x", "x".repeat(500_000)).file("d/y", "y");
    let plain = Image::of("linux/arm/v7").layer(layer()).uncompressed().build();
    let expected = as_umoci_does(&plain);
    for (name, artifact) in [
        ("gzip", Image::of("linux/arm/v7").layer(layer()).build()),
        ("zstd", Image::of("linux/arm/v7").layer(layer()).in_zstd().build()),
        ("docker", Image::of("linux/arm/v7").layer(layer()).in_docker_format().build()),
    ] {
        pulled(&artifact.oci(&scratch, name), &scratch, &format!("root-{name}")).equals(&expected);
    }
}

#[test]
fn a_layer_of_several_gzip_members() {
    let tar = Layer::new().file("x", "x".repeat(500_000)).file("y", "y").tar();
    let artifact = Image::of("linux/arm/v7").raw_layer(tar.clone()).build();
    let (old, members) = (artifact.layer(0), tar.chunks(100_000).flat_map(gzip).collect::<Vec<u8>>());
    let artifact = artifact.with_blob(&digest_of(&members), members.clone()).with_manifest(|manifest| {
        manifest["layers"][0]["digest"] = digest_of(&members).into();
        manifest["layers"][0]["size"] = members.len().into();
    });
    assert_ne!(old, artifact.layer(0));
    assert!(as_umoci_does(&artifact).has("y"));
}

/// An image that umoci itself has built: two layers by `repack`, the second with deletions.
fn umoci_built(scratch: &Scratch) -> String {
    let layout = scratch.at("layout");
    let name = format!("{layout}:latest");
    run("umoci", ["init", "--layout", &layout]);
    run("umoci", ["new", "--image", &name]);
    run(
        "umoci",
        [
            "config",
            "--image",
            &name,
            "--architecture",
            "arm",
            "--os",
            "linux",
            "--config.entrypoint",
            "/bin/app",
        ],
    );
    let rounds = [
        "mkdir -p bin etc/conf.d var/cache && cp /bin/true bin/app && chmod 4755 bin/app && ln bin/app bin/app2 &&
         ln -s ../bin/app etc/link && echo a > etc/conf.d/a && echo b > etc/conf.d/b && echo c > var/cache/c &&
         chown -R 33:33 var && setfattr -n user.board -v yes etc/conf.d/a && setcap cap_net_raw=ep bin/app",
        "rm etc/conf.d/b && rm -r var/cache && ln -sfn /nowhere etc/link && echo new > etc/new && chmod 700 etc/conf.d",
    ];
    for (round, script) in rounds.iter().enumerate() {
        let bundle = scratch.at(&format!("bundle-{round}"));
        run("umoci", ["unpack", "--image", &name, &bundle]);
        run("sh", ["-ec", &format!("cd {bundle}/rootfs\n{script}")]);
        run("umoci", ["repack", "--image", &name, &bundle]);
    }
    layout
}

#[test]
fn an_image_by_umoci_comes_out_the_same_from_everywhere() {
    let scratch = Scratch::new();
    let layout = umoci_built(&scratch);
    let expected = Tree::of(umoci_unpack(&layout, "latest", &scratch));
    assert!(expected.has("etc/new") && !expected.has("etc/conf.d/b") && expected.len() > 8);

    let source = format!("oci:{layout}:latest");
    let [oci_tar, docker_tar] = ["oci.tar", "docker.tar"].map(|name| scratch.at(name));
    skopeo(["copy", "-q", &source, &format!("oci-archive:{oci_tar}:latest")]);
    skopeo(["copy", "-q", &source, &format!("docker-archive:{docker_tar}:board/app:latest")]);
    let registry = Registry::start();
    let oci = registry.push(&layout, "board/app:oci");
    let docker = registry.push_from(&source, "board/app:docker", &["--format", "v2s2"]);
    let zstd = registry.push_from(&source, "board/app:zstd", &["--dest-compress-format", "zstd"]);

    let images = [
        format!("oci:{layout}"),
        source,
        format!("oci-archive:{oci_tar}"),
        format!("oci-archive:{oci_tar}:latest"),
        format!("docker-archive:{docker_tar}"),
        format!("docker-archive:{docker_tar}:board/app:latest"),
        oci,
        docker,
        zstd,
    ];
    for (number, image) in images.iter().enumerate() {
        let folder = format!("root-{number}");
        eprintln!("{image}");
        Board::armv7().edgepull(["pull", "--force", image, &scratch.at(&folder)]).succeeds();
        Tree::of(scratch.path(&folder)).equals(&expected);
    }
}

#[test]
fn an_image_by_buildah() {
    let scratch = Scratch::new();
    let [root, state, layout] = ["storage", "state", "layout"].map(|name| scratch.at(name));
    scratch.write(
        "context/Containerfile",
        "FROM scratch\nCOPY --chown=7:8 a /srv/a\nCOPY hello /hello\nENTRYPOINT [\"/hello\"]\n",
    );
    scratch.write("context/a", "a");
    scratch.write("context/hello", program("v7"));
    let context = scratch.at("context");
    let to = format!("oci:{layout}:latest");
    let storage = ["--root", &root, "--runroot", &state, "--storage-driver", "vfs"];
    let build = [
        "build",
        "-q",
        "--layers",
        "--isolation",
        "chroot",
        "--platform",
        "linux/arm/v7",
        "-t",
        "app",
        &context,
    ];
    run("buildah", storage.iter().chain(&build));
    let push = ["push", "-q", "--signature-policy", &policy(&scratch), "app", &to];
    run("buildah", storage.iter().chain(&push));
    let tree = pulled(&format!("oci:{layout}"), &scratch, "root");
    tree.equals(&Tree::of(umoci_unpack(&layout, "latest", &scratch)));
    assert!(tree.entry("srv/a").contains("owner=7:8"), "{}", tree.entry("srv/a"));
}

/// A policy that accepts unsigned images, as this machine may have none.
fn policy(scratch: &Scratch) -> String {
    scratch.write("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)
}

#[test]
fn nothing_outside_the_folder_is_touched() {
    let scratch = Scratch::new();
    scratch.write("outside/file", "untouched");
    let outside = scratch.at("outside");
    for (name, above) in [
        ("through-a-link", Layer::new().file("escape/file", "overwritten")),
        ("through-a-relative-link", Layer::new().file("up/file", "overwritten")),
        ("dot-dot", Layer::new().file("../outside/file", "overwritten")),
        ("absolute", Layer::new().file(&format!("{outside}/file"), "overwritten")),
        (
            "hardlink-out",
            Layer::new().hardlink("d/hard", &format!("{outside}/file")).file("d/hard", "overwritten"),
        ),
        ("hardlink-through-a-link", Layer::new().hardlink("d/hard", "escape/file")),
        ("whiteout-through-a-link", Layer::new().whiteout("escape/file")),
        ("opaque-through-a-link", Layer::new().opaque("escape")),
    ] {
        let artifact = Image::of("linux/arm/v7")
            .layer(Layer::new().symlink("escape", &outside).symlink("up", "../outside").dir("d", 0o755))
            .layer(above)
            .build();
        // Refused or kept inside: both are right, as long as nothing outside changes.
        let root = scratch.at(&format!("root-{name}"));
        let outcome = Board::armv7().edgepull(["pull", &artifact.oci(&scratch, name), &root]);
        match outcome.code() {
            0 => assert!(Tree::of(&root).has("d"), "{name}: success without a tree"),
            _ => drop(outcome.fails_with(exit::BAD_IMAGE)),
        }
        let seen = std::fs::read_to_string(scratch.path("outside/file")).expect("the file outside");
        assert_eq!(seen, "untouched", "{name}");
        assert_eq!(Tree::of(Path::new(&outside)).len(), 1, "{name}");
        let links = std::fs::metadata(scratch.path("outside/file")).expect("the file outside").nlink();
        assert_eq!(links, 1, "{name}: linked into the tree");
    }
}
