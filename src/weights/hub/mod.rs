//! The Hugging Face hub: its shared cache, and downloads into it.

mod cache;
mod download;
mod options;

pub use download::{DownloadProgress, Hub};
pub use options::HubOptions;
