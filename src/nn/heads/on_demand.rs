//! A head that is prepared at its first use: a model has up to 19 heads, and most servers use one or two.

use std::sync::{Arc, Mutex};

use super::{MapSpec, PreparedHead, inputs};
use crate::nn::LoadError;
use crate::nn::loader::Loader;
use crate::sync::IgnorePoison;
use crate::zoo::{Head, Layer};

#[derive(Debug)]
pub(in crate::nn) struct HeadOnDemand {
    head: Head,
    /// Prefix of its tensors.
    prefix: String,
    inputs: Vec<MapSpec>,
    prepared: Mutex<Option<Arc<PreparedHead>>>,
}

impl HeadOnDemand {
    /// Checks the head's description against the `maps`; reads no tensors. The caller has compared the tensors' shapes.
    pub(in crate::nn) fn new(root: &Loader<'_>, prefix: String, head: &Head, maps: &[MapSpec]) -> Result<Self, LoadError> {
        Ok(Self { head: head.clone(), prefix, inputs: inputs(root, head, maps)?, prepared: Mutex::default() })
    }

    pub(in crate::nn) fn head(&self) -> &Head {
        &self.head
    }

    /// Whether a tensor belongs to this head.
    pub(in crate::nn) fn owns(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The maps that the head reads, in order.
    pub(in crate::nn) fn layers(&self) -> impl ExactSizeIterator<Item = Layer> {
        self.inputs.iter().map(|input| input.layer)
    }

    /// The head, ready to run. The first caller prepares it, and others that ask meanwhile wait.
    ///
    /// # Errors
    /// If the file has changed since it was checked or the device is out of memory; the next caller tries again.
    pub(in crate::nn) fn prepare(&self, root: &Loader<'_>) -> Result<Arc<PreparedHead>, LoadError> {
        // A panic while preparing leaves nothing behind.
        let mut prepared = self.prepared.lock().ignore_poison();
        if let Some(network) = &*prepared {
            return Ok(network.clone());
        }
        let network = Arc::new(PreparedHead::load(&root.pp(&self.prefix), &self.head, &self.inputs)?);
        *prepared = Some(network.clone());
        Ok(network)
    }
}
