//! What clients may send: the parts of forms, and the media types of bodies without one.

use utoipa::ToSchema;

use super::dto::{ChipFitBody, MAX_IMAGES, SimilarSearch};
use super::error::Problem;
use crate::error::ErrorKind;

/// Accepted media types of raw bodies. The actual format is detected from the first bytes.
const RASTER_TYPES: [&str; 11] = [
    "image/tiff",
    "image/geotiff",
    "image/jp2",
    "image/jpx",
    "image/png",
    "image/jpeg",
    "image/jpg",
    "application/x-npy",
    "application/npy",
    "application/octet-stream",
    "binary/octet-stream",
];

/// The same for chips, which may also come as one zip file.
const CHIP_TYPES: [&str; 13] = {
    let mut types = [""; 13];
    let mut at = 0;
    while at < RASTER_TYPES.len() {
        types[at] = RASTER_TYPES[at];
        at += 1;
    }
    types[at] = "application/zip";
    types[at + 1] = "application/x-zip-compressed";
    types
};

/// The same for tables.
const TABLE_TYPES: [&str; 7] = [
    "application/vnd.apache.parquet",
    "application/x-parquet",
    "application/parquet",
    "application/x-npy",
    "application/npy",
    "application/octet-stream",
    "binary/octet-stream",
];

/// Most parts of a form with examples.
const MAX_EXAMPLES: usize = 257;

/// What the parts of a form are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormParts {
    /// Captures of one place: `image`, `image_2` and so on.
    Captures,
    /// Rasters of their own: parts named `chip`, at most so many.
    Chips(usize),
    /// One table, called `table`.
    Table,
    /// What to fit (`fit`), the chips to fit it to (`chips`), and perhaps their `masks`.
    Fit,
    /// Examples of a search: what else is asked for (`search`), and chips that are like what is searched for (`positive`) or not
    /// (`negative`).
    Examples,
}

/// A table as the part of a form.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the form, whose parts are read as a stream")]
pub(super) struct TableForm {
    /// A Parquet or npy file.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    table: Vec<u8>,
}

/// A fit to chips as the parts of a form.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the form, whose parts are read as a stream")]
pub(super) struct ChipFitForm {
    /// What to fit, as JSON.
    fit: ChipFitBody,
    /// The chips: an npy file `[N, C, H, W]`, or a zip file of rasters. For a value per pixel, a zip file holds pairs of `images/NAME` and
    /// `masks/NAME`.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    chips: Vec<u8>,
    /// The masks of chips in an npy file, for a value per pixel: an npy file `[N, H, W]` or `[N, 1, H, W]`.
    #[schema(value_type = Option<String>, format = Binary, content_media_type = "application/octet-stream")]
    masks: Option<Vec<u8>>,
}

/// Chips as examples of a search, as the parts of a form.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the form, whose parts are read as a stream")]
pub(super) struct ChipSearchForm {
    /// Chips that are like what is searched for, one file each; or one npy `[N, C, H, W]` or zip file with all of them.
    #[schema(value_type = Vec<String>, format = Binary)]
    positive: Vec<Vec<u8>>,
    /// Chips that are not.
    #[schema(value_type = Vec<String>, format = Binary, required = false, example = json!([]))]
    negative: Vec<Vec<u8>>,
    /// What else is asked for, as JSON: further examples, filters, how many rows.
    #[schema(required = false)]
    search: SimilarSearch,
}

/// Chips as the parts of a form.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the form, whose parts are read as a stream")]
pub(super) struct ChipForm {
    /// The chips in order, one file each; or one npy or zip file with all of them.
    #[schema(value_type = Vec<String>, format = Binary)]
    chip: Vec<Vec<u8>>,
}

/// A raster as the part of a form.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the form, whose parts are read as a stream")]
pub(super) struct SourceForm {
    /// The raster.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    image: Vec<u8>,
}

/// Rasters as the parts of a form, in time order.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the form, whose parts are read as a stream")]
pub(super) struct RasterForm {
    /// The raster, or the first of several captures. The part may be repeated instead of using `image_2` and so on.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    image: Vec<u8>,
    /// The second capture.
    #[schema(value_type = Option<String>, format = Binary, content_media_type = "application/octet-stream")]
    image_2: Option<Vec<u8>>,
    /// The third capture.
    #[schema(value_type = Option<String>, format = Binary, content_media_type = "application/octet-stream")]
    image_3: Option<Vec<u8>>,
    /// The fourth capture.
    #[schema(value_type = Option<String>, format = Binary, content_media_type = "application/octet-stream")]
    image_4: Option<Vec<u8>>,
    /// The fifth capture.
    #[schema(value_type = Option<String>, format = Binary, content_media_type = "application/octet-stream")]
    image_5: Option<Vec<u8>>,
    /// The sixth capture.
    #[schema(value_type = Option<String>, format = Binary, content_media_type = "application/octet-stream")]
    image_6: Option<Vec<u8>>,
    /// The seventh capture.
    #[schema(value_type = Option<String>, format = Binary, content_media_type = "application/octet-stream")]
    image_7: Option<Vec<u8>>,
    /// The eighth capture.
    #[schema(value_type = Option<String>, format = Binary, content_media_type = "application/octet-stream")]
    image_8: Option<Vec<u8>>,
}

impl FormParts {
    /// Where a part stands among the others; parts of one position keep their order.
    pub(super) fn position(self, field: &str) -> Result<usize, Problem> {
        match self {
            Self::Captures => position(field),
            Self::Fit => match field {
                "fit" => Ok(1),
                "chips" => Ok(2),
                "masks" => Ok(3),
                _ => Err(Problem::invalid(format!(
                    "found a part named {field:?}; the parts fit and chips are needed, and for an array of chips masks"
                ))),
            },
            Self::Examples => match field {
                "search" => Ok(1),
                "positive" => Ok(2),
                "negative" => Ok(3),
                _ => {
                    Err(Problem::invalid(format!("found a part named {field:?}; positive, negative and search are known")))
                }
            },
            Self::Chips(_) | Self::Table if field == self.name() => Ok(1),
            Self::Chips(_) | Self::Table => {
                let needed = self.name();
                Err(Problem::invalid(format!("found a part named {field:?}; parts named {needed} are needed")))
            }
        }
    }

    /// The name of the first part.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Captures => "image",
            Self::Chips(_) => "chip",
            Self::Table => "table",
            Self::Fit => "fit",
            Self::Examples => "positive",
        }
    }

    /// What a file is, in a word.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Captures | Self::Chips(_) => "raster",
            Self::Table => "table",
            Self::Fit | Self::Examples => "file",
        }
    }

    /// Accepted media types of raw bodies, the most usual first.
    pub(super) fn types(self) -> &'static [&'static str] {
        match self {
            Self::Captures => &RASTER_TYPES,
            Self::Chips(_) => &CHIP_TYPES,
            Self::Table => &TABLE_TYPES,
            Self::Fit | Self::Examples => &[],
        }
    }

    /// The most usual ones, in words.
    pub(super) fn needed_types(self) -> &'static str {
        match self {
            Self::Chips(_) => {
                "application/x-npy, application/zip, image/tiff, image/jp2, image/png, image/jpeg, application/octet-stream or multipart/form-data"
            }
            Self::Captures => {
                "image/tiff, image/jp2, image/png, image/jpeg, application/x-npy, application/octet-stream or multipart/form-data"
            }
            Self::Fit => "application/json or multipart/form-data",
            Self::Examples => "multipart/form-data",
            Self::Table => {
                "application/vnd.apache.parquet, application/x-npy, application/octet-stream or multipart/form-data"
            }
        }
    }

    /// Checks that parts at these positions, which are sorted, are all that is needed.
    ///
    /// # Errors
    /// If one is missing, or there twice.
    pub(super) fn check(self, positions: &[usize]) -> Result<(), Problem> {
        match (self, positions) {
            (Self::Fit, [1, 2] | [1, 2, 3]) | (Self::Captures | Self::Chips(_) | Self::Table, _) => Ok(()),
            (Self::Examples, [1, 1, ..]) => Err(Problem::invalid("found two parts named search; one is needed")),
            (Self::Examples, _) => Ok(()),
            (Self::Fit, found) => {
                let names =
                    found.iter().map(|position| ["fit", "chips", "masks"][position - 1]).collect::<Vec<_>>().join(", ");
                Err(Problem::invalid(format!(
                    "found the parts {names}; the parts fit and chips are needed, each once, and for an array of chips masks"
                )))
            }
        }
    }

    pub(super) fn most(self) -> usize {
        match self {
            Self::Captures => MAX_IMAGES,
            Self::Chips(most) => most,
            Self::Table => 1,
            Self::Fit => 3,
            Self::Examples => MAX_EXAMPLES,
        }
    }

    pub(super) fn too_many(self) -> Problem {
        match self {
            Self::Captures => Problem::invalid(format!("found more than {MAX_IMAGES} images, which no model takes")),
            Self::Table => Problem::invalid("found more than one table"),
            Self::Fit => Problem::invalid("found more than three parts; one of each of fit, chips and masks is needed"),
            Self::Examples => {
                let detail = format!("found more than {MAX_EXAMPLES} parts; one npy or zip file may hold several chips");
                Problem::new(ErrorKind::TooLarge, detail)
            }
            Self::Chips(most) => {
                let detail = format!(
                    "found more than {most} parts; one npy file of [N, C, H, W] or one zip file may hold more chips"
                );
                Problem::new(ErrorKind::TooLarge, detail)
            }
        }
    }
}

/// The position of a form part in time order: 1 for `image`, 2 for `image_2` and so on.
fn position(field: &str) -> Result<usize, Problem> {
    let position = match field.strip_prefix("image") {
        Some("") => Some(1),
        Some(rest) => {
            rest.strip_prefix('_').and_then(|number| number.parse().ok()).filter(|n| (1..=MAX_IMAGES).contains(n))
        }
        None => None,
    };
    position.ok_or_else(|| {
        Problem::invalid(format!("found a part named {field:?}; image, image_2 … image_{MAX_IMAGES} are needed"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_ordered_by_their_number() {
        assert_eq!(["image", "image_1", "image_2", "image_8"].map(|name| position(name).unwrap()), [1, 1, 2, 8]);
        for name in ["", "images", "image_0", "image_9", "image_x", "file", "image_-1"] {
            assert!(position(name).is_err(), "{name}");
        }
    }
}
