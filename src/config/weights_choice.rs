//! `auto`, `offline` or `synthetic:SEED`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::weights::WeightsMode;

/// Where weights come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WeightsChoice(pub WeightsMode);

impl FromStr for WeightsChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self(WeightsMode::Auto)),
            "offline" => Ok(Self(WeightsMode::Offline)),
            _ => text
                .strip_prefix("synthetic:")
                .and_then(|seed| seed.parse().ok())
                .map(|seed| Self(WeightsMode::Synthetic { seed }))
                .ok_or_else(|| format!("found {text:?}; auto, offline or synthetic:SEED (a whole number) is needed")),
        }
    }
}

impl fmt::Display for WeightsChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            WeightsMode::Auto => f.write_str("auto"),
            WeightsMode::Offline => f.write_str("offline"),
            WeightsMode::Synthetic { seed } => write!(f, "synthetic:{seed}"),
        }
    }
}

as_text!(WeightsChoice);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_printed_as_it_is_read() {
        for text in ["auto", "offline", "synthetic:7"] {
            assert_eq!(text.parse::<WeightsChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_wrong_choice_is_told_what_there_is() {
        for text in ["", "online", "synthetic", "synthetic:x", "synthetic:-1"] {
            assert!(text.parse::<WeightsChoice>().unwrap_err().contains("synthetic:SEED"), "{text}");
        }
    }
}
