//! Registries with TLS, their certificates made by openssl. Without openssl these tests print that they
//! were skipped.

use crate::image::Image;
use crate::server::{Reply, Server};
use crate::{options, read_layer, refused, registry};
use edgepull::clock::{Clock, HORIZON, Reason};
use edgepull::error::Kind;
use edgepull::image::manifest::media_type;
use edgepull::source::{Options, open};
use edgepull::sys::unix_time;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const DAY: u64 = 24 * 60 * 60;

/// A private authority and a server certificate for 127.0.0.1 issued by it.
pub struct Pki(tempfile::TempDir);

impl Pki {
    /// `None`, with a line that says so, where there is no openssl.
    pub fn new() -> Option<Pki> {
        Pki::issue(&["-days", "30"])
    }

    /// The same, with certificates that are valid for 12 years.
    pub fn long() -> Option<Pki> {
        Pki::issue(&["-days", "4383"])
    }

    fn issue(validity: &[&str]) -> Option<Pki> {
        if Command::new("openssl").arg("version").output().is_err() {
            println!("skipped: no openssl on this machine");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let output = Command::new("openssl").current_dir(&directory).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        run(&[
            &["req", "-x509", "-days", "4383"],
            &key[..],
            &["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA"],
        ]
        .concat());
        run(&[&["req"], &key[..], &["-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=registry"]]
            .concat());
        let extensions = "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
        std::fs::write(directory.path().join("extensions"), extensions).unwrap();
        let issue =
            ["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        run(&[&issue[..], &["-extfile", "extensions", "-out", "cert.pem"], validity].concat());
        Some(Pki(directory))
    }

    /// One certificate that has signed itself, as Docker's documentation makes it ("Use self-signed certificates").
    fn alone(constraints: &str) -> Option<Pki> {
        let pki = Pki::new()?;
        let output = Command::new("openssl")
            .current_dir(&pki.0)
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "30",
            ])
            .args(["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=registry"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", constraints])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(pki)
    }

    /// One of X.509 version 1, as `openssl x509 -req` writes it where nobody gives it extensions; `None` where there is no
    /// openssl, or one that writes version 3.
    fn version_1() -> Option<Pki> {
        let pki = Pki::new()?;
        let run = |arguments: &str| {
            let arguments = arguments.split(' ');
            let output = Command::new("openssl").current_dir(&pki.0).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        run("x509 -req -in request.pem -signkey key.pem -days 30 -out cert.pem");
        if !run("x509 -in cert.pem -noout -text").contains("Version: 1 ") {
            println!("skipped: this openssl writes no X.509 version 1");
            return None;
        }
        Some(pki)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn server(&self) -> Arc<rustls::ServerConfig> {
        let certificate = CertificateDer::from_pem_file(self.path("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Arc::new(config)
    }
}

pub fn trusting(ca_file: &Path) -> Options {
    Options { plain_http: false, ca_file: Some(ca_file.to_owned()), ..options() }
}

#[test]
fn a_private_authority_and_a_link_that_breaks() {
    let Some(pki) = Pki::new() else { return };
    let image = Image::new();
    let bytes = image.layer.clone();
    let server = Server::start_tls(pki.server(), move |request, before| {
        let reply = Reply::ranged(request, &bytes);
        // Cut without TLS's own goodbye, as a lost link does it.
        if before < 3 { reply.cut(20_001) } else { reply }
    });
    let mut source = registry(server.address, &trusting(&pki.path("ca.pem")));
    assert!(read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap() == image.layer);
    assert_eq!(server.requests().len(), 4);
    assert_eq!(server.requests()[3].range(), Some((60_003, 99_999)));
}

#[test]
fn an_unknown_authority_is_final_and_never_answered_by_plain_http() {
    let (Some(pki), Some(other)) = (Pki::new(), Pki::new()) else { return };
    let server = Server::start_tls(pki.server(), |_, _| Reply::typed(media_type::OCI_INDEX, crate::INDEX));
    refused(
        registry(server.address, &trusting(&other.path("ca.pem"))).root(),
        Kind::Network,
        &["authority that is not trusted", "--ca-file"],
    );
    // The system's roots do not know it either: --ca-file replaces them, here nothing does.
    let options = Options { plain_http: false, ..options() };
    refused(registry(server.address, &options).root(), Kind::Network, &["not trusted"]);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_server_may_show_a_trusted_certificate_itself() {
    for constraints in ["basicConstraints=critical,CA:TRUE", "basicConstraints=CA:FALSE"] {
        let (Some(pki), Some(other)) = (Pki::alone(constraints), Pki::alone(constraints)) else { return };
        let server =
            Server::start_tls(pki.server(), |_, _| Reply::typed(media_type::OCI_INDEX, crate::INDEX));
        let trusted = trusting(&pki.path("cert.pem"));
        assert_eq!(registry(server.address, &trusted).root().unwrap().bytes, crate::INDEX.as_bytes());
        // Its name and its time count all the same.
        let localhost = format!("localhost:{}/team/app:v1", server.address.port()).parse().unwrap();
        let mut source = open(&localhost, &trusted).unwrap();
        refused(source.root(), Kind::Network, &["is for another name"]);
        let (now, later) = (unix_time(), unix_time() + 60 * DAY);
        let clock = Arc::new(Clock::with(move || later, now, None));
        refused(
            registry(server.address, &Options { clock, ..trusted }).root(),
            Kind::Network,
            &["has expired on"],
        );
        // One of the same name, by another key.
        let words: &[&str] = match constraints.ends_with("TRUE") {
            true => {
                &["is an authority's own (CA:TRUE)", "trust that very certificate: --ca-file FILE, or ca.crt"]
            }
            false => &["authority that is not trusted"],
        };
        let stranger = registry(server.address, &trusting(&other.path("cert.pem"))).root();
        let text = refused(stranger, Kind::Network, words);
        assert!(!text.contains("Error"), "{text}");
        let nobody = registry(server.address, &Options { plain_http: false, ..options() }).root();
        let text = refused(nobody, Kind::Network, &["--ca-file FILE"]);
        assert!(!text.contains("CA:FALSE"), "{text}");
    }
}

#[test]
fn a_trusted_certificate_of_version_1_is_refused_for_what_it_lacks() {
    let Some(pki) = Pki::version_1() else { return };
    let key = PrivateKeyDer::from_pem_file(pki.path("key.pem")).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let chain = vec![CertificateDer::from_pem_file(pki.path("cert.pem")).unwrap()];
    let resolver = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, key));
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
    let server =
        Server::start_tls(Arc::new(config), |_, _| Reply::typed(media_type::OCI_INDEX, crate::INDEX));
    let words = ["is of X.509 version 1, which has no names to check (subjectAltName)"];
    refused(registry(server.address, &trusting(&pki.path("cert.pem"))).root(), Kind::Network, &words);
}

#[test]
fn a_certificate_for_another_name() {
    let Some(pki) = Pki::new() else { return };
    let server = Server::start_tls(pki.server(), |_, _| Reply::typed(media_type::OCI_INDEX, crate::INDEX));
    let reference = format!("localhost:{}/team/app:v1", server.address.port()).parse().unwrap();
    let mut source = open(&reference, &trusting(&pki.path("ca.pem"))).unwrap();
    let text = refused(source.root(), Kind::Network, &["is for another name: for 127.0.0.1"]);
    assert!(!text.contains("IpAddress"), "{text}");
}

#[test]
fn a_certificate_out_of_its_time_points_at_the_clock() {
    let Some(pki) = Pki::issue(&["-days", "-1"]) else { return };
    let server = Server::start_tls(pki.server(), |_, _| Reply::typed(media_type::OCI_INDEX, crate::INDEX));
    refused(
        registry(server.address, &trusting(&pki.path("ca.pem"))).root(),
        Kind::Network,
        &["has expired", "clock"],
    );
}

/// Options with a clock that says `system`, of an agent that was built at `built`.
fn at(system: u64, built: u64, pki: &Pki) -> (Options, Arc<Clock>) {
    let clock = Arc::new(Clock::with(move || system, built, None));
    (Options { clock: clock.clone(), ..trusting(&pki.path("ca.pem")) }, clock)
}

#[test]
fn a_certificate_issued_after_the_build_is_good_where_the_clock_is_known_to_be_wrong() {
    let Some(pki) = Pki::new() else { return };
    let server = Server::start_tls(pki.server(), |_, _| Reply::typed(media_type::OCI_INDEX, crate::INDEX));
    let (now, built) = (unix_time(), unix_time() - 100 * DAY);
    let (unset, clock) = at(30, built, &pki);
    assert!(registry(server.address, &unset).root().is_ok());
    let floor = clock.now_at(&server.address.to_string());
    assert_eq!(floor.reason, Reason::Certificate("127.0.0.1".into()));
    assert!((now - DAY..=now).contains(&floor.time), "{floor}");
    assert_eq!(clock.to_record(), None);
    // A clock that may be right is held to what it says.
    let (behind, _) = at(now - 50 * DAY, built, &pki);
    let parts = ["is not valid yet", "is probably behind", "date -u -s"];
    refused(registry(server.address, &behind).root(), Kind::Network, &parts);
    // Nor is everything believed: no agent is in use so long after its build.
    let (ancient, _) = at(30, now - HORIZON - DAY, &pki);
    refused(registry(server.address, &ancient).root(), Kind::Network, &["is not valid yet"]);
}

#[test]
fn a_certificate_that_expired_before_the_build_is_refused_whatever_the_clock() {
    let Some(pki) = Pki::new() else { return };
    let server = Server::start_tls(pki.server(), |_, _| Reply::typed(media_type::OCI_INDEX, crate::INDEX));
    let built = unix_time() + 31 * DAY;
    for system in [0, unix_time(), built + DAY] {
        let (options, clock) = at(system, built, &pki);
        refused(
            registry(server.address, &options).root(),
            Kind::Network,
            &["has expired on", "this board's clock"],
        );
        assert_eq!(clock.to_record(), None);
    }
}

#[test]
fn a_stranger_s_certificate_is_refused_at_any_time() {
    let (Some(pki), Some(other)) = (Pki::new(), Pki::new()) else { return };
    let server = Server::start_tls(pki.server(), |_, _| Reply::typed(media_type::OCI_INDEX, crate::INDEX));
    let (options, clock) = at(30, unix_time() - 100 * DAY, &other);
    refused(registry(server.address, &options).root(), Kind::Network, &["not trusted"]);
    assert_eq!(clock.now_at(&server.address.to_string()).reason, Reason::Built);
}

#[test]
fn https_does_not_lead_to_http() {
    let Some(pki) = Pki::new() else { return };
    let plain = Server::start(|_, _| Reply::typed(media_type::OCI_INDEX, crate::INDEX));
    let target = format!("http://{}/x", plain.address);
    let server =
        Server::start_tls(pki.server(), move |request, _| match request.target.contains("manifests") {
            true => Reply::new(307, "").with("Location", &target),
            false => Reply::new(401, "").with("WWW-Authenticate", &format!("Bearer realm=\"{target}\"")),
        });
    let mut source = registry(server.address, &trusting(&pki.path("ca.pem")));
    refused(source.root(), Kind::Network, &["redirects from https to http://", "refused"]);
    let layer = Image::new().layer_descriptor();
    refused(read_layer(&mut *source, &layer, 0), Kind::Auth, &["has no TLS", "refused"]);
    assert_eq!(plain.requests().len(), 0);
}

#[test]
fn a_ca_file_that_is_none_is_a_usage_error() {
    let Some(pki) = Pki::new() else { return };
    let server = Server::start_tls(pki.server(), |_, _| Reply::typed(media_type::OCI_INDEX, crate::INDEX));
    let missing = pki.path("missing.pem");
    refused(
        registry(server.address, &trusting(&missing)).root(),
        Kind::Usage,
        &["missing.pem", "no such file"],
    );
    refused(
        registry(server.address, &trusting(&pki.path("key.pem"))).root(),
        Kind::Usage,
        &["no certificate"],
    );
}
