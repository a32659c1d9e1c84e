//! The names that files of results have.

/// The plan.
pub(super) const PLAN: &str = "plan.json";
/// What the last run ended in.
pub(super) const REPORT: &str = "report.json";
/// How the cells of embeddings are stored.
pub(super) const ENCODING: &str = "encoding.json";
/// The STAC collection over all blocks.
pub(super) const COLLECTION: &str = "collection.json";
/// The mosaic of all blocks.
pub(super) const MOSAIC: &str = "mosaic.vrt";
/// The folder of the blocks' STAC items.
pub(super) const ITEMS: &str = "items";
/// The folder of the reasons of blocks that failed.
pub(super) const FAILED: &str = "failed";
/// The folder of blocks that are rasters.
pub(super) const RASTERS: &str = "rasters";
/// The folder of blocks that are tables.
pub(super) const FEATURES: &str = "features";

/// The file of a block's item, which is written when the block is whole.
pub(super) fn item(block: &str) -> String {
    format!("{ITEMS}/{block}.json")
}

/// The file that says why a block failed.
pub(super) fn failure(block: &str) -> String {
    format!("{FAILED}/{block}.json")
}

/// True for files and folders of results. What another job put below such a name would be taken for them.
pub(crate) fn is_of_results(name: &str) -> bool {
    [PLAN, REPORT, ENCODING, COLLECTION, MOSAIC, ITEMS, FAILED, RASTERS, FEATURES].contains(&name)
}
