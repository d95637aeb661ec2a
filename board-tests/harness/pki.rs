//! A certificate authority that nobody trusts, and what it has signed: all by the openssl program.

use super::tools::{Scratch, run};

/// A private CA with one server certificate for the loopback addresses, `localhost`, and 10.0.2.2, which is
/// this machine's loopback to a guest in QEMU.
pub struct Authority {
    scratch: Scratch,
}

impl Authority {
    pub fn new() -> Authority {
        let scratch = Scratch::new();
        let names = "subjectAltName=IP:127.0.0.1,IP:127.0.0.2,IP:10.0.2.2,DNS:localhost\n\
            extendedKeyUsage=serverAuth\n";
        let extensions = scratch.write("server.ext", names);
        let [ca, ca_key, key, request, certificate] =
            ["ca.pem", "ca.key", "server.key", "server.csr", "server.pem"].map(|name| scratch.at(name));
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let root =
            ["req", "-x509", "-days", "30", "-subj", "/CN=board-tests", "-keyout", &ca_key, "-out", &ca];
        run("openssl", root.iter().chain(&new_key));
        let asked = ["req", "-subj", "/CN=localhost", "-keyout", &key, "-out", &request];
        run("openssl", asked.iter().chain(&new_key));
        let signed = ["x509", "-req", "-days", "30", "-in", &request, "-CA", &ca, "-CAkey", &ca_key];
        run(
            "openssl",
            signed.iter().chain(&["-CAcreateserial", "-extfile", &extensions, "-out", &certificate]),
        );
        Authority { scratch }
    }

    /// The CA's certificate, for `--ca-file`.
    pub fn ca_file(&self) -> String {
        self.scratch.at("ca.pem")
    }

    /// The server's certificate.
    pub fn certificate(&self) -> String {
        self.scratch.at("server.pem")
    }

    /// The server's private key.
    pub fn key(&self) -> String {
        self.scratch.at("server.key")
    }

    /// A folder that skopeo takes as `--dest-cert-dir`: it reads every `*.crt` in it.
    pub fn cert_dir(&self) -> String {
        let ca = std::fs::read(self.ca_file()).expect("the CA's certificate");
        self.scratch.write("certs.d/ca.crt", ca);
        self.scratch.at("certs.d")
    }
}
