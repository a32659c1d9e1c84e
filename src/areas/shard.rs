//! Shares of a plan's blocks, for schedulers that start a program several times.

use std::str::FromStr;

use crate::error::InvalidValue;

/// The blocks of one of several runs; written `1/4` for the first of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Counted from 0.
    index: usize,
    count: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl FromStr for Shard {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let numbers = text.split_once('/').and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        let shard = numbers.filter(|(number, count): &(usize, usize)| (1..=*count).contains(number));
        let needed = "a share such as 1/4, the first of four,";
        shard
            .map(|(number, count)| Self { index: number - 1, count })
            .ok_or_else(|| InvalidValue::new("shard", text, needed))
    }
}

/// Variables by which schedulers say which of several runs this is, counted from 0, and those that say how many there are.
const ARRAYS: [(&str, &str); 3] = [
    // Kubernetes has no variable for the number of completions: the manifest sets this one.
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    // Nor has AWS Batch.
    ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"),
];

impl Shard {
    /// The shard that a scheduler's variables name; `None` without a scheduler.
    ///
    /// # Errors
    /// If a number is missing or out of range.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, InvalidValue> {
        for (index, count) in ARRAYS {
            let Some(found) = variable(index) else { continue };
            let number = |text: &str| text.trim().parse::<usize>().ok();
            // Arrays of Slurm may begin at 1.
            let first =
                variable("SLURM_ARRAY_TASK_MIN").filter(|_| index.starts_with("SLURM")).and_then(|text| number(&text));
            let size = variable(count).and_then(|text| number(&text));
            let at = number(&found).and_then(|at| at.checked_sub(first.unwrap_or(0)));
            let shard = at.zip(size).filter(|(at, size)| at < size).map(|(index, count)| Self { index, count });
            let needed = format!("a number below that in {count}");
            return shard.map(Some).ok_or_else(|| InvalidValue::new(index, &found, needed));
        }
        Ok(None)
    }

    /// True if the block with this number is one of the share.
    pub(super) fn has(self, number: usize) -> bool {
        number % self.count == self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_in_one_share() {
        let shards: Vec<Shard> = ["1/3", "2/3", "3/3"].iter().map(|text| text.parse().unwrap()).collect();
        for number in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.has(number)).count(), 1);
        }
        for text in ["", "0/3", "4/3", "1", "a/b", "1/0"] {
            assert!(text.parse::<Shard>().unwrap_err().to_string().contains("1/4"), "{text}");
        }
    }

    #[test]
    fn schedulers_are_understood() {
        let found = |pairs: &[(&str, &str)]| {
            let of = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            Shard::of_environment(of)
        };
        let shard = |index, count| Some(Shard { index, count });
        assert_eq!(found(&[]).unwrap(), None);
        assert_eq!(found(&[("JOB_COMPLETION_INDEX", "2"), ("JOB_COMPLETIONS", "4")]).unwrap(), shard(2, 4));
        let slurm = [("SLURM_ARRAY_TASK_ID", "4"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_COUNT", "4")];
        assert_eq!(found(&slurm).unwrap(), shard(3, 4));
        assert!(found(&[("AWS_BATCH_JOB_ARRAY_INDEX", "2")]).unwrap_err().to_string().contains("AWS_BATCH_JOB_ARRAY_SIZE"));
    }
}
