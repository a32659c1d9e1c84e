//! Area jobs: an area of any size, worked on in blocks that a folder or a bucket collects.
//!
//! A job becomes a plan of blocks that anybody can make again from the job alone: the same job has the same blocks with the same names.
//! Each block is written once and whole, first its data, then its STAC item. So a run goes on where another was killed, several runs
//! may share the blocks, and a block that fails leaves its reason and nothing else. [`run`](fn@run) puts a STAC collection and a
//! mosaic over what there is.
//!
//! | file | what it does |
//! | --- | --- |
//! | `job` | the job: what to predict, where, in blocks of which size |
//! | `plan` | the blocks, and what they will cost |
//! | `block_kind` | what the files of blocks are |
//! | `block` | one block from imagery to the bytes of its file |
//! | `encoding` | how the cells of embeddings are stored in all blocks |
//! | `destination`, `folder`, `names` | where files go: each put there once |
//! | `result_file` | one of those files, read in pieces |
//! | `run` | the blocks of a shard, one after the other |
//! | `archive` | the folder as one file |
//! | `map`, `map_rasters`, `map_features`, `pmtiles` | results as map tiles in one file |
//! | `stac`, `stac_embeddings`, `mosaic` | what is written over the blocks |

mod archive;
mod block;
mod block_kind;
mod destination;
mod encoding;
mod error;
mod folder;
mod job;
mod map;
mod map_features;
mod map_rasters;
mod mosaic;
mod names;
mod plan;
mod pmtiles;
mod result_file;
mod run;
mod shard;
mod stac;
mod stac_embeddings;

pub use archive::archive;
pub use block_kind::BlockKind;
pub use destination::Destination;
pub use error::AreaError;
pub use folder::Folder;
pub use job::{AreaJob, BlockOptions};
pub use map::{MapReport, write_map};
pub(crate) use names::is_of_results;
pub use plan::{AreaPlan, Block, Estimate};
pub use result_file::ResultFile;
pub use run::{FailedBlock, Progress, Report, RunOptions, run};
pub(crate) use run::{agreed, cover, is_made, make, note_failure};
pub use shard::Shard;
