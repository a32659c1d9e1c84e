//! How the tensors of a file compare with those that a model needs.

use std::fmt;

use serde::Serialize;

/// A tensor that does not have the shape the model needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Misshapen {
    /// The tensor's name.
    pub name: String,
    /// Its shape in the file.
    pub found: Vec<usize>,
    /// The shape the model needs.
    pub needed: Vec<usize>,
}

/// How the tensors of a file compare with those that a model needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// The model's head variant that the file was compared with.
    pub variant: usize,
    /// How many tensors have the right name and shape.
    pub matched: usize,
    /// Tensors that the model needs and the file lacks.
    pub missing: Vec<String>,
    /// Tensors that have another shape than the model needs.
    pub misshapen: Vec<Misshapen>,
    /// Tensors that the model does not read.
    pub unused: Vec<String>,
}

impl Fit {
    /// Whether the model can be loaded from the file. Unused tensors do not prevent that.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty()
    }

    /// How many tensors are missing or have another shape.
    pub(super) fn faults(&self) -> usize {
        self.missing.len() + self.misshapen.len()
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// How many names of each kind are listed; a file of another model lacks hundreds.
        const LISTED: usize = 20;
        let list = |names: Vec<String>| {
            let more = names.len().saturating_sub(LISTED);
            let listed = names.into_iter().take(LISTED).collect::<Vec<_>>().join(", ");
            if more == 0 { listed } else { format!("{listed} and {more} more") }
        };
        let misshapen = |fault: &Misshapen| format!("{} is {:?}, needed {:?}", fault.name, fault.found, fault.needed);
        write!(f, "{} tensors fit", self.matched)?;
        if !self.missing.is_empty() {
            write!(f, "; {} missing: {}", self.missing.len(), list(self.missing.clone()))?;
        }
        if !self.misshapen.is_empty() {
            write!(f, "; {} misshapen: {}", self.misshapen.len(), list(self.misshapen.iter().map(misshapen).collect()))?;
        }
        if !self.unused.is_empty() {
            write!(f, "; {} unused: {}", self.unused.len(), list(self.unused.clone()))?;
        }
        Ok(())
    }
}
