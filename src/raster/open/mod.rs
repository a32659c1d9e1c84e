//! From what people name to captures: [`open`] takes a path, an address or an upload, whatever its format.

mod capture;
mod directory;
mod file;
mod location;
mod names;
mod opener;
mod safe;
mod sidecar;
mod single;
mod stac;
mod stacked;

pub use capture::Capture;
pub(crate) use capture::CaptureSet;
pub use location::Location;
pub use names::OpenOptions;
pub(crate) use names::{file_name, title_of, version_hash};
pub use opener::{Imagery, open, open_indices};
pub(crate) use stac::{Catalogue, is_search, open_search};
pub use stacked::split;
