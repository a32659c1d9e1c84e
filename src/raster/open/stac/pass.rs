//! Which items are scenes of one pass: those of one day, platform and collection.

use super::item::Item;

/// What the scenes of a pass share.
struct SatellitePass {
    /// Like `2024-06-01`; `None` for the single scene of a pass whose time is unknown.
    day: Option<String>,
    platform: Option<String>,
    collection: Option<String>,
}

impl SatellitePass {
    fn of(item: &Item) -> Self {
        let day = item.datetime().and_then(|time| time.to_string().get(..10).map(str::to_owned));
        let said = |text: Option<&str>| text.map(|text| text.trim().to_ascii_lowercase()).filter(|text| !text.is_empty());
        Self { day, platform: said(item.platform()), collection: said(item.collection.as_deref()) }
    }

    /// True if nothing that both know differs. A scene of unknown time has a pass of its own.
    fn agrees_with(&self, other: &Self) -> bool {
        let agree = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
        self.day.is_some()
            && self.day == other.day
            && agree(&self.platform, &other.platform)
            && agree(&self.collection, &other.collection)
    }
}

/// The items of each pass by their positions, in order. An item that does not say its platform or collection in a readable way
/// belongs to the first pass of its day that it does not contradict.
pub(super) fn passes_of<'a>(items: impl Iterator<Item = &'a Item>) -> Vec<Vec<usize>> {
    let mut passes: Vec<(SatellitePass, Vec<usize>)> = Vec::new();
    for (index, item) in items.enumerate() {
        let own = SatellitePass::of(item);
        match passes.iter_mut().find(|(pass, _)| pass.agrees_with(&own)) {
            Some((pass, indices)) => {
                pass.platform = pass.platform.take().or(own.platform);
                pass.collection = pass.collection.take().or(own.collection);
                indices.push(index);
            }
            None => passes.push((own, vec![index])),
        }
    }
    passes.into_iter().map(|(_, indices)| indices).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The passes of items with these days, platforms and collections.
    fn passes(items: &[(&str, Value, Value)]) -> Vec<Vec<usize>> {
        let item = |(day, platform, collection): &(&str, Value, Value)| {
            let properties = json!({"datetime": format!("{day}T10:00:00Z"), "platform": platform});
            serde_json::from_value(json!({"id": "a", "collection": collection, "properties": properties})).expect("an item")
        };
        let items: Vec<Item> = items.iter().map(item).collect();
        passes_of(items.iter())
    }

    #[test]
    fn scenes_of_one_day_platform_and_collection_are_one_pass() {
        let (a, b, c) = (json!("sentinel-2a"), json!("sentinel-2b"), json!("l1c"));
        let day = "2024-06-01";
        let same = [(day, a.clone(), c.clone()), (day, json!(" Sentinel-2A"), c.clone())];
        assert_eq!(passes(&same), [vec![0, 1]]);
        let others = [(day, a.clone(), c.clone()), (day, b.clone(), c.clone()), ("2024-06-02", a.clone(), c.clone())];
        assert_eq!(passes(&others), [[0], [1], [2]]);
        assert_eq!(passes(&[(day, a.clone(), c), (day, a.clone(), json!("l2a"))]), [[0], [1]]);
        assert_eq!(passes(&[("some", a.clone(), json!(null)), ("some", a, json!(null))]), [[0], [1]], "no time");
    }

    #[test]
    fn what_is_not_said_separates_nothing() {
        let (a, b, day) = (json!("sentinel-2a"), json!("sentinel-2b"), "2024-06-01");
        for odd in [json!(3), json!(null), json!(""), json!({"name": "a"}), json!(["sentinel-2a", 7])] {
            for unknown in [(day, odd.clone(), json!("l1c")), (day, a.clone(), odd.clone()), (day, odd.clone(), odd)] {
                let known = |platform: &Value| (day, platform.clone(), json!("l1c"));
                assert_eq!(passes(&[known(&a), unknown.clone(), known(&b)]), [vec![0, 1], vec![2]], "{unknown:?}");
                assert_eq!(passes(&[unknown.clone(), known(&a), known(&b)]), [vec![0, 1], vec![2]], "{unknown:?}");
            }
        }
    }
}
