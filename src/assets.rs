//! Everything of `static/` that is embedded in the program: the viewer's files and the demo bundle.

use std::borrow::Cow;

use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "static/"]
struct Static;

/// The demo bundle has its own routes (models and sources) and is not served as files.
const DEMO: &str = "demo/";

/// A file of the web page.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Its content.
    pub bytes: &'static [u8],
    /// SHA-256 of the content.
    pub hash: [u8; 32],
}

/// A file of the web page by its path under `static/`, such as `index.html`.
pub fn page_file(path: &str) -> Option<Asset> {
    if path.starts_with(DEMO) {
        return None;
    }
    let file = Static::get(path)?;
    Some(Asset { hash: file.metadata.sha256_hash(), bytes: borrowed(file.data)? })
}

/// A file of the demo bundle by its name, such as `world.safetensors`.
pub fn demo_file(name: &str) -> Option<&'static [u8]> {
    borrowed(Static::get(&format!("{DEMO}{name}"))?.data)
}

/// Embedded files are always borrowed from the program; an owned one would be a copy read from a disk.
fn borrowed(data: Cow<'static, [u8]>) -> Option<&'static [u8]> {
    match data {
        Cow::Borrowed(bytes) => Some(bytes),
        Cow::Owned(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_bundle_is_embedded_but_not_part_of_the_page() {
        assert!(demo_file("demo.json").is_some_and(|json| json.starts_with(b"{")));
        assert!(demo_file("world.safetensors").is_some_and(|file| file.len() > 1 << 20));
        assert!(page_file("demo/demo.json").is_none());
        assert!(demo_file("../index.html").is_none() && page_file("../Cargo.toml").is_none());
    }
}
