//! MBTiles 1.3: map tiles in an SQLite file, rows counted from the south.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::MAX_TILE_BYTES;
use super::picture::vector_tiles;
use crate::budget::Work;
use crate::georef::Bounds;
use crate::raster::error::RasterError;
use crate::raster::formats::cache::ChunkCache;
use crate::raster::formats::error::{DecodeError, damaged};
use crate::raster::formats::tile_pyramid::{TileExtent, TilePyramid, TileStore};
use crate::storage::ReadError;
use crate::sync::IgnorePoison;
use crate::tiles::{MAX_ZOOM, TileCoord, world_place};

const FORMAT: &str = "MBTiles";

/// Rows of the metadata table that are read, and the longest value accepted.
const MAX_METADATA: i64 = 1000;
const MAX_VALUE_BYTES: i64 = 4096;

/// Time for opening a file and for reading a tile: `tiles` may be a view, and a view may take for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a statement that takes long is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Rows of which the longest tile tells the side of all; placeholders are short.
const SAMPLED_ROWS: usize = 1000;

/// True if the first bytes are those of an SQLite file.
pub(crate) fn is_sqlite(start: &[u8]) -> bool {
    start.starts_with(b"SQLite f")
}

/// An MBTiles file, open for reading.
pub(crate) struct Mbtiles {
    /// Held while one tile is read; decoding, which takes longer, happens outside.
    connection: Mutex<Connection>,
}

impl Mbtiles {
    /// Opens a file as a raster.
    ///
    /// # Errors
    /// [`RasterError::Undecodable`] if it is damaged or has no tiles, [`RasterError::Unsupported`] for vector tiles.
    pub(crate) fn open(name: &str, path: &Path, cache: &ChunkCache) -> Result<TilePyramid, RasterError> {
        let failed = |error: DecodeError| error.in_file(name, FORMAT);
        let connection = connect(path).map_err(|error| failed(decode_error(&error)))?;
        let (extent, sample) = within_patience(&connection, || describe(&connection)).map_err(failed)?;
        let store = Self { connection: Mutex::new(connection) };
        TilePyramid::new(name, Arc::new(store), &extent, Some(&sample), cache)
    }
}

impl TileStore for Mbtiles {
    fn tile(&self, tile: TileCoord) -> Result<Option<Bytes>, DecodeError> {
        let row = (1u32 << tile.z()) - 1 - tile.y();
        let connection = self.connection.lock().ignore_poison();
        let sql = format!(
            "SELECT {} FROM tiles WHERE zoom_level = ?1 AND tile_column = ?2 AND tile_row = ?3",
            bounded("tile_data")
        );
        within_patience(&connection, || picture_of(&connection, &sql, params![tile.z(), tile.x(), row]))
    }
}

/// Runs statements, which a watching thread interrupts once [`PATIENCE`] is over or their request has ended.
fn within_patience<T>(connection: &Connection, statements: impl FnOnce() -> T) -> T {
    let (handle, started) = (connection.get_interrupt_handle(), Instant::now());
    let (done, ended) = mpsc::channel::<()>();
    let is_wanted = Work::shared(|| started.elapsed() < PATIENCE && Work::check().is_ok());
    std::thread::scope(|scope| {
        let watch = move || {
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if !is_wanted() {
                    handle.interrupt();
                }
            }
        };
        // Without a thread to spare, statements are not watched.
        let watching = std::thread::Builder::new().spawn_scoped(scope, watch);
        if let Err(error) = watching {
            tracing::warn!(%error, "no thread watches over a statement");
        }
        let found = statements();
        drop(done);
        found
    })
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // `tiles` may be a view, which must not call functions with side effects.
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Selects a column's length, and its value if that is short enough: SQLite knows the length without reading the value.
fn bounded(column: &str) -> String {
    format!("length({column}), CASE WHEN length({column}) <= {MAX_TILE_BYTES} THEN {column} END")
}

/// The first picture of a statement that selects what [`bounded`] names.
fn picture_of(connection: &Connection, sql: &str, parameters: impl rusqlite::Params) -> Result<Option<Bytes>, DecodeError> {
    let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(Option<i64>, Option<Bytes>)> {
        let bytes = row.get_ref(1)?.as_bytes_or_null()?.map(Bytes::copy_from_slice);
        Ok((row.get(0)?, bytes))
    };
    let mut statement = connection.prepare_cached(sql).map_err(|error| decode_error(&error))?;
    let found = statement.query_row(parameters, read).optional().map_err(|error| decode_error(&error))?;
    match found {
        Some((Some(len), None)) => Err(damaged(format!("a tile has {len} bytes; {MAX_TILE_BYTES} are accepted"))),
        Some((_, Some(bytes))) if !bytes.is_empty() => Ok(Some(bytes)),
        _ => Ok(None),
    }
}

/// The extent of a file's tiles, and one of them.
fn describe(connection: &Connection) -> Result<(TileExtent, Bytes), DecodeError> {
    let metadata = metadata(connection)?;
    let given = |name: &str| metadata.get(name).map(String::as_str);
    if matches!(given("format"), Some("pbf" | "mvt" | "application/vnd.mapbox-vector-tile")) {
        return Err(vector_tiles());
    }
    let sql = format!(
        "SELECT {} FROM (SELECT tile_data FROM tiles LIMIT {SAMPLED_ROWS}) ORDER BY length(tile_data) DESC LIMIT 1",
        bounded("tile_data")
    );
    let sample = picture_of(connection, &sql, [])?.ok_or_else(|| damaged("it has no tiles"))?;

    // What the metadata say of zooms and bounds is often wrong.
    let (min_zoom, max_zoom) = zooms(connection)?;
    let bounds = match given("bounds").and_then(TileExtent::parse_bounds) {
        Some(bounds) if are_plausible(connection, max_zoom, bounds)? => bounds,
        _ => bounds_of_tiles(connection, max_zoom)?,
    };
    Ok((TileExtent::try_new(min_zoom, max_zoom, bounds).map_err(damaged)?.of_whole_tiles(), sample))
}

/// The metadata table; empty if there is none.
fn metadata(connection: &Connection) -> Result<HashMap<String, String>, DecodeError> {
    let exists = connection.table_exists(None, "metadata").map_err(|error| decode_error(&error))?;
    if !exists {
        return Ok(HashMap::new());
    }
    let sql = "SELECT CAST(name AS TEXT), CAST(value AS TEXT) FROM metadata \
               WHERE length(name) <= ?1 AND length(value) <= ?1 LIMIT ?2";
    let mut statement = connection.prepare(sql).map_err(|error| decode_error(&error))?;
    let rows = statement.query_map(params![MAX_VALUE_BYTES, MAX_METADATA], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.and_then(Iterator::collect).map_err(|error| decode_error(&error))
}

/// The shallowest and the deepest zoom, each looked up by the index.
fn zooms(connection: &Connection) -> Result<(i64, i64), DecodeError> {
    let sql = "SELECT (SELECT min(zoom_level) FROM tiles), (SELECT max(zoom_level) FROM tiles)";
    let zooms = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let (min_zoom, max_zoom): (i64, i64) = connection.query_row(sql, [], zooms).map_err(|error| decode_error(&error))?;
    if !(0..=i64::from(MAX_ZOOM)).contains(&max_zoom) {
        return Err(damaged(format!("it has tiles of zoom {max_zoom}; 0 to {MAX_ZOOM} are accepted")));
    }
    Ok((min_zoom, max_zoom))
}

/// True if the bounds in the metadata begin and end with the columns of the deepest zoom, and the tiles of its first and last column
/// lie within them. That is looked up by the index, where a look at all tiles may take seconds.
fn are_plausible(connection: &Connection, zoom: i64, bounds: Bounds) -> Result<bool, DecodeError> {
    let look_up = |sql: &str, column: i64| -> Result<(Option<i64>, Option<i64>), DecodeError> {
        let found = connection.query_row(sql, [zoom, column], |row| Ok((row.get(0)?, row.get(1)?)));
        found.map_err(|error| decode_error(&error))
    };
    let columns = "SELECT (SELECT min(tile_column) FROM tiles WHERE zoom_level = ?1), \
                   (SELECT max(tile_column) FROM tiles WHERE zoom_level = ?1) WHERE ?2 >= 0";
    let rows = "SELECT (SELECT min(tile_row) FROM tiles WHERE zoom_level = ?1 AND tile_column = ?2), \
                (SELECT max(tile_row) FROM tiles WHERE zoom_level = ?1 AND tile_column = ?2)";
    let (Some(west), Some(east)) = look_up(columns, 0)? else { return Ok(false) };
    let Ok(TileExtent { max_zoom, bounds_lon_lat: bounds, .. }) = TileExtent::try_new(zoom, zoom, bounds) else {
        return Ok(false);
    };
    let corner = |lon: f64, lat: f64| TileCoord::at(max_zoom, lon, lat);
    let (Some(south_west), Some(north_east)) = (corner(bounds.min_x, bounds.min_y), corner(bounds.max_x, bounds.max_y))
    else {
        return Ok(false);
    };
    // Edges between two tiles may be rounded to either.
    let near = |tile: u32, column: i64| (i64::from(tile) - column).abs() <= 1;
    if !near(south_west.x(), west) || !near(north_east.x(), east) {
        return Ok(false);
    }
    let from_south = |tile: TileCoord| i64::from((1u32 << tile.z()) - 1 - tile.y());
    let accepted = from_south(south_west) - 1..=from_south(north_east) + 1;
    for column in [west, east] {
        if let (Some(south), Some(north)) = look_up(rows, column)?
            && !(accepted.contains(&south) && accepted.contains(&north))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The box of all tiles of a zoom.
fn bounds_of_tiles(connection: &Connection, zoom: i64) -> Result<Bounds, DecodeError> {
    let sql = "SELECT min(tile_column), max(tile_column), min(tile_row), max(tile_row) FROM tiles WHERE zoom_level = ?1";
    let edges = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]);
    let edges: [Option<f64>; 4] = connection.query_row(sql, [zoom], edges).map_err(|error| decode_error(&error))?;
    let [Some(west), Some(east), Some(south), Some(north)] = edges else {
        return Err(damaged(format!("it has no tiles of zoom {zoom}")));
    };
    let side = f64::from(1u32 << zoom);
    // Rows are counted from the south.
    let (min_x, min_y) = world_place(west / side, 1.0 - south / side);
    let (max_x, max_y) = world_place((east + 1.0) / side, 1.0 - (north + 1.0) / side);
    Ok(Bounds { min_x, min_y, max_x, max_y })
}

/// What SQLite says: except for a failure of the disk, it is the file's fault.
fn decode_error(error: &rusqlite::Error) -> DecodeError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure | ErrorCode::PermissionDenied | ErrorCode::OutOfMemory) => {
            ReadError::from(io::Error::other(error.to_string())).into()
        }
        Some(ErrorCode::OperationInterrupted) => {
            damaged(format!("a statement took more than {} s, or its request ended", PATIENCE.as_secs()))
        }
        _ => damaged(error.to_string()),
    }
}
