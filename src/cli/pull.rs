//! `satlas-serve models pull`: downloads weights before they are needed.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{CommandError, engine_config, print};
use crate::config::{EngineSettings, Given, ServerSettings};
use crate::weights::DownloadProgress;
use crate::{assets, server};

#[derive(Args)]
pub(super) struct PullArgs {
    /// Ids of the models
    #[arg(required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    engine: Given<EngineSettings>,
}

/// Downloads what is missing and prints one line per model: its id and the path of its weights.
pub(super) fn execute(PullArgs { ids, engine }: PullArgs) -> Result<(), CommandError> {
    let config = engine_config(engine, Given::<ServerSettings>::default())?;
    let (models, files) = (server::models(&config)?, config.weights_locator(assets::demo_file).files);
    for id in &ids {
        let unknown = || format!("there is no model {id:?}; satlas-serve models list shows those there are");
        let spec = models.iter().find(|spec| spec.id == *id).ok_or_else(unknown)?;
        let mut download = Download::new(id)?;
        let place = files.fetch(spec, &mut |progress| download.show(progress));
        download.bar.finish_and_clear();
        // Messages for clients of the server, too, do not say where its files lie; whoever calls this may know.
        let place = place.map_err(|error| format!("{error} (models directory: {})", files.models_dir().display()))?;
        print(&format!("{id}: {}\n", place.map_or_else(|| "built in".to_owned(), |path| path.display().to_string())))?;
    }
    Ok(())
}

/// Shows a download's progress on stderr: as a bar if that is a terminal, else as plain lines.
struct Download {
    id: String,
    bar: ProgressBar,
    started: Instant,
    /// Bytes present at the first report: a resumed download did not fetch them now, so the rate leaves them out.
    resumed_bytes: Option<u64>,
    /// Time of the last plain line.
    told: Option<Instant>,
}

impl Download {
    fn new(id: &str) -> Result<Self, CommandError> {
        let style = "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
            .with_style(ProgressStyle::with_template(style)?)
            .with_message(id.to_owned());
        Ok(Self { id: id.to_owned(), bar, started: Instant::now(), resumed_bytes: None, told: None })
    }

    fn show(&mut self, progress: DownloadProgress) {
        if !self.bar.is_hidden() {
            if self.resumed_bytes.is_none() {
                // Bytes from an earlier run do not count towards the rate.
                self.bar.reset_eta();
            }
            if let Some(total) = progress.total_bytes {
                self.bar.set_length(total);
            }
            self.bar.set_position(progress.received_bytes);
        } else if let Some(line) = self.line(progress) {
            // If stderr is closed, progress cannot be shown.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        self.resumed_bytes.get_or_insert(progress.received_bytes);
    }

    /// The plain line to print now, if any: for the first report, the last one, and every five seconds between.
    fn line(&mut self, DownloadProgress { received_bytes, total_bytes }: DownloadProgress) -> Option<String> {
        const PAUSE: Duration = Duration::from_secs(5);
        let is_last = total_bytes == Some(received_bytes);
        if !is_last && self.told.is_some_and(|told| told.elapsed() < PAUSE) {
            return None;
        }
        self.told = Some(Instant::now());
        // A server that cannot resume starts over, so there may be fewer bytes than at first.
        let fetched = received_bytes.saturating_sub(self.resumed_bytes.unwrap_or(received_bytes));
        let elapsed = self.started.elapsed();
        let of = total_bytes.map_or_else(String::new, |total| format!(" of {}", BinaryBytes(total)));
        let rate = BinaryBytes((fetched as f64 / elapsed.as_secs_f64().max(1e-3)) as u64);
        Some(format!("{}: {}{of} after {}, {rate}/s", self.id, BinaryBytes(received_bytes), HumanDuration(elapsed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_bytes_are_told_and_few_between() {
        const TOTAL: u64 = 400 << 20;
        let mut download = Download::new("big").unwrap();
        let mut lines = Vec::new();
        for received_bytes in (100 << 20..=TOTAL).step_by(1 << 20) {
            let progress = DownloadProgress { received_bytes, total_bytes: Some(TOTAL) };
            lines.extend(download.line(progress));
            download.resumed_bytes.get_or_insert(received_bytes);
        }
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("big: 100.00 MiB of 400.00 MiB after ") && lines[0].ends_with(" 0 B/s"), "{lines:?}");
        assert!(lines[1].starts_with("big: 400.00 MiB of 400.00 MiB"), "{lines:?}");
    }
}
