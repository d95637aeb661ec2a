//! Debian's docker-registry on a free loopback port, for one test.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::machine::for_guest;
use super::pki::Authority;
use super::token::TokenServer;
use super::tools::{Scratch, run};

/// A running registry; it ends when this is dropped, also when the test fails.
pub struct Registry {
    process: Child,
    address: String,
    tls: Option<String>,
    /// What skopeo writes with: user and password, `user:password`.
    login: Option<String>,
    scratch: Scratch,
}

/// A registry in the making.
#[derive(Default)]
pub struct Plan {
    config: String,
    tls: Option<(String, String, String)>,
    clients: Option<String>,
    login: Option<String>,
}

impl Registry {
    /// A registry without TLS that lets anybody in.
    pub fn start() -> Registry {
        Plan::default().start()
    }

    /// A registry with more than that: `Registry::with().tls(&ca).start()`.
    pub fn with() -> Plan {
        Plan::default()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The name of an image here.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The same name for a guest in QEMU.
    pub fn image_for_guest(&self, name: &str) -> String {
        for_guest(&self.image(name))
    }

    /// Pushes an OCI layout's tag `latest` with skopeo, all its platforms and digests as they are.
    pub fn push(&self, layout: &str, name: &str) -> String {
        self.push_from(&format!("oci:{layout}:latest"), name, &["--all", "--preserve-digests"])
    }

    /// Pushes whatever skopeo can read, with more options for skopeo.
    pub fn push_from(&self, source: &str, name: &str, options: &[&str]) -> String {
        let to = format!("docker://{}", self.image(name));
        let mut args = vec!["--insecure-policy", "copy", "-q"];
        args.extend(options);
        match &self.tls {
            Some(certs) => args.extend(["--dest-cert-dir", certs]),
            None => args.push("--dest-tls-verify=false"),
        }
        match &self.login {
            Some(login) => args.extend(["--dest-creds", login]),
            None => args.push("--dest-no-creds"),
        }
        args.extend([source, &to]);
        run("skopeo", args);
        self.image(name)
    }

    /// What the registry has logged: one line a request, among others.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path("log")).expect("the registry's log")
    }
}

impl Plan {
    pub fn tls(mut self, authority: &Authority) -> Plan {
        self.tls = Some((authority.certificate(), authority.key(), authority.cert_dir()));
        self
    }

    /// Lets in one user with a password.
    pub fn basic_auth(mut self, scratch: &Scratch, user: &str, password: &str) -> Plan {
        let users = scratch.write("htpasswd", run("htpasswd", ["-Bbn", "-C", "4", user, password]));
        self.config += &format!("auth:\n  htpasswd:\n    realm: board-tests\n    path: {users}\n");
        self.login = Some(format!("{user}:{password}"));
        self
    }

    /// Lets in who has a token of this server.
    pub fn tokens_of(mut self, server: &TokenServer) -> Plan {
        self.config += &format!(
            "auth:\n  token:\n    realm: {}\n    service: {}\n    issuer: {}\n    rootcertbundle: {}\n",
            server.realm(),
            TokenServer::SERVICE,
            TokenServer::ISSUER,
            server.certificate()
        );
        self.login = Some(format!("{}:{}", TokenServer::USER, TokenServer::PASSWORD));
        self
    }

    /// Lets in who shows a certificate of this authority.
    pub fn clients_of(mut self, authority: &Authority) -> Plan {
        self.clients = Some(authority.ca_file());
        self
    }

    /// Takes manifests whose layers are elsewhere.
    pub fn foreign_layers(mut self) -> Plan {
        self.config += "validation:\n  manifests:\n    urls:\n      allow: ['^https?://']\n";
        self
    }

    /// A pull-through cache of another registry, which needs no TLS.
    pub fn cache_of(mut self, origin: &Registry) -> Plan {
        self.config += &format!("proxy:\n  remoteurl: http://{}\n", origin.address());
        self
    }

    pub fn start(self) -> Registry {
        let scratch = Scratch::new();
        let mut config = format!(
            "version: 0.1\nlog:\n  accesslog: {{ disabled: false }}\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\n{}http:\n  addr: 127.0.0.1:0\n  secret: none\n",
            scratch.at("storage"),
            self.config
        );
        if let Some((certificate, key, _)) = &self.tls {
            config += &format!("  tls:\n    certificate: {certificate}\n    key: {key}\n");
            if let Some(authority) = &self.clients {
                config += &format!("    clientcas: [{authority}]\n");
            }
        }
        let config = scratch.write("config.yml", config);
        let log = std::fs::File::create(scratch.path("log")).expect("a log");
        let process = Command::new("setpriv") // so that it goes even when the tests are killed
            .args(["--pdeathsig", "KILL", "docker-registry", "serve", &config])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("setpriv, of util-linux");
        let tls = self.tls.map(|(_, _, certs)| certs);
        let mut registry = Registry { process, address: String::new(), tls, login: self.login, scratch };
        registry.address = registry.wait_for_address();
        registry
    }
}

impl Registry {
    /// The port is the kernel's choice; the registry's log tells it.
    fn wait_for_address(&mut self) -> String {
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            let log = self.log();
            if let Some((_, rest)) = log.split_once("listening on ") {
                let address: String =
                    rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
                return address;
            }
            let ended = self.process.try_wait().expect("a child of ours");
            assert!(ended.is_none() && Instant::now() < patience, "docker-registry does not come up:\n{log}");
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
