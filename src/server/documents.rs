//! Following what other servers register, for servers and workers that share a database.

use std::time::Duration;

use crate::engine::Engine;
use crate::fleet::{DatabaseUrl, FleetError};

/// Between two looks, and the same while the database is away.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_AWAY: Duration = Duration::from_secs(5);

/// How long the first look may take before the server starts without what others have registered.
const FIRST_LOOK: Duration = Duration::from_secs(15);

/// Shares what clients register from now on, and looks once, so that a process that starts knows what others know. If the database is
/// away, it starts even so. Does nothing if the database is a file.
///
/// # Errors
/// If the database cannot be used.
pub async fn share_registrations(engine: &Engine, database: &DatabaseUrl) -> Result<(), FleetError> {
    let Some(documents) = database.documents()? else { return Ok(()) };
    engine.share(documents);
    let looked = tokio::time::timeout(FIRST_LOOK, engine.follow()).await;
    let reason = match looked {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", FIRST_LOOK.as_secs()),
    };
    tracing::warn!(reason, "what other servers have registered is not known yet");
    Ok(())
}

/// Looks again and again; runs for ever. Each outage is logged once.
pub async fn follow_registrations(engine: &Engine) {
    let mut is_away = false;
    loop {
        tokio::time::sleep(if is_away { PAUSE_AWAY } else { PAUSE }).await;
        match engine.follow().await {
            Ok(()) if is_away => {
                is_away = false;
                tracing::info!("the database that servers share is back");
            }
            Ok(()) => {}
            Err(error) if !is_away => {
                is_away = true;
                tracing::warn!(%error, "the database that servers share is away; nothing can be registered meanwhile");
            }
            Err(_) => {}
        }
    }
}
