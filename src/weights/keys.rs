//! Names of tensors: prefixes of wrappers, names of older torchvision generations, and tensors that no model reads.
//!
//! torchvision changed the names in three modules: blocks of `FeaturePyramidNetwork` became `Conv2dNormActivation`
//! (`inner_blocks.0.weight` -> `inner_blocks.0.0.weight`), the RPN head's `conv` became a stack of those, and the layers of
//! `MaskRCNNHeads` lost their `mask_fcnN` names.

use std::collections::BTreeMap;

use crate::zoo::FIRST_NEW_HEAD;

/// The prefixes that `DistributedDataParallel`, `torch.compile` and Lightning put before every name.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// Keys under which training scripts put the state dict that is to be used.
const NESTING_KEYS: [&str; 4] = ["state_dict", "model", "model_state_dict", "module"];

/// A name without what `torch.compile`, FSDP and activation checkpointing put before the names of inner modules.
pub(super) fn unwrapped(name: &str) -> String {
    name.replace("_fsdp_wrapped_module.", "").replace("_checkpoint_wrapped_module.", "").replace("._orig_mod.", ".")
}

/// Turns names of older torchvision generations into the newest, without wrappers of inner modules. If a file has a tensor under
/// both names, the one with the newest name is kept.
pub(super) fn newest_names<T>(tensors: BTreeMap<String, T>) -> BTreeMap<String, T> {
    let mut renamed = BTreeMap::new();
    for (name, tensor) in tensors.into_iter().map(|(name, tensor)| (unwrapped(&name), tensor)) {
        match newest_generation(&name) {
            Some(newer) => drop(renamed.entry(newer).or_insert(tensor)),
            None => drop(renamed.insert(name, tensor)),
        }
    }
    renamed
}

/// How names in a file become those of a model, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Naming {
    /// The start of the names of the model's tensors in the file, as a manifest states it: keys of nested dictionaries, each
    /// followed by `/`, and a prefix. All other tensors of the file are left out.
    pub(super) from: String,
    /// New beginnings of names, by the present ones. Of several that match a name, the longest counts.
    pub(super) rename: BTreeMap<String, String>,
    /// What names begin with after that and the model's do not, if it was found by what fits. All other tensors are left out.
    pub(super) strip: String,
    /// What the model has in its place, for a file that holds the backbone alone.
    pub(super) add: String,
}

impl Naming {
    /// The naming of a file whose model is not known: of nested dictionaries the one under the usual keys, else the
    /// largest, without the prefixes of wrappers that every name in it has.
    pub(super) fn usual<T>(tensors: &BTreeMap<String, T>) -> Self {
        let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
        for name in tensors.keys() {
            *sizes.entry(&name[..name.rfind('/').map_or(0, |at| at + 1)]).or_default() += 1;
        }
        let mut strip = String::new();
        while let Some(deeper) = NESTING_KEYS
            .iter()
            .map(|key| format!("{strip}{key}/"))
            .find(|deeper| sizes.keys().any(|dictionary| dictionary.starts_with(deeper)))
        {
            strip = deeper;
        }
        if !sizes.contains_key(strip.as_str()) {
            let inside = sizes.iter().filter(|(dictionary, _)| dictionary.starts_with(&strip));
            let largest = inside.max_by_key(|(_, size)| **size).map(|(dictionary, _)| (*dictionary).to_owned());
            strip = largest.unwrap_or_default();
        }
        let names: Vec<&str> = tensors.keys().filter_map(|name| name.strip_prefix(&strip)).collect();
        let names = names.into_iter().filter(|name| !name.contains('/')).collect::<Vec<_>>();
        let mut wrappers = String::new();
        while let Some(wrapper) = WRAPPERS.iter().find(|wrapper| {
            !names.is_empty()
                && names.iter().all(|name| name.strip_prefix(&wrappers).is_some_and(|rest| rest.starts_with(**wrapper)))
        }) {
            wrappers.push_str(wrapper);
        }
        Self { strip: strip + &wrappers, ..Self::default() }
    }

    /// A tensor's name after what a manifest states; `None` if the tensor is left out.
    pub(super) fn stated(&self, in_file: &str) -> Option<String> {
        let name = in_file.strip_prefix(&self.from)?;
        let longest = self.rename.iter().filter(|(old, _)| name.starts_with(*old)).max_by_key(|(old, _)| old.len());
        let Some((old, new)) = longest else { return Some(name.to_owned()) };
        let renamed = format!("{new}{}", &name[old.len()..]);
        Some(newest_generation(&renamed).unwrap_or(renamed))
    }

    /// The model's name of a tensor of the file; `None` if the tensor is left out.
    pub(super) fn name(&self, in_file: &str) -> Option<String> {
        let stated = self.stated(in_file)?;
        let rest = stated.strip_prefix(&self.strip)?;
        (!rest.contains('/')).then(|| format!("{}{rest}", self.add))
    }
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
        let tensors = newest_names(names.iter().map(|name| ((*name).to_owned(), ())).collect());
        let naming = Naming::usual(&tensors);
        tensors.into_keys().filter_map(|name| naming.name(&name)).collect()
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
    fn wrappers_of_inner_modules_are_removed_anywhere() {
        let names = ["_fsdp_wrapped_module.a._checkpoint_wrapped_module.b", "state_dict/a._orig_mod.c"];
        assert_eq!(names.map(unwrapped), ["a.b", "state_dict/a.c"]);
        assert_eq!(renamed(&["_fsdp_wrapped_module.a.b", "_fsdp_wrapped_module.c"]), ["a.b", "c"]);
    }

    #[test]
    fn of_nested_dictionaries_the_usual_one_is_taken_else_the_largest() {
        assert_eq!(renamed(&["state_dict/model.a.b", "optimizer/x", "state_dict/model.c"]), ["a.b", "c"]);
        assert_eq!(renamed(&["module/model/a", "module/model/b", "module/ema/a"]), ["a", "b"]);
        assert_eq!(renamed(&["ema/a", "net/a", "net/b"]), ["a", "b"]);
        assert_eq!(renamed(&["a", "b", "extra/c"]), ["a", "b"]);
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
