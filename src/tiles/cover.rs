//! The tiles that a box on the Earth touches.

use super::coord::TileCoord;
use crate::georef::Bounds;

/// Tiles of one zoom: a rectangle of them.
#[derive(Clone, Copy, Debug)]
pub struct TileCover {
    north_west: TileCoord,
    south_east: TileCoord,
}

impl TileCover {
    /// The tiles that a box in degrees touches: in two covers if its eastern edge lies beyond 180, as it crosses the antimeridian. None
    /// if there is no such zoom.
    pub fn of(bounds: &Bounds, zoom: u8) -> Vec<Self> {
        let Bounds { min_x: west, min_y: south, max_x: east, max_y: north } = *bounds;
        let part = |west: f64, east: f64| {
            Some(Self { north_west: TileCoord::at(zoom, west, north)?, south_east: TileCoord::at(zoom, east, south)? })
        };
        let parts = if east <= 180.0 { [part(west, east), None] } else { [part(west, 180.0), part(-180.0, east - 360.0)] };
        match parts {
            // At low zooms both may have the same tiles.
            [Some(eastern), Some(western)] if western.south_east.x() >= eastern.north_west.x() => {
                part(-180.0, 180.0).into_iter().collect()
            }
            parts => parts.into_iter().flatten().collect(),
        }
    }

    /// How many tiles there are.
    pub fn count(&self) -> u64 {
        let along = |first: u32, last: u32| u64::from(last.saturating_sub(first)) + 1;
        along(self.north_west.x(), self.south_east.x()) * along(self.north_west.y(), self.south_east.y())
    }

    /// The tiles, column by column.
    pub fn tiles(&self) -> impl Iterator<Item = TileCoord> + use<> {
        let Self { north_west, south_east } = *self;
        let tile = move |x: u32, y: u32| TileCoord::try_new(north_west.z().into(), x.into(), y.into()).ok();
        (north_west.x()..=south_east.x())
            .flat_map(move |x| (north_west.y()..=south_east.y()).filter_map(move |y| tile(x, y)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_a_box_are_those_it_touches() {
        let tiles = |min_x, max_x, zoom| -> Vec<(u32, u32)> {
            let bounds = Bounds { min_x, min_y: -10.0, max_x, max_y: 10.0 };
            let covers = TileCover::of(&bounds, zoom);
            assert_eq!(
                covers.iter().map(TileCover::count).sum::<u64>() as usize,
                covers.iter().flat_map(TileCover::tiles).count()
            );
            covers.iter().flat_map(TileCover::tiles).map(|tile| (tile.x(), tile.y())).collect()
        };
        assert_eq!(tiles(10.0, 20.0, 0), [(0, 0)]);
        assert_eq!(tiles(10.0, 20.0, 1), [(1, 0), (1, 1)]);
        assert_eq!(tiles(170.0, 190.0, 2), [(3, 1), (3, 2), (0, 1), (0, 2)]);
        assert_eq!(tiles(170.0, 190.0, 0), [(0, 0)]);
        assert_eq!(tiles(-180.0, 180.0, 1).len(), 4);
        assert_eq!(tiles(10.0, 20.0, 25), []);
    }
}
