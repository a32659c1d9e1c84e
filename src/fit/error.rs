//! Why nothing was fitted.

/// Why nothing was fitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// Whoever wanted it has gone.
    #[error("the fit was stopped")]
    Stopped,
    /// A feature is not a number; a network whose weights overflow gives such.
    #[error("the features of label {label} hold a value that is not a finite number")]
    NotFinite {
        /// The label's position, from 0.
        label: usize,
    },
}
