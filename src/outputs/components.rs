//! Connected components of a map of labels, as runs: stretches of one label along a row.
//!
//! Twelve bytes per run are kept. Maps of categories have far fewer runs than pixels.

/// Maps have fewer pixels, and so fewer components, than this.
pub(super) const MAX_PIXELS: u32 = u32::MAX;

/// The pixels from `start` to before `end` of a row, which have one label and so belong to one component.
#[derive(Clone, Copy)]
pub(super) struct LabelRun {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) component: u32,
}

impl LabelRun {
    pub(super) fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// The 4-connected components of a map.
pub(super) struct Components<'a> {
    pub(super) labels: &'a [u8],
    pub(super) width: usize,
    height: usize,
    /// Row by row, from west to east. Pixels with the ignored label belong to no run.
    runs: Vec<LabelRun>,
    /// The index of each row's first run, and finally the number of runs.
    rows: Vec<usize>,
    /// How many components there are, numbered in the order of their first pixels.
    pub(super) count: usize,
}

impl<'a> Components<'a> {
    /// Finds the components with a union-find forest: the first pass joins runs that touch, the second numbers the roots.
    pub(super) fn find(labels: &'a [u8], (width, height): (usize, usize), ignored: u8) -> Self {
        let mut forest: Vec<u32> = Vec::new();
        let mut runs: Vec<LabelRun> = Vec::new();
        let mut rows = vec![0];
        for y in 0..height {
            let row = &labels[y * width..][..width];
            let mut above = rows[y.saturating_sub(1)]..rows[y];
            let mut start = 0;
            while start < width {
                let label = row[start];
                let end = start + row[start..].iter().take_while(|other| **other == label).count();
                if label != ignored {
                    let (from, to) = (start as u32, end as u32);
                    let mut node = None;
                    while above.start < above.end && runs[above.start].end <= from {
                        above.start += 1;
                    }
                    for other in runs[above.clone()].iter().take_while(|other| other.start < to) {
                        if labels[(y - 1) * width + other.start as usize] == label {
                            node = Some(node.map_or(other.component, |node| join(&mut forest, node, other.component)));
                        }
                    }
                    let component = node.unwrap_or_else(|| {
                        forest.push(forest.len() as u32);
                        forest.len() as u32 - 1
                    });
                    runs.push(LabelRun { start: from, end: to, component });
                }
                start = end;
            }
            rows.push(runs.len());
        }
        // A root is the least node of its tree, and nodes were created in scan order. So components are numbered in that
        // order.
        let mut count = 0;
        let mut numbers = vec![MAX_PIXELS; forest.len()];
        for node in 0..forest.len() as u32 {
            let root = root(&mut forest, node);
            if root == node {
                numbers[node as usize] = count;
                count += 1;
            } else {
                numbers[node as usize] = numbers[root as usize];
            }
        }
        runs.iter_mut().for_each(|run| run.component = numbers[run.component as usize]);
        Self { labels, width, height, runs, rows, count: count as usize }
    }

    /// The runs of row `y`.
    pub(super) fn row(&self, y: usize) -> &[LabelRun] {
        &self.runs[self.rows[y]..self.rows[y + 1]]
    }

    /// Whether the pixel at `(x, y)` has a label. Pixels outside the map have none.
    pub(super) fn has(&self, label: u8, (x, y): (isize, isize)) -> bool {
        let inside = x >= 0 && y >= 0 && (x as usize) < self.width && (y as usize) < self.height;
        inside && self.labels[y as usize * self.width + x as usize] == label
    }

    /// Whether the pixel at `(x, y)` belongs to a component. It must lie on the map and have the component's label.
    pub(super) fn holds(&self, component: u32, (x, y): (isize, isize)) -> bool {
        let runs = self.row(y as usize);
        let next = runs.partition_point(|run| run.start as isize <= x);
        next > 0 && runs[next - 1].component == component
    }
}

/// The root of a node's tree, which is its least node. The path to it is halved on the way.
fn root(forest: &mut [u32], mut node: u32) -> u32 {
    while forest[node as usize] != node {
        let grandparent = forest[forest[node as usize] as usize];
        forest[node as usize] = grandparent;
        node = grandparent;
    }
    node
}

/// Joins the trees of two nodes under the lesser root, and returns that root.
fn join(forest: &mut [u32], a: u32, b: u32) -> u32 {
    let (a, b) = (root(forest, a), root(forest, b));
    forest[a.max(b) as usize] = a.min(b);
    a.min(b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: u8 = 255;

    /// The component of every pixel, found by flood filling.
    fn filled(labels: &[u8], width: usize) -> Vec<Option<usize>> {
        let mut found: Vec<Option<usize>> = vec![None; labels.len()];
        let mut count = 0;
        for first in 0..labels.len() {
            if labels[first] == NONE || found[first].is_some() {
                continue;
            }
            let mut open = vec![first];
            while let Some(pixel) = open.pop() {
                if labels[pixel] != labels[first] || found[pixel].is_some() {
                    continue;
                }
                found[pixel] = Some(count);
                let (x, y) = (pixel % width, pixel / width);
                open.extend((x > 0).then(|| pixel - 1));
                open.extend((x + 1 < width).then(|| pixel + 1));
                open.extend((y > 0).then(|| pixel - width));
                open.extend((pixel + width < labels.len()).then(|| pixel + width));
            }
            count += 1;
        }
        found
    }

    proptest! {
        #[test]
        fn runs_have_the_components_that_filling_finds(
            width in 1usize..14,
            cells in proptest::collection::vec(prop_oneof![2 => Just(NONE), 2 => Just(0u8), 1 => Just(1u8)], 1..170),
        ) {
            let height = cells.len() / width;
            let labels = &cells[..width * height];
            let grid = Components::find(labels, (width, height), NONE);
            let mut found = vec![None; labels.len()];
            for y in 0..height {
                for run in grid.row(y) {
                    found[y * width + run.start as usize..y * width + run.end as usize].fill(Some(run.component as usize));
                }
            }
            prop_assert_eq!(found, filled(labels, width));
        }
    }
}
