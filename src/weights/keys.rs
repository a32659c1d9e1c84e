//! Names of tensors: prefixes of wrappers, names of older torchvision generations, and tensors that no model reads.
//!
//! torchvision changed the names in three modules: blocks of `FeaturePyramidNetwork` became `Conv2dNormActivation`
//! (`inner_blocks.0.weight` -> `inner_blocks.0.0.weight`), the RPN head's `conv` became a stack of those, and the layers of
//! `MaskRCNNHeads` lost their `mask_fcnN` names.

use std::collections::BTreeMap;

use crate::zoo::FIRST_NEW_HEAD;

/// The prefixes that `DistributedDataParallel`, `torch.compile` and Lightning put before every name.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// Removes the prefixes of wrappers that every name has, and turns names of older generations into the newest. If a file
/// has a tensor under both names, the one with the newest name is kept.
pub(super) fn canonical<T>(tensors: BTreeMap<String, T>) -> BTreeMap<String, T> {
    let prefix = common_wrappers(&tensors);
    let mut renamed = BTreeMap::new();
    for (name, tensor) in tensors {
        let bare = &name[prefix.len()..];
        match newest_generation(bare) {
            Some(newer) => drop(renamed.entry(newer).or_insert(tensor)),
            None => drop(renamed.insert(bare.to_owned(), tensor)),
        }
    }
    renamed
}

/// The prefix of wrappers that every name has.
pub(super) fn common_wrappers<T>(tensors: &BTreeMap<String, T>) -> String {
    let mut prefix = String::new();
    while let Some(wrapper) = WRAPPERS.iter().find(|wrapper| {
        !tensors.is_empty()
            && tensors.keys().all(|name| name.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with(**wrapper)))
    }) {
        prefix.push_str(wrapper);
    }
    prefix
}

/// The newest name of a tensor; `None` if it has that name already.
fn newest_generation(name: &str) -> Option<String> {
    let (stem, leaf) = name.rsplit_once('.')?;
    let (parent, module) = stem.rsplit_once('.')?;
    let is_number = !module.is_empty() && module.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && (parent.ends_with("inner_blocks") || parent.ends_with("layer_blocks")) {
        return Some(format!("{stem}.0.{leaf}"));
    }
    if stem.ends_with("rpn.head.conv") {
        return Some(format!("{stem}.0.0.{leaf}"));
    }
    let layer: usize = module.strip_prefix("mask_fcn")?.parse().ok()?;
    parent.ends_with("mask_head").then_some(format!("{parent}.{}.0.{leaf}", layer.checked_sub(1)?))
}

/// Whether a tensor belongs to a head that a manifest has added to a checkpoint.
pub(super) fn is_new_head(name: &str) -> bool {
    let index = name.strip_prefix("heads.").and_then(|rest| rest.split_once('.')).map(|(index, _)| index.parse::<usize>());
    matches!(index, Some(Ok(FIRST_NEW_HEAD..)))
}

/// Whether no network reads the tensor: index tables, which are computed, counters, and the classifier with its norm that
/// torchvision's backbones have.
pub(super) fn is_ignored(name: &str) -> bool {
    const BUFFERS: [&str; 3] = ["relative_position_index", "relative_coords_table", "num_batches_tracked"];
    const CLASSIFIER: [&str; 3] = ["norm", "head", "fc"];
    if BUFFERS.iter().any(|buffer| name.ends_with(buffer)) {
        return true;
    }
    let Some(mut rest) = name.strip_prefix("backbone.") else { return false };
    while let Some(inner) = rest.strip_prefix("backbone.").or_else(|| rest.strip_prefix("resnet.")) {
        rest = inner;
    }
    rest.split_once('.').is_some_and(|(module, leaf)| CLASSIFIER.contains(&module) && !leaf.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(names: &[&str]) -> Vec<String> {
        canonical(names.iter().map(|name| ((*name).to_owned(), ())).collect()).into_keys().collect()
    }

    #[test]
    fn names_of_older_torchvision_become_the_newest() {
        assert_eq!(renamed(&["fpn.inner_blocks.0.weight"]), ["fpn.inner_blocks.0.0.weight"]);
        assert_eq!(renamed(&["heads.3.rpn.head.conv.bias"]), ["heads.3.rpn.head.conv.0.0.bias"]);
        assert_eq!(renamed(&["head.roi_heads.mask_head.mask_fcn2.bias"]), ["head.roi_heads.mask_head.1.0.bias"]);
    }

    #[test]
    fn names_of_the_newest_torchvision_stay() {
        for name in ["fpn.layer_blocks.2.0.bias", "rpn.head.conv.0.0.weight", "mask_head.1.0.bias", "heads.0.layers.1.bias"]
        {
            assert_eq!(renamed(&[name]), [name]);
        }
    }

    #[test]
    fn a_wrapper_is_removed_only_where_every_name_carries_it() {
        assert_eq!(renamed(&["module._orig_mod.a.b", "module._orig_mod.c"]), ["a.b", "c"]);
        assert_eq!(renamed(&["module.a", "b"]), ["b", "module.a"]);
    }

    #[test]
    fn the_classifier_of_a_backbone_is_ignored_and_heads_are_not() {
        for name in
            ["backbone.backbone.norm.bias", "backbone.backbone.resnet.fc.weight", "backbone.backbone.backbone.head.bias"]
        {
            assert!(is_ignored(name), "{name}");
        }
        for name in ["head.layers.0.0.bias", "heads.0.extra.bias", "backbone.backbone.features.1.0.norm1.bias"] {
            assert!(!is_ignored(name), "{name}");
        }
    }
}
