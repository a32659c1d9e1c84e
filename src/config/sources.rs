//! Sources named at start: `ID=PLACE`.

use super::ConfigError;
use crate::raster::Location;
use crate::storage::is_remote;

/// `ID=PLACE`, or `ID@DATE=PLACE` where the time of a capture is named. No id holds an `@`.
pub(super) fn parse(text: &str) -> Result<(String, Location), ConfigError> {
    let invalid = |needed: String| ConfigError::Invalid { key: "source", found: text.to_owned(), needed };
    let (name, place) =
        text.split_once('=').filter(|(name, place)| !name.is_empty() && !place.is_empty()).ok_or_else(|| {
            invalid("ID=PLACE, such as harbour=/data/harbour.tif, or ID@DATE=PLACE for one capture of several,".to_owned())
        })?;
    match name.split_once('@') {
        None => Ok((name.to_owned(), place.into())),
        Some((id, date)) => {
            let location = Location::dated(place, date).map_err(|error| invalid(format!("ID@DATE=PLACE ({error})")))?;
            Ok((id.to_owned(), location))
        }
    }
}

/// The text of a source without secrets: what follows the question mark of an address may be a signature.
pub(super) fn printed(id: &str, Location { place, datetime }: &Location) -> String {
    let date = datetime.map(|datetime| format!("@{datetime}")).unwrap_or_default();
    match place.split_once('?') {
        Some((address, _)) if is_remote(place) => format!("{id}{date}={address}?********"),
        _ => format!("{id}{date}={place}"),
    }
}

/// Locations by id in order of first mention: an id named more than once is a time series.
pub(super) fn group(named: Vec<(String, Location)>) -> Vec<(String, Vec<Location>)> {
    let mut sources: Vec<(String, Vec<Location>)> = Vec::new();
    for (id, location) in named {
        match sources.iter_mut().find(|(known, _)| *known == id) {
            Some((_, locations)) => locations.push(location),
            None => sources.push((id, vec![location])),
        }
    }
    sources
}
