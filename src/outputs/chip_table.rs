//! The answers for many chips as one table, a row for each chip in order, written piece by piece: an array of numpy, lines of JSON,
//! or a Parquet file.

use std::sync::Arc;

use npyz::{WriteOptions, WriterBuilder};
use serde::Serialize;

use super::error::OutputError;
use super::json::{ByCategory, best_score};
use super::outline::outline;
use super::parquet_table::{Column, ColumnKind, ParquetTable};
use super::table_format::TableFormat;
use crate::prediction::{Output, Prediction};
use crate::zoo::{Task, TaskType};

/// Values that a row group of a Parquet file has at least: 4 MiB.
const GROUP_VALUES: usize = 1 << 20;

/// What the rows are about.
#[derive(Clone, Debug)]
pub struct ChipTableOptions {
    /// The format.
    pub format: TableFormat,
    /// The task, a classification or `embedding`.
    pub task: Arc<Task>,
    /// How many chips there are.
    pub chips: usize,
    /// The chips' names, if they have some.
    pub names: Option<Vec<String>>,
    /// Whether any chip lies somewhere on the Earth.
    pub have_places: bool,
}

/// A table that is being written.
pub struct ChipTable {
    options: ChipTableOptions,
    /// Rows so far.
    rows: usize,
    /// Values of a row; 0 before the first chip that has values.
    width: usize,
    /// Answers that are not written yet: those before the first that has values, or a row group.
    waiting: Vec<Prediction>,
    parquet: Option<ParquetTable>,
}

/// A line of JSON about an embedding.
#[derive(Serialize)]
struct VectorLine<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    values: Option<&'a [f32]>,
}

/// A line of JSON about a classification.
#[derive(Serialize)]
struct ScoresLine<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    category: Option<&'a str>,
    score: Option<f32>,
    scores: Option<ByCategory<'a>>,
}

impl ChipTable {
    /// A table without rows.
    ///
    /// # Errors
    /// If a Parquet file cannot be begun.
    pub fn new(options: ChipTableOptions) -> Result<Self, OutputError> {
        let mut table = Self { options, rows: 0, width: 0, waiting: Vec::new(), parquet: None };
        if table.options.format == TableFormat::Parquet {
            table.parquet = Some(ParquetTable::new(&table.columns())?);
        }
        Ok(table)
    }

    /// Adds the answers for the next chips; returns what can be sent now.
    ///
    /// # Errors
    /// If an answer is none of the task, or an encoder fails.
    pub fn add(&mut self, answers: Vec<Prediction>) -> Result<Vec<u8>, OutputError> {
        self.waiting.extend(answers);
        let is_full = match self.options.format {
            TableFormat::Jsonl => true,
            TableFormat::Npy => self.width > 0 || self.waiting.iter().any(|answer| row(answer).is_some()),
            TableFormat::Parquet => self.waiting.iter().filter_map(row).map(<[f32]>::len).sum::<usize>() >= GROUP_VALUES,
        };
        if is_full { self.write() } else { Ok(Vec::new()) }
    }

    /// Ends the table; returns the rest.
    ///
    /// # Errors
    /// As [`ChipTable::add`].
    pub fn finish(mut self) -> Result<Vec<u8>, OutputError> {
        let mut bytes = if self.waiting.is_empty() { Vec::new() } else { self.write()? };
        if let Some(parquet) = self.parquet {
            bytes.extend(parquet.finish()?);
        }
        Ok(bytes)
    }

    fn write(&mut self) -> Result<Vec<u8>, OutputError> {
        let answers = std::mem::take(&mut self.waiting);
        let first = self.rows;
        self.rows += answers.len();
        match self.options.format {
            TableFormat::Npy => self.array_rows(&answers),
            TableFormat::Jsonl => self.lines(first, &answers),
            TableFormat::Parquet => {
                let columns = self.group(first, &answers);
                let Some(parquet) = &mut self.parquet else { return Ok(Vec::new()) };
                parquet.add(&columns)?;
                Ok(parquet.take())
            }
        }
    }

    /// Rows of the array, after its header if they are the first.
    fn array_rows(&mut self, answers: &[Prediction]) -> Result<Vec<u8>, OutputError> {
        let mut bytes = Vec::new();
        if self.width == 0 {
            self.width = answers.iter().find_map(row).map_or(0, <[f32]>::len);
            let shape = [self.options.chips as u64, self.width as u64];
            // Only the header: the values follow as they come.
            let header = WriteOptions::<f32>::new().default_dtype().shape(&shape).writer(&mut bytes).begin_nd();
            drop(header.map_err(|error| self.failed(error))?);
        }
        for answer in answers {
            match row(answer) {
                Some(values) if values.len() == self.width => {
                    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()))
                }
                Some(values) => {
                    return Err(self.failed(format!("a row has {} values, others {}", values.len(), self.width)));
                }
                None => bytes.extend(std::iter::repeat_n(f32::NAN.to_le_bytes(), self.width).flatten()),
            }
        }
        Ok(bytes)
    }

    fn lines(&self, first: usize, answers: &[Prediction]) -> Result<Vec<u8>, OutputError> {
        let (task, mut bytes) = (&*self.options.task, Vec::new());
        for (index, answer) in (first..).zip(answers) {
            let (name, values) = (self.name(index), row(answer));
            let written = if task.task_type == TaskType::Embedding {
                serde_json::to_writer(&mut bytes, &VectorLine { index, name, values })
            } else {
                let best = values.and_then(best_score);
                let category = best.map(|(category_id, _)| task.category_name(category_id));
                let scores = values.map(|scores| ByCategory { task, scores });
                let line = ScoresLine { index, name, category, score: best.map(|(_, score)| score), scores };
                serde_json::to_writer(&mut bytes, &line)
            };
            written.map_err(|error| self.failed(error))?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }

    /// The columns of a Parquet file.
    fn columns(&self) -> Vec<(&'static str, ColumnKind)> {
        let mut columns = vec![("index", ColumnKind::Integers)];
        columns.extend(self.options.names.is_some().then_some(("name", ColumnKind::Texts)));
        if self.options.task.task_type == TaskType::Embedding {
            columns.push(("embedding", ColumnKind::Vectors));
        } else {
            columns.extend([
                ("category", ColumnKind::Texts),
                ("score", ColumnKind::Numbers),
                ("scores", ColumnKind::Vectors),
            ]);
        }
        columns.extend(self.options.have_places.then_some(("geometry", ColumnKind::Outlines)));
        columns
    }

    /// The values of [`ChipTable::columns`].
    fn group(&self, first: usize, answers: &[Prediction]) -> Vec<Column> {
        let task = &*self.options.task;
        let indices = || first..first + answers.len();
        let mut group = vec![Column::Integers(indices().map(|index| index as i64).collect())];
        if self.options.names.is_some() {
            group.push(Column::Texts(indices().map(|index| self.name(index).map(str::to_owned)).collect()));
        }
        if task.task_type != TaskType::Embedding {
            let best: Vec<_> = answers.iter().map(|answer| row(answer).and_then(best_score)).collect();
            let name = |(category_id, _): (usize, f32)| task.category_name(category_id).to_owned();
            group.push(Column::Texts(best.iter().map(|best| best.map(name)).collect()));
            group.push(Column::Numbers(best.iter().map(|best| best.map(|(_, score)| score)).collect()));
        }
        group.push(Column::Vectors(answers.iter().map(|answer| row(answer).map(<[f32]>::to_vec)).collect()));
        if self.options.have_places {
            let place = |answer: &Prediction| {
                outline(answer.georef.as_ref()?, answer.width, answer.height).map(|polygon| vec![polygon])
            };
            group.push(Column::Outlines(answers.iter().map(place).collect()));
        }
        group
    }

    fn name(&self, index: usize) -> Option<&str> {
        self.options.names.as_ref()?.get(index).map(String::as_str)
    }

    fn failed(&self, reason: impl std::fmt::Display) -> OutputError {
        OutputError::Encode { format: self.options.format.extension(), reason: reason.to_string() }
    }
}

/// The values of an answer; `None` if its chip has no data.
fn row(answer: &Prediction) -> Option<&[f32]> {
    let values = match &answer.output {
        Output::Scores(scores) => scores,
        Output::Embedding(layers) => &layers.first()?.values,
        _ => return None,
    };
    Some(values.as_slice()).filter(|values| !values.is_empty())
}
