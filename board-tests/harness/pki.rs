//! A certificate authority that nobody trusts, and what it has signed: all by the openssl program.

use std::net::{IpAddr, UdpSocket};

use super::tools::{Scratch, run};

/// Keys of P-256, and of RSA.
const EC: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
const RSA: &[&str] = &["-newkey", "rsa:2048", "-nodes"];

/// What `openssl ca` wants to be told: where it keeps its books, and that any name will do.
const BOOKS: &str = "[ca]\ndefault_ca = own\n[own]\ndatabase = FOLDER/index\nnew_certs_dir = FOLDER\n\
    rand_serial = yes\ndefault_md = sha256\npolicy = any\n[any]\ncommonName = supplied\n";

/// An address of this machine that is not its loopback's, where it has one; nothing is sent to find it.
pub fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    Some(own).filter(|own| !own.is_loopback() && !own.is_unspecified())
}

/// A private CA with one server certificate for the loopback addresses, `localhost`, [`own_address`], and
/// 10.0.2.2, which the loopback of this machine is to a guest in QEMU.
pub struct Authority {
    scratch: Scratch,
}

impl Authority {
    /// Certificates that were valid a year ago and are still: also a board whose clock stands at the
    /// time when edgepull was built takes them.
    pub fn new() -> Authority {
        Authority::signing(EC, "-1 year", "+30 days")
    }

    /// The same with RSA keys.
    pub fn with_rsa() -> Authority {
        Authority::signing(RSA, "-1 year", "+30 days")
    }

    /// The server's certificate ended a year ago.
    pub fn expired() -> Authority {
        Authority::signing(EC, "-2 years", "-1 year")
    }

    fn signing(new_key: &[&str], from: &str, until: &str) -> Authority {
        let scratch = Scratch::new();
        let own = own_address().map_or(String::new(), |own| format!(",IP:{own}"));
        let names = format!(
            "subjectAltName=IP:127.0.0.1,IP:127.0.0.2,IP:::1,IP:10.0.2.2{own},DNS:localhost\n\
             extendedKeyUsage=serverAuth\n"
        );
        let extensions = scratch.write("server.ext", names);
        let [ca, ca_key, key, request, certificate] =
            ["ca.pem", "ca.key", "server.key", "server.csr", "server.pem"].map(|name| scratch.at(name));
        let root =
            ["req", "-x509", "-days", "30", "-subj", "/CN=board-tests", "-keyout", &ca_key, "-out", &ca];
        run("openssl", root.iter().chain(new_key));
        let asked = ["req", "-subj", "/CN=localhost", "-keyout", &key, "-out", &request];
        run("openssl", asked.iter().chain(new_key));
        scratch.write("index", "");
        let books = scratch.write("ca.cnf", BOOKS.replace("FOLDER", &scratch.at("")));
        let moment = |when: &str| run("date", ["-u", "-d", when, "+%Y%m%d%H%M%SZ"]).trim().to_owned();
        let (from, until) = (moment(from), moment(until));
        let signed = ["ca", "-batch", "-notext", "-config", &books, "-cert", &ca, "-keyfile", &ca_key];
        let dated = ["-startdate", &from, "-enddate", &until, "-extfile", &extensions];
        run("openssl", signed.iter().chain(&dated).chain(&["-in", &request, "-out", &certificate]));
        Authority { scratch }
    }

    /// The CA's certificate, for `--ca-file`.
    pub fn ca_file(&self) -> String {
        self.scratch.at("ca.pem")
    }

    /// What is in that file.
    pub fn ca(&self) -> Vec<u8> {
        std::fs::read(self.ca_file()).expect("the CA's certificate")
    }

    /// The server's certificate.
    pub fn certificate(&self) -> String {
        self.scratch.at("server.pem")
    }

    /// The server's private key.
    pub fn key(&self) -> String {
        self.scratch.at("server.key")
    }

    /// A certificate for a client, with a new key of this kind (`openssl req -newkey`'s words): both as PEM.
    pub fn client(&self, new_key: &[&str]) -> (String, String) {
        let [key, request, certificate, extensions] =
            ["client.key", "client.csr", "client.cert", "client.ext"].map(|name| self.scratch.at(name));
        let asked = ["req", "-nodes", "-subj", "/CN=board", "-keyout", &key, "-out", &request];
        run("openssl", asked.iter().chain(new_key));
        self.scratch.write("client.ext", "extendedKeyUsage=clientAuth\n");
        let (ca, ca_key) = (self.scratch.at("ca.pem"), self.scratch.at("ca.key"));
        let signed = ["x509", "-req", "-days", "30", "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
        run(
            "openssl",
            signed.iter().chain(&["-extfile", &extensions, "-in", &request, "-out", &certificate]),
        );
        let read = |path: String| std::fs::read_to_string(path).expect("what openssl has written");
        (read(certificate), read(key))
    }

    /// A folder that skopeo takes as `--dest-cert-dir`: it reads every `*.crt` in it.
    pub fn cert_dir(&self) -> String {
        self.scratch.write("certs.d/ca.crt", self.ca());
        self.scratch.at("certs.d")
    }
}
