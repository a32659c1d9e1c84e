//! The formats of tables of vectors, one row each.

/// A format of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableFormat {
    /// An array of numpy, `[rows, values]`.
    Npy,
    /// A line of JSON a row.
    Jsonl,
    /// Parquet; with places, GeoParquet.
    Parquet,
}

impl TableFormat {
    /// All formats, the default first.
    pub(crate) const ALL: [Self; 3] = [Self::Npy, Self::Jsonl, Self::Parquet];

    /// The file extension, also the name that `format=` takes.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Npy => "npy",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    /// The media type of answers.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Npy => "application/x-npy",
            Self::Jsonl => "application/x-ndjson",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}
