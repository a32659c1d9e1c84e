//! The options for reading imagery, as members of a JSON body.

/// Defines a body that has members for what pixel values mean after its own, and `pixel_params()`, which has them with the meaning of
/// the query parameters of their names. A flattened struct would not do: serde then cannot refuse unknown members.
macro_rules! pixel_body {
    ($(#[$attribute:meta])* pub(crate) struct $name:ident { $($members:tt)* }) => {
        $(#[$attribute])*
        pub(crate) struct $name {
            $($members)*
            /// 1-based bands of the imagery, in the order of the model's bands.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(example = "3,2,1")]
            pub bands: Option<String>,
            /// Scaling of pixel values: `auto`, `tci` or `reflectance`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(example = "auto")]
            pub preset: Option<String>,
            /// Added to every pixel value before scaling.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(minimum = -65535, maximum = 65535, example = 0)]
            pub dn_offset: Option<i32>,
        }

        impl $name {
            /// The members as query parameters, with these captures.
            fn pixel_params(&self, captures: Option<String>) -> super::PixelParams {
                super::PixelParams {
                    bands: self.bands.clone(),
                    preset: self.preset.clone(),
                    dn_offset: self.dn_offset.map(|offset| offset.to_string()),
                    captures,
                }
            }
        }
    };
}

/// The same with members for the captures of a source and for resampling, and `pixels()`, which reads all of them.
macro_rules! imagery_body {
    ($(#[$attribute:meta])* pub(crate) struct $name:ident { $($members:tt)* }) => {
        super::imagery_body::pixel_body! {
            $(#[$attribute])*
            pub(crate) struct $name {
                $($members)*
                /// Use only captures taken at this instant, on this day or in this interval (RFC 3339; `..` for an open end).
                #[serde(default, skip_serializing_if = "Option::is_none")]
                #[schema(example = "2024-06-01/2024-08-31")]
                pub datetime: Option<String>,
                /// 1-based numbers of the captures to use.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                #[schema(example = "1")]
                pub captures: Option<String>,
                /// How the imagery is resampled: `nearest`, `bilinear`, `cubic` or `average`.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                #[schema(default = "bilinear", example = "bilinear")]
                pub resampling: Option<String>,
            }
        }

        impl $name {
            /// How imagery is read: the members with the meaning of the query parameters of their names.
            ///
            /// # Errors
            /// If a value is malformed or out of range.
            fn pixels(&self) -> Result<$crate::engine::PixelOptions, $crate::api::error::Problem> {
                let pixels = self.pixel_params(self.captures.clone());
                pixels.options(super::parsed(&self.datetime)?, super::parsed(&self.resampling)?.unwrap_or_default())
            }
        }
    };
}

pub(super) use {imagery_body, pixel_body};
