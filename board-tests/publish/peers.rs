//! Beside docker, skopeo and podman, on one registry.

use super::*;

/// The installed docker, which needs no engine for this.
fn docker<'a>(scratch: &Scratch, args: impl IntoIterator<Item = &'a str>) -> String {
    let config = format!("DOCKER_CONFIG={}", scratch.at("docker"));
    let args: Vec<&str> = args.into_iter().collect();
    run("env", [&[config.as_str(), "docker"], &args[..]].concat())
}

/// The images that lists are made of here, as names in `repository`.
fn images(registry: &Registry, scratch: &Scratch, repository: &str) -> Vec<String> {
    let image = |platform: &str, code: &str| Image::running(platform, code);
    [
        ("v6", image("linux/arm/v6", "v6")),
        ("v7", image("linux/arm/v7", "v7").in_docker_format()),
        ("v8", image("linux/arm64/v8", "arm64")),
        ("amd64", image("linux/amd64", "amd64").in_docker_format()),
    ]
    .into_iter()
    .map(|(tag, image)| pushed(registry, scratch, &format!("{repository}:{tag}"), image.build()))
    .collect()
}

/// One after the other the same steps, by docker and by edgepull; both lists.
fn both(registry: &Registry, scratch: &Scratch, repository: &str, steps: &[&[&str]]) -> [String; 2] {
    let publisher = publisher(scratch);
    ["docker", "edgepull"].map(|tool| {
        let name = registry.image(&format!("{repository}:by-{tool}"));
        for step in steps {
            let args: Vec<&str> =
                step.iter().map(|word| if *word == "LIST" { name.as_str() } else { word }).collect();
            match tool {
                "docker" => drop(docker(scratch, args)),
                _ => drop(publisher.edgepull(args).succeeds()),
            }
        }
        raw(&name)
    })
}

#[test]
fn docker_and_edgepull_make_the_same_list_of_the_same_images() {
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let images = images(&registry, &scratch, "board/app");
    let [v6, v7, arm64, amd64] = &images[..] else { unreachable!() };
    let create = |of: &[&str]| -> Vec<String> {
        ["manifest", "create", "--insecure", "LIST"].iter().chain(of).map(|word| word.to_string()).collect()
    };
    let push = ["manifest", "push", "--insecure", "LIST"];
    let annotate = [
        "manifest",
        "annotate",
        "--os-version",
        "12.1",
        "--os-features",
        "a,b",
        "--arch",
        "arm",
        "--os",
        "linux",
        "--variant",
        "v6",
        "LIST",
        v6,
    ];
    // Of one family, of the other, of both with either of them first; the order on the command line does not matter.
    for (repository, of) in [
        ("board/app", vec![v6.as_str(), arm64]),
        ("board/app", vec![v7, amd64]),
        ("board/app", vec![v7, v6, amd64, arm64]),
        ("board/app", vec![v6, v7]),
        // Elsewhere: blobs are mounted, manifests pushed.
        ("board/elsewhere", vec![v7, v6, amd64, arm64]),
    ] {
        let created = create(&of);
        let created: Vec<&str> = created.iter().map(String::as_str).collect();
        for with in [&[&created[..], &push][..], &[&created[..], &annotate, &push]] {
            if with.len() == 3 && !of.contains(&v6.as_str()) {
                continue;
            }
            let [docker, edgepull] = both(&registry, &scratch, repository, with);
            assert_eq!(edgepull, docker, "{repository} {of:?} {}", with.len());
            run("rm", ["-rf", &scratch.at("docker")]);
        }
    }
}

#[test]
fn others_read_what_edgepull_pushes() {
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let images = images(&registry, &scratch, "board/app");
    let name = registry.image("board/app:1");
    let edgepull = publisher(&scratch);
    // podman has no option for it here.
    let known = format!("[[registry]]\nlocation = {:?}\ninsecure = true\n", registry.address());
    let insecure = format!("CONTAINERS_REGISTRIES_CONF={}", scratch.write("registries.conf", known));
    for family in ["docker", "oci"] {
        let template = registry.image("board/app:VARIANT");
        let args = [
            "manifest",
            "push",
            "from-args",
            "--type",
            family,
            "--platforms",
            "linux/arm/v6,linux/arm/v7,linux/arm64/v8",
        ];
        edgepull.edgepull(args.into_iter().chain(["--template", &template, "--target", &name])).succeeds();
        let wanted = ["linux/arm/v6", "linux/arm/v7", "linux/arm64/v8"];
        assert_eq!(platforms(&list(&name)), wanted, "skopeo, {family}");
        let text = docker(&scratch, ["manifest", "inspect", "--insecure", &name]);
        assert_eq!(platforms(&serde_json::from_str(&text).expect("JSON")), wanted, "docker, {family}");
        let text = run("env", [&insecure, "podman", "manifest", "inspect", &name]);
        assert_eq!(platforms(&serde_json::from_str(&text).expect("JSON")), wanted, "podman, {family}");
        // skopeo takes the right one of it, for a board.
        let to = format!("oci:{}:{family}", scratch.at("taken"));
        let from = format!("docker://{name}");
        skopeo([
            "--override-arch",
            "arm",
            "--override-variant",
            "v6",
            "copy",
            "-q",
            "--src-tls-verify=false",
            &from,
            &to,
        ]);
        let root = umoci_unpack(&scratch.at("taken"), family, &scratch);
        assert!(std::fs::read(root.join("hello")).expect("the program") == program("v6"), "{family}");
    }
    assert!(images.len() > 3);
}

#[test]
fn edgepull_reads_what_others_push() {
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let images = images(&registry, &scratch, "board/app");
    let by_docker = registry.image("board/app:docker");
    docker(&scratch, ["manifest", "create", "--insecure", &by_docker, &images[0], &images[1]]);
    docker(&scratch, ["manifest", "push", "--insecure", &by_docker]);
    let by_podman = registry.image("board/app:podman");
    let storage =
        ["--root", &scratch.at("storage"), "--runroot", &scratch.at("run"), "--storage-driver", "vfs"]
            .map(str::to_owned);
    let podman =
        |args: &[&str]| run("podman", storage.iter().map(String::as_str).chain(args.iter().copied()));
    podman(&["manifest", "create", "both"]);
    for image in &images[..2] {
        podman(&["manifest", "add", "--tls-verify=false", "both", &format!("docker://{image}")]);
    }
    podman(&["manifest", "push", "--tls-verify=false", "--all", "both", &format!("docker://{by_podman}")]);
    let edgepull = publisher(&scratch);
    for name in [&by_docker, &by_podman] {
        let text = edgepull.edgepull(["inspect", "--json", name]).succeeds().stdout();
        let seen: Value = serde_json::from_str(&text).expect("JSON");
        let entries = seen["entries"].as_array().expect("entries");
        let platforms: Vec<&str> = entries.iter().filter_map(|entry| entry["platform"].as_str()).collect();
        assert_eq!(platforms, ["linux/arm/v6", "linux/arm/v7"], "{name}");
        edgepull.edgepull(["manifest", "check", name]).succeeds();
        // And goes on with it: into a list of its own, in which theirs is taken apart.
        let mine = registry.image("board/app:mine");
        edgepull.edgepull(["manifest", "create", "--amend", &mine, name, &images[2]]).succeeds();
        edgepull.edgepull(["manifest", "push", "--purge", &mine]).succeeds();
        assert_eq!(super::platforms(&list(&mine)).len(), 3, "{name}");
    }
}
