//! Spatially blocked folds: labels near each other look alike, so they are held out together or not at all.

/// The fold of each label.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Folds {
    pub(super) of: Vec<usize>,
    pub(super) count: usize,
    /// Labels of different folds are at least that many pixels apart.
    pub(super) apart_px: f64,
}

/// Usual number of folds.
const MOST_FOLDS: usize = 5;
/// The distance that is tried first, in pixels: two cells of the coarsest feature map.
const FIRST_APART_PX: f64 = 64.0;

impl Folds {
    /// Divides labels at `places` (in pixels); each belongs to some of `group_count` groups, of which every fold should have a share.
    /// Where labels lie so close that a group would be one block, blocks of half the distance are tried, down to a pixel. `None` if a
    /// group has no two blocks even then.
    pub(super) fn of(places: &[[f64; 2]], groups: &[Vec<usize>], group_count: usize) -> Option<Self> {
        let mut apart_px = FIRST_APART_PX;
        while apart_px >= 1.0 {
            let blocks = blocks(places, apart_px);
            let fewest = least_blocks(&blocks, groups, group_count);
            if fewest >= 2 {
                let count = fewest.min(MOST_FOLDS);
                return Some(Self { of: deal(&blocks, groups, group_count, count), count, apart_px });
            }
            apart_px /= 2.0;
        }
        None
    }

    /// The labels of `parts` folds after `fold`, and those of `fold` itself.
    pub(super) fn split(&self, fold: usize, parts: usize) -> (Vec<usize>, Vec<usize>) {
        let behind = |label: &usize| (self.of[*label] + self.count - fold) % self.count;
        let labels = 0..self.of.len();
        let seen = labels.clone().filter(|label| (1..=parts).contains(&behind(label))).collect();
        (seen, labels.filter(|label| behind(label) == 0).collect())
    }

    /// The learning curve: `point` of fits to one, two … of the other folds, and last `whole`, of fits to all of them. Both are given
    /// the number of labels that these fits have seen on average.
    pub(super) fn learning_curve<P, E>(
        &self,
        point: impl Fn(usize, usize) -> Result<P, E>,
        whole: impl FnOnce(usize) -> P,
    ) -> Result<Vec<P>, E> {
        let seen = |parts: usize| self.of.len() * parts / self.count.max(1);
        let mut curve = (1..self.count - 1).map(|parts| point(parts, seen(parts))).collect::<Result<Vec<P>, E>>()?;
        curve.push(whole(seen(self.count - 1)));
        Ok(curve)
    }
}

/// The block of each label, numbered by first appearance: chains of labels with less than `apart_px` between neighbours.
fn blocks(places: &[[f64; 2]], apart_px: f64) -> Vec<usize> {
    let mut parent: Vec<usize> = (0..places.len()).collect();
    let mut by_place: Vec<usize> = (0..places.len()).collect();
    let order = |a: &[f64; 2], b: &[f64; 2]| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1]));
    by_place.sort_by(|a, b| order(&places[*a], &places[*b]).then(a.cmp(b)));
    // Of labels in one place, such as the pixels of a chip, which may be thousands, only the first is compared with others.
    by_place.dedup_by(|label, first| {
        let is_same = places[*label] == places[*first];
        if is_same {
            parent[*label] = *first;
        }
        is_same
    });
    for (at, &label) in by_place.iter().enumerate() {
        let [x, y] = places[label];
        for &other in by_place[at + 1..].iter().take_while(|other| places[**other][0] - x < apart_px) {
            let [other_x, other_y] = places[other];
            if (other_x - x).hypot(other_y - y) < apart_px {
                let (a, b) = (root(&mut parent, label), root(&mut parent, other));
                parent[a.max(b)] = a.min(b);
            }
        }
    }
    // The root of a block is its first label.
    let mut numbers = vec![usize::MAX; places.len()];
    let mut count = 0;
    (0..places.len())
        .map(|label| {
            let first = root(&mut parent, label);
            if first == label {
                numbers[label] = count;
                count += 1;
            }
            numbers[first]
        })
        .collect()
}

/// The label that stands for a label's block: its parent's parent's … until one is its own.
fn root(parent: &mut [usize], mut label: usize) -> usize {
    while parent[label] != label {
        parent[label] = parent[parent[label]];
        label = parent[label];
    }
    label
}

/// How many blocks the group has that is in the fewest.
fn least_blocks(blocks: &[usize], groups: &[Vec<usize>], group_count: usize) -> usize {
    let with_block =
        |(groups, block): (&Vec<usize>, &usize)| groups.iter().map(|group| (*group, *block)).collect::<Vec<_>>();
    let mut pairs: Vec<(usize, usize)> = groups.iter().zip(blocks).flat_map(with_block).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let mut counts = vec![0; group_count];
    pairs.iter().for_each(|(group, _)| counts[*group] += 1);
    counts.into_iter().min().unwrap_or(0)
}

/// Deals the blocks to folds, the largest first, each to the fold that has least of its groups.
fn deal(blocks: &[usize], groups: &[Vec<usize>], group_count: usize, folds: usize) -> Vec<usize> {
    let block_count = blocks.iter().max().map_or(0, |last| last + 1);
    let mut of_group = vec![0.0f64; group_count];
    let mut in_block = vec![vec![0.0; group_count]; block_count];
    for (block, groups) in blocks.iter().zip(groups) {
        for group in groups {
            in_block[*block][*group] += 1.0;
            of_group[*group] += 1.0;
        }
    }
    let size = |block: &usize| in_block[*block].iter().sum::<f64>();
    let mut order: Vec<usize> = (0..block_count).collect();
    order.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
    let mut dealt = vec![vec![0.0; group_count]; folds];
    let mut fold_of = vec![0; block_count];
    for block in order {
        let shared = |fold: &[f64]| -> f64 {
            let parts = fold.iter().zip(&in_block[block]).zip(&of_group);
            parts.map(|((there, here), all)| there * here / (all * all).max(1.0)).sum()
        };
        let all = |fold: &[f64]| fold.iter().sum::<f64>();
        let best = (0..folds).min_by(|a, b| {
            let (a, b) = (&dealt[*a], &dealt[*b]);
            shared(a).total_cmp(&shared(b)).then(all(a).total_cmp(&all(b)))
        });
        let best = best.unwrap_or(0);
        dealt[best].iter_mut().zip(&in_block[block]).for_each(|(sum, here)| *sum += here);
        fold_of[block] = best;
    }
    blocks.iter().map(|block| fold_of[*block]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clusters of labels far from each other, of both classes in turn.
    fn clusters(count: usize, each: usize) -> (Vec<[f64; 2]>, Vec<usize>) {
        let place = |i: usize| [(i / each * 1000) as f64 + (i % each * 3) as f64, (i / each % 3 * 500) as f64];
        ((0..count * each).map(place).collect(), (0..count * each).map(|i| i / each % 2).collect())
    }

    fn alone(classes: &[usize]) -> Vec<Vec<usize>> {
        classes.iter().map(|class| vec![*class]).collect()
    }

    #[test]
    fn neighbours_are_never_on_both_sides() {
        let (places, classes) = clusters(12, 5);
        let folds = Folds::of(&places, &alone(&classes), 2).unwrap();
        assert_eq!((folds.count, folds.apart_px), (5, FIRST_APART_PX));
        for (i, a) in places.iter().enumerate() {
            for (j, b) in places.iter().enumerate() {
                let is_near = (a[0] - b[0]).hypot(a[1] - b[1]) < folds.apart_px;
                assert!(!is_near || folds.of[i] == folds.of[j]);
            }
        }
        for fold in 0..5 {
            for class in 0..2 {
                let held = folds.of.iter().zip(&classes).filter(|(of, found)| (**of, **found) == (fold, class)).count();
                assert!((5..=10).contains(&held), "fold {fold} has {held} of class {class}");
            }
        }
    }

    #[test]
    fn a_dense_grid_is_divided_by_a_smaller_distance() {
        let places: Vec<[f64; 2]> = (0..100).map(|i| [f64::from(i % 10) * 20.0, f64::from(i / 10) * 20.0]).collect();
        let classes: Vec<usize> = (0..100).map(|i| i % 2).collect();
        assert_eq!(Folds::of(&places, &alone(&classes), 2).unwrap().apart_px, 16.0);
    }

    #[test]
    fn labels_in_one_place_are_one_block() {
        let places: Vec<[f64; 2]> = (0..40_000).map(|i| [f64::from(i * 7 % 4) * 1e6, 0.0]).collect();
        let classes: Vec<usize> = (0..places.len()).map(|i| i % 3).collect();
        let folds = Folds::of(&places, &alone(&classes), 3).unwrap();
        assert_eq!((folds.count, folds.apart_px), (4, FIRST_APART_PX));
        assert!(places.iter().zip(&folds.of).all(|(place, fold)| *fold == folds.of[(place[0] / 1e6) as usize * 3 % 4]));
    }

    #[test]
    fn one_label_of_a_class_cannot_be_held_out() {
        assert_eq!(Folds::of(&[[0.0, 0.0], [900.0, 0.0], [500.0, 0.0]], &alone(&[0, 0, 1]), 2), None);
        assert_eq!(Folds::of(&[], &[], 0), None);
    }

    #[test]
    fn a_split_holds_one_fold_and_sees_some_of_the_others() {
        let folds = Folds { of: vec![0, 1, 2, 0, 1, 2, 2], count: 3, apart_px: 64.0 };
        assert_eq!(folds.split(1, 2), (vec![0, 2, 3, 5, 6], vec![1, 4]));
        assert_eq!(folds.split(1, 1), (vec![2, 5, 6], vec![1, 4]));
        let curve = folds.learning_curve(|parts, seen| Ok::<_, ()>((parts, seen)), |seen| (0, seen));
        assert_eq!(curve, Ok(vec![(1, 2), (0, 4)]));
    }
}
