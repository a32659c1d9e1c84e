//! Which pixels of masks a fit learns from: as many of each kind as there are, up to a fair share, spread over all masks.

/// A pixel of a mask that was chosen: its position in row-major order, and its kind.
pub(super) type ChosenPixel = (usize, usize);

/// How many pixels of each kind to take from each mask, at most `most` in all, where `there` are so many: `[masks][kinds]`.
///
/// Rare kinds are taken whole before frequent ones get more, and of each kind small masks are before large ones get more.
pub(super) fn shares(there: &[Vec<u64>], most: u64) -> Vec<Vec<u64>> {
    let kinds = there.first().map_or(0, Vec::len);
    let of_kind = |kind: usize| there.iter().map(|counts| counts[kind]).collect::<Vec<u64>>();
    let totals: Vec<u64> = (0..kinds).map(|kind| of_kind(kind).iter().sum()).collect();
    let quotas = fair(&totals, most);
    let mut taken = vec![vec![0; kinds]; there.len()];
    for (kind, quota) in quotas.into_iter().enumerate() {
        for (taken, share) in taken.iter_mut().zip(fair(&of_kind(kind), quota)) {
            taken[kind] = share;
        }
    }
    taken
}

/// Divides `most` among claims so that nobody gets more than the claim, and nobody less than another unless the claim is smaller. Of what
/// cannot be divided, one each goes to the first.
fn fair(claims: &[u64], most: u64) -> Vec<u64> {
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by_key(|index| claims[*index]);
    let mut level = 0;
    let (mut left, mut rest) = (most, 0);
    for (done, index) in order.iter().enumerate() {
        let waiting = (claims.len() - done) as u64;
        let share = left / waiting;
        if claims[*index] > share {
            (level, rest) = (share, left % waiting);
            break;
        }
        left -= claims[*index];
        level = claims[*index];
    }
    let mut shares = Vec::with_capacity(claims.len());
    for claim in claims {
        let more = u64::from(*claim > level && rest > 0);
        rest -= more;
        shares.push((*claim).min(level + more));
    }
    shares
}

/// Chooses `shares` pixels of each kind of one mask, whose pixels are of the `kinds` (`None`: nothing is known of the pixel), in row-major
/// order. They lie anywhere; the same `mask` number gives the same ones.
pub(super) fn choose(kinds: &[Option<usize>], shares: &[u64], mask: usize) -> Vec<ChosenPixel> {
    let mut of_kind: Vec<Vec<(u64, usize)>> = vec![Vec::new(); shares.len()];
    for (pixel, kind) in kinds.iter().enumerate() {
        if let Some(of_kind) = kind.and_then(|kind| of_kind.get_mut(kind)) {
            of_kind.push((scattered(mask as u64, pixel as u64), pixel));
        }
    }
    let mut chosen = Vec::new();
    for (kind, (mut pixels, share)) in of_kind.into_iter().zip(shares).enumerate() {
        let share = usize::try_from(*share).unwrap_or(usize::MAX).min(pixels.len());
        if (1..pixels.len()).contains(&share) {
            pixels.select_nth_unstable(share);
        }
        chosen.extend(pixels.into_iter().take(share).map(|(_, pixel)| (pixel, kind)));
    }
    chosen.sort_unstable();
    chosen
}

/// A number that says nothing of what it was made of: the last steps of splitmix64 (Steele, Lea, Flood 2014).
fn scattered(mask: u64, pixel: u64) -> u64 {
    let mixed = ((mask << 32) | pixel).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_claims_are_met_and_large_ones_share_the_rest() {
        assert_eq!(fair(&[5, 100, 1, 100], 50), [5, 22, 1, 22]);
        assert_eq!(fair(&[9, 9, 9], 10), [4, 3, 3]);
        assert_eq!(fair(&[2, 3], 100), [2, 3]);
        assert_eq!(fair(&[2, 0, 3], 0), [0, 0, 0]);
        assert_eq!(fair(&[], 5), [0u64; 0]);
        for most in 0..40 {
            let claims = [7, 0, 3, 12, 12, 1];
            let shares = fair(&claims, most);
            assert_eq!(shares.iter().sum::<u64>(), most.min(claims.iter().sum()), "{most}");
            assert!(shares.iter().zip(claims).all(|(share, claim)| *share <= claim));
        }
    }

    #[test]
    fn a_rare_kind_is_taken_whole_from_every_mask() {
        let there = [vec![1000, 3], vec![1000, 0], vec![10, 2]];
        let taken = shares(&there, 105);
        assert_eq!(taken, [vec![45, 3], vec![45, 0], vec![10, 2]]);
    }

    #[test]
    fn chosen_pixels_are_of_their_kind_and_lie_in_every_part() {
        let kinds: Vec<Option<usize>> =
            (0..10_000).map(|pixel| if pixel % 7 == 0 { None } else { Some(usize::from(pixel % 10 == 1)) }).collect();
        let chosen = choose(&kinds, &[400, 5], 3);
        assert_eq!(chosen, choose(&kinds, &[400, 5], 3));
        assert_ne!(chosen, choose(&kinds, &[400, 5], 4));
        assert_eq!(chosen.iter().filter(|(_, kind)| *kind == 1).count(), 5);
        assert_eq!(chosen.len(), 405);
        assert!(chosen.iter().all(|(pixel, kind)| kinds[*pixel] == Some(*kind)));
        for part in 0..10 {
            let inside = chosen.iter().filter(|(pixel, _)| pixel / 1000 == part).count();
            assert!((20..=62).contains(&inside), "{part}: {inside}");
        }
        assert_eq!(choose(&kinds, &[0, 10_000], 0).len(), kinds.iter().filter(|kind| **kind == Some(1)).count());
    }
}
