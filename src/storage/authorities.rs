//! The certificates of the authorities that TLS connections are checked against.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where systems keep the certificates they trust, in one file: Debian, Fedora, openSUSE, and Alpine, the BSDs and macOS.
const SYSTEM_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The authorities that are trusted. Decoding their certificates takes up to 10 ms, so it waits for the first connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authorities {
    /// Those that Mozilla trusts, which are part of the program.
    #[default]
    Mozilla,
    /// The system's, else Mozilla's.
    System,
    /// Those in a file and in the files of folders, which are separated as in `PATH`.
    Named {
        /// `SSL_CERT_FILE`.
        file: Option<String>,
        /// `SSL_CERT_DIR`.
        folders: Option<String>,
    },
}

impl Authorities {
    /// The authorities that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, which `variable` looks up, as OpenSSL takes them, else the
    /// system's.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        match (given("SSL_CERT_FILE"), given("SSL_CERT_DIR")) {
            (None, None) => Self::System,
            (file, folders) => Self::Named { file, folders },
        }
    }

    /// What a client checks connections with. Reads the certificates. If nothing in the named files can be read, nobody is
    /// trusted, which is logged.
    pub fn tls(&self) -> TlsConfig {
        let found = match self {
            Self::Mozilla => None,
            Self::System => SYSTEM_FILES.iter().map(|file| certificates(Path::new(file))).find(|found| !found.is_empty()),
            Self::Named { file, folders } => Some(named_certificates(file.as_deref(), folders.as_deref())),
        };
        let roots = found.map_or(RootCerts::WebPki, |found| RootCerts::Specific(Arc::new(found)));
        TlsConfig::builder().root_certs(roots).build()
    }

    /// The same for clients that speak TLS by themselves. Certificates that cannot be used are left out.
    ///
    /// # Errors
    /// If the program has no version of TLS.
    pub fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        let mut roots = RootCertStore::empty();
        match self.tls().root_certs() {
            RootCerts::Specific(found) => {
                let found = found.iter().map(|certificate| certificate.der().to_vec().into());
                roots.add_parsable_certificates(found);
            }
            _ => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

fn named_certificates(file: Option<&str>, folders: Option<&str>) -> Vec<Certificate<'static>> {
    let entries =
        folders.into_iter().flat_map(std::env::split_paths).filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let files = entries.filter_map(|entry| Some(entry.ok()?.path())).chain(file.map(PathBuf::from));
    let found: Vec<_> = files.flat_map(|file| certificates(&file)).collect();
    if found.is_empty() {
        tracing::warn!(
            ?file,
            ?folders,
            "SSL_CERT_FILE and SSL_CERT_DIR name no certificate: no TLS connection can be made"
        );
    }
    found
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
            match Authorities::from_variables(look_up).tls().root_certs() {
                RootCerts::Specific(found) => Some(found.len()),
                _ => None,
            }
        };
        assert_eq!(shown(&[("SSL_CERT_FILE", file)]), Some(1));
        assert_eq!(shown(&[("SSL_CERT_DIR", &folder)]), Some(1));
        assert_eq!(shown(&[("SSL_CERT_FILE", file), ("SSL_CERT_DIR", &folder)]), Some(2));
        assert_eq!(shown(&[("SSL_CERT_DIR", &format!("/nowhere:{folder}"))]), Some(1));
        assert_eq!(shown(&[("SSL_CERT_FILE", "/nowhere")]), Some(0));
        assert_ne!(shown(&[("SSL_CERT_FILE", "")]), Some(0));
    }
}
