//! The objects of a tile, from its window and the windows around it.
//!
//! Each object is reported by one window ([`borders::deduplicate`]). Data formats give a tile the reports whose centre it holds.
//! Drawn formats show every report that touches the tile, whichever window makes it, so that both sides of a border show one object
//! with one box and one score.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::borders::{self, NEAR_PX, Side};
use super::device::ModelQuery;
use super::error::EngineError;
use super::plan::TilePlan;
use super::sources::Sources;
use super::window::{Asked, Timings, WindowAnswer, WindowKey, Windows};
use crate::nn::Part;
use crate::prediction::Object;

/// A tile's window and those around it that have been asked.
pub(super) struct Neighbourhood<'a> {
    plan: &'a TilePlan,
    asked: Asked<'a>,
    query: &'a ModelQuery,
    sources: &'a Sources,
    windows: &'a Windows,
    /// By columns and rows from the tile's window, which is (0, 0); `None` where the source has no data.
    seen: BTreeMap<Side, Option<Arc<WindowAnswer>>>,
    /// Time spent on the windows around.
    pub(super) spent: Timings,
}

impl<'a> Neighbourhood<'a> {
    /// `own` is the answer of the tile's window.
    pub(super) fn new(
        own: Arc<WindowAnswer>,
        plan: &'a TilePlan,
        asked: Asked<'a>,
        query: &'a ModelQuery,
        (sources, windows): (&'a Sources, &'a Windows),
    ) -> Self {
        let seen = BTreeMap::from([((0, 0), Some(own))]);
        Self { plan, asked, query, sources, windows, seen, spent: Timings::default() }
    }

    /// The objects whose centre lies in the tile, in the coordinates of its window.
    ///
    /// # Errors
    /// As [`Windows::answer`].
    pub(super) async fn owned(&mut self) -> Result<Vec<Object>, EngineError> {
        let (grid, area) = (self.windows.grid(), self.plan.area);
        for side in borders::neighbours(self.objects((0, 0)), area, &grid) {
            self.ask(side).await?;
        }
        Ok(borders::deduplicate(self.objects((0, 0)), &self.around((0, 0)), area, &grid))
    }

    /// The objects that touch the tile, in the coordinates of its window.
    ///
    /// # Errors
    /// As [`Windows::answer`].
    pub(super) async fn touching(&mut self) -> Result<Vec<Object>, EngineError> {
        let grid = self.windows.grid();
        let core = Part { col: grid.halo_px, row: grid.halo_px, width: grid.core_px, height: grid.core_px };
        let mut reporting = borders::reached(self.objects((0, 0)).iter(), &grid);
        reporting.insert((0, 0));
        for side in &reporting {
            self.ask(*side).await?;
            let near: Vec<Object> =
                self.objects(*side).iter().filter(|it| self.touches(it, *side, NEAR_PX)).cloned().collect();
            let needed: BTreeSet<Side> = &borders::reached(near.iter(), &grid) | &borders::neighbours(&near, core, &grid);
            for (col, row) in needed {
                self.ask((side.0 + col, side.1 + row)).await?;
            }
        }
        let mut found = Vec::new();
        for side in reporting {
            let around = self.around(side);
            for mut object in borders::deduplicate(self.objects(side), &around, core, &grid) {
                borders::end_at_unseen(&mut object, &around, &grid);
                if self.touches(&object, side, 0.0) {
                    found.push(borders::moved(&object, side, grid.core_px as f32));
                }
            }
        }
        Ok(found)
    }

    /// True if an object, in the coordinates of the window at `side`, is less than `margin` pixels from the tile.
    fn touches(&self, object: &Object, side: Side, margin: f32) -> bool {
        let [x0, y0, x1, y1] = borders::moved(object, side, self.windows.grid().core_px as f32).bbox_px;
        let Part { col, row, width, height } = self.plan.area;
        let (left, top) = (col as f32 - margin, row as f32 - margin);
        let (right, bottom) = ((col + width) as f32 + margin, (row + height) as f32 + margin);
        x0 < right && x1 > left && y0 < bottom && y1 > top
    }

    /// The objects of a window that has been asked, in its own coordinates.
    fn objects(&self, side: Side) -> &[Object] {
        self.seen.get(&side).and_then(Option::as_ref).map_or(&[], |answer| answer.objects())
    }

    /// The windows beside one, as far as they have been asked.
    fn around(&self, (col, row): Side) -> Vec<(Side, &[Object])> {
        let sides = self.seen.keys().map(|side| (side.0 - col, side.1 - row));
        let beside = sides.filter(|side| *side != (0, 0) && side.0.abs() <= 1 && side.1.abs() <= 1);
        beside.map(|side| (side, self.objects((col + side.0, row + side.1)))).collect()
    }

    /// Runs a window, unless it has been asked already.
    async fn ask(&mut self, side: Side) -> Result<(), EngineError> {
        if !self.seen.contains_key(&side) {
            let answer = self.run(side).await?;
            self.seen.insert(side, answer);
        }
        Ok(())
    }

    async fn run(&mut self, side: Side) -> Result<Option<Arc<WindowAnswer>>, EngineError> {
        let Some(window) = self.plan.key.window.neighbour(side.0, side.1) else { return Ok(None) };
        let target = self.windows.grid().georef(window);
        // A source that is searched per place may have other captures there.
        let source = self.sources.opened(&self.plan.source.id).await?;
        let source = self.sources.at(source, &target, self.plan.key.pixels.captures.datetime).await?;
        if !source.covers(&target) {
            return Ok(None);
        }
        let source_version = source.version.clone();
        let key = WindowKey { window, source_version, ..self.plan.key.clone() };
        let (answer, spent) = self.windows.answer(key, Asked { source: &source, ..self.asked }, self.query.clone()).await?;
        self.spent.add(&spent);
        Ok(Some(answer))
    }
}
