//! The certificates of the authorities that TLS connections are checked against.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where systems keep the certificates they trust, in one file: Debian, Fedora, openSUSE, and Alpine, the BSDs and macOS.
const SYSTEM_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The authorities that are trusted: those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, else the system's, else Mozilla's, which are part
/// of the program.
#[derive(Clone, Default)]
pub struct Authorities(Option<Arc<Vec<Certificate<'static>>>>);

/// The system's. Several clients want them as the server starts, and to decode them takes milliseconds.
static SYSTEM: LazyLock<Authorities> = LazyLock::new(|| {
    let found = SYSTEM_FILES.iter().map(|file| certificates(Path::new(file))).find(|found| !found.is_empty());
    Authorities(found.map(Arc::new))
});

impl Authorities {
    /// The authorities that the variables name, which `variable` looks up, as OpenSSL takes them. If nothing in the named files can
    /// be read, nobody is trusted, which is logged.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let (file, folders) = (given("SSL_CERT_FILE"), given("SSL_CERT_DIR"));
        if file.is_none() && folders.is_none() {
            return SYSTEM.clone();
        }
        let entries =
            folders.iter().flat_map(std::env::split_paths).filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        let files = entries.filter_map(|entry| Some(entry.ok()?.path())).chain(file.iter().map(PathBuf::from));
        let found: Vec<_> = files.flat_map(|file| certificates(&file)).collect();
        if found.is_empty() {
            tracing::warn!(
                ?file,
                ?folders,
                "SSL_CERT_FILE and SSL_CERT_DIR name no certificate: no TLS connection can be made"
            );
        }
        Self(Some(Arc::new(found)))
    }

    /// What a client checks connections with.
    pub fn tls(&self) -> TlsConfig {
        let roots = self.0.as_ref().map_or(RootCerts::WebPki, |found| RootCerts::Specific(found.clone()));
        TlsConfig::builder().root_certs(roots).build()
    }
}

/// The certificates in a file; none if it cannot be read.
fn certificates(file: &Path) -> Vec<Certificate<'static>> {
    let Ok(text) = fs::read(file) else { return Vec::new() };
    let items = parse_pem(&text).filter_map(Result::ok);
    let certificates = items.filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    certificates.collect()
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |authorities: &Self| -> Option<Vec<Vec<u8>>> {
            let found = authorities.0.as_ref()?;
            Some(found.iter().map(|certificate| certificate.der().to_vec()).collect())
        };
        bytes(self) == bytes(other)
    }
}

impl Eq for Authorities {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(found) => write!(f, "{} certificates", found.len()),
            None => f.write_str("Mozilla's certificates"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_come_before_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/authority.pem");
        fs::copy(file, dir.path().join("one.pem")).unwrap();
        fs::write(dir.path().join("other.txt"), "no certificate").unwrap();
        let folder = dir.path().display().to_string();
        let shown = |named: &[(&str, &str)]| {
            let look_up = |name: &str| named.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned());
            format!("{:?}", Authorities::from_variables(look_up))
        };
        assert_eq!(shown(&[("SSL_CERT_FILE", file)]), "1 certificates");
        assert_eq!(shown(&[("SSL_CERT_DIR", &folder)]), "1 certificates");
        assert_eq!(shown(&[("SSL_CERT_FILE", file), ("SSL_CERT_DIR", &folder)]), "2 certificates");
        assert_eq!(shown(&[("SSL_CERT_DIR", &format!("/nowhere:{folder}"))]), "1 certificates");
        assert_eq!(shown(&[("SSL_CERT_FILE", "/nowhere")]), "0 certificates");
        assert_ne!(shown(&[("SSL_CERT_FILE", "")]), "0 certificates");
    }
}
