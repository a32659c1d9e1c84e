//! The end of the server, step by step, from a thread of its own: it goes on even if every other thread is stuck.
//!
//! SIGTERM begins with [`Phase::Leaving`], a time of grace in which everything is served while readiness fails. Ctrl-C, which comes
//! from a person who waits, begins with [`Phase::Closing`]. A further signal ends the current stage. SIGHUP is ignored: the
//! configuration is read at start only.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Serves.
    Running,
    /// Serves, and tells load balancers to send requests elsewhere.
    Leaving,
    /// Takes no more connections, and finishes what can be done by this time.
    Closing(Instant),
    /// Answers what is left with 503.
    Over,
}

/// How long the stages last.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopTimes {
    /// Of [`Phase::Leaving`].
    pub(super) grace: Duration,
    /// Of [`Phase::Closing`] and [`Phase::Over`] together. After it the process ends, whatever is stuck.
    pub(super) drain: Duration,
}

/// The longest [`Phase::Over`]; it takes no more than a tenth of the time to drain.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

impl StopTimes {
    fn last_answers(&self) -> Duration {
        LAST_ANSWERS.min(self.drain / 10)
    }
}

/// Catches signals from now on, and returns the stage that they lead to.
///
/// # Errors
/// If the system does not let signals be caught, or refuses a thread.
pub(super) fn watch_signals(times: StopTimes) -> std::io::Result<watch::Receiver<Phase>> {
    let (sender, receiver) = watch::channel(Phase::Running);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        // Caught from here on, not only once the thread runs.
        let _entered = runtime.enter();
        Signals::catch()?
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let with_grace = signals.next().await == Signal::Terminate;
            let until_signal = async |signals: &mut Signals, time: Duration| {
                // Either the time is over, or somebody does not want to wait for that.
                let _ = tokio::time::timeout(time, signals.next()).await;
            };
            if with_grace && !times.grace.is_zero() {
                tracing::info!("stopping: requests are served for a while, and /health/ready says 503");
                sender.send_replace(Phase::Leaving);
                until_signal(&mut signals, times.grace).await;
            }
            tracing::info!("stopping: requests under way may finish");
            let draining = times.drain - times.last_answers();
            sender.send_replace(Phase::Closing(Instant::now() + draining));
            until_signal(&mut signals, draining).await;
            sender.send_replace(Phase::Over);
            tokio::time::sleep(times.last_answers()).await;
        });
        // Only if the main thread has not ended the process by now.
        tracing::warn!("some requests did not finish in time, or something is stuck");
        std::process::exit(0);
    })?;
    Ok(receiver)
}

/// Catches the signals that end a server from now on; the future ends at the first.
///
/// # Errors
/// If the system does not let signals be caught.
pub(super) fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut signals = Signals::catch()?;
    Ok(async move {
        let _: Signal = signals.next().await;
    })
}

/// Signals that end the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    /// From whatever runs the container or the service.
    Terminate,
    /// Ctrl-C.
    Interrupt,
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn catch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal that ends the server.
    async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Signal::Terminate,
                _ = self.interrupt.recv() => return Signal::Interrupt,
                _ = self.hangup.recv() => tracing::info!("SIGHUP is ignored; a restart reads the configuration again"),
            }
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Interrupt
    }
}
