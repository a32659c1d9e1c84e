//! The files of `static/`, which are embedded in the program: the viewer and the demo bundle.

use std::borrow::Cow;

use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "static/"]
struct Static;

/// The folder of the demo bundle. Its models and imagery have routes of their own; it is not served as files.
const DEMO: &str = "demo/";

/// A file of the viewer.
#[derive(Clone, Debug)]
pub(crate) struct PageFile {
    pub(crate) bytes: &'static [u8],
    /// SHA-256 of the bytes.
    pub(crate) hash: [u8; 32],
}

/// A file of the viewer by its path below `static/`, such as `index.html`.
pub(crate) fn page_file(path: &str) -> Option<PageFile> {
    if path.starts_with(DEMO) {
        return None;
    }
    let file = Static::get(path)?;
    Some(PageFile { hash: file.metadata.sha256_hash(), bytes: borrowed(file.data)? })
}

/// A file of the demo bundle by its name, such as `world.safetensors`.
pub(crate) fn demo_file(name: &str) -> Option<&'static [u8]> {
    borrowed(Static::get(&format!("{DEMO}{name}"))?.data)
}

/// The bytes of an embedded file, which are always borrowed from the program.
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
