//! Coordinate systems as well-known text of the first version (OGC 01-009), in the dialects of Esri and GDAL: read from citations of
//! GeoTIFF and files beside rasters, written into GeoTIFF.

mod node;
mod read;
mod write;

pub(super) use read::read;
pub(super) use write::write;

use self::node::Node;
use super::crs::{Crs, CrsError};

impl Crs {
    /// The coordinate system of a text: `EPSG:32632`, or well-known text. One of the second version needs an EPSG code.
    ///
    /// # Errors
    /// [`CrsError`] if it is unknown, unsupported or damaged.
    pub fn from_text(text: &str) -> Result<Self, CrsError> {
        if let Some((authority, code)) = text.split_once(':')
            && let (true, Ok(epsg)) = (authority.trim().eq_ignore_ascii_case("EPSG"), code.trim().parse())
        {
            return Self::from_epsg(epsg);
        }
        let unsupported = |reason| CrsError::Unsupported { definition: text.chars().take(60).collect(), reason };
        let node = Node::parse(text).map_err(unsupported)?;
        match read::epsg_code(&node).map(|code| Self::from_epsg(code.into())) {
            Some(Ok(crs)) => Ok(crs),
            _ => Self::from_definition(read::system(&node).map_err(unsupported)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_texts_with_codes_are_systems_of_the_code() {
        for text in [
            "EPSG:32632",
            " epsg: 32632 ",
            "PROJCS[\"x\",AUTHORITY[\"EPSG\",\"32632\"]]",
            "COMPD_CS[\"x\",PROJCS[\"y\",AUTHORITY[\"EPSG\",\"32632\"]],VERT_CS[\"z\",AUTHORITY[\"EPSG\",\"5773\"]]]",
            "PROJCRS[\"x\",BASEGEOGCRS[\"y\"],ID[\"EPSG\",32632]]",
        ] {
            assert_eq!(Crs::from_text(text).expect(text).epsg(), Some(32632), "{text}");
        }
        for text in ["", "EPSG:", "EPSG:1", "rubbish", "PROJCRS[\"x\"]", "PROJCS[\"x\"]"] {
            assert!(Crs::from_text(text).is_err(), "{text}");
        }
    }
}
