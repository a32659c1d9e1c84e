//! Map projections: their names in GeoKeys and WKT, and their parameters as words of a PROJ string.

/// Parameters that projections share: angles in degrees, lengths in metres, `None` where a description leaves them out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ProjectionParameters {
    pub(super) latitude: Option<f64>,
    pub(super) longitude: Option<f64>,
    pub(super) parallel_1: Option<f64>,
    pub(super) parallel_2: Option<f64>,
    pub(super) scale: Option<f64>,
    pub(super) easting: Option<f64>,
    pub(super) northing: Option<f64>,
    /// Of the initial line of oblique projections, clockwise from north.
    pub(super) azimuth: Option<f64>,
    /// From the skew to the rectified grid of oblique projections.
    pub(super) rectification: Option<f64>,
    /// Of the viewer of perspective projections.
    pub(super) height: Option<f64>,
}

/// A map projection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Projection {
    Albers,
    AzimuthalEquidistant,
    Behrmann,
    Cassini,
    CylindricalEqualArea,
    EqualEarth,
    EquidistantConic,
    EquidistantCylindrical,
    Geostationary,
    Gnomonic,
    Krovak,
    LambertAzimuthalEqualArea,
    LambertConformal,
    LambertConformalOneParallel,
    Mercator,
    MercatorOnSphere,
    MillerCylindrical,
    Mollweide,
    NewZealandMapGrid,
    ObliqueMercatorAtCenter,
    ObliqueMercatorAtOrigin,
    ObliqueStereographic,
    Orthographic,
    PolarStereographic,
    Polyconic,
    Robinson,
    Sinusoidal,
    Stereographic,
    StereographicNorthPole,
    StereographicSouthPole,
    SwissOblique,
    TransverseMercator,
    TransverseMercatorSouth,
    VerticalPerspective,
    WagnerIv,
    WagnerV,
}

use Projection as P;

/// Projections with their coordinate transformation code in GeoTIFF (0: none) and their names in WKT, GDAL's first, then Esri's.
const NAMES: [(Projection, u16, &[&str]); 36] = [
    (P::TransverseMercator, 1, &["Transverse_Mercator", "Gauss_Kruger", "Transverse_Mercator_Complex"]),
    (
        P::ObliqueMercatorAtOrigin,
        3,
        &[
            "Hotine_Oblique_Mercator",
            "Hotine_Oblique_Mercator_Azimuth_Natural_Origin",
            "Rectified_Skew_Orthomorphic_Natural_Origin",
        ],
    ),
    (
        P::ObliqueMercatorAtCenter,
        9815,
        &["Hotine_Oblique_Mercator_Azimuth_Center", "Oblique_Mercator", "Rectified_Skew_Orthomorphic_Center"],
    ),
    (P::SwissOblique, 0, &["Swiss_Oblique_Cylindrical", "Swiss_Oblique_Mercator"]),
    (P::Mercator, 7, &["Mercator_1SP", "Mercator_2SP", "Mercator"]),
    (P::MercatorOnSphere, 0, &["Mercator_Auxiliary_Sphere", "Popular_Visualisation_Pseudo_Mercator"]),
    (P::LambertConformal, 8, &["Lambert_Conformal_Conic_2SP", "Lambert_Conformal_Conic"]),
    (P::LambertConformalOneParallel, 9, &["Lambert_Conformal_Conic_1SP"]),
    (P::LambertAzimuthalEqualArea, 10, &["Lambert_Azimuthal_Equal_Area"]),
    (P::Albers, 11, &["Albers_Conic_Equal_Area", "Albers"]),
    (P::AzimuthalEquidistant, 12, &["Azimuthal_Equidistant"]),
    (P::EquidistantConic, 13, &["Equidistant_Conic"]),
    (P::Stereographic, 14, &["Stereographic"]),
    (P::PolarStereographic, 15, &["Polar_Stereographic"]),
    (P::StereographicNorthPole, 0, &["Stereographic_North_Pole"]),
    (P::StereographicSouthPole, 0, &["Stereographic_South_Pole"]),
    (P::ObliqueStereographic, 16, &["Oblique_Stereographic", "Double_Stereographic"]),
    (P::EquidistantCylindrical, 17, &["Equirectangular", "Equidistant_Cylindrical", "Plate_Carree"]),
    (P::Cassini, 18, &["Cassini_Soldner", "Cassini"]),
    (P::Gnomonic, 19, &["Gnomonic"]),
    (P::MillerCylindrical, 20, &["Miller_Cylindrical"]),
    (P::Orthographic, 21, &["Orthographic"]),
    (P::Polyconic, 22, &["Polyconic"]),
    (P::Robinson, 23, &["Robinson"]),
    (P::Sinusoidal, 24, &["Sinusoidal"]),
    (P::NewZealandMapGrid, 26, &["New_Zealand_Map_Grid"]),
    (P::TransverseMercatorSouth, 27, &["Transverse_Mercator_South_Orientated"]),
    (P::CylindricalEqualArea, 28, &["Cylindrical_Equal_Area"]),
    (P::Behrmann, 0, &["Behrmann"]),
    (P::EqualEarth, 0, &["Equal_Earth"]),
    (P::Geostationary, 0, &["Geostationary_Satellite"]),
    (P::Krovak, 0, &["Krovak"]),
    (P::Mollweide, 0, &["Mollweide"]),
    (P::VerticalPerspective, 0, &["Vertical_Perspective", "Vertical_Near_Side_Perspective"]),
    (P::WagnerIv, 0, &["Wagner_IV"]),
    (P::WagnerV, 0, &["Wagner_V"]),
];

impl Projection {
    /// The projection of a coordinate transformation code of GeoTIFF.
    pub(super) fn of_code(code: u16) -> Option<Self> {
        NAMES.iter().find(|(_, number, _)| *number == code && code != 0).map(|(projection, ..)| *projection)
    }

    /// The projection of a name in WKT.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let is_known = |names: &&[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        NAMES.iter().find(|(.., names)| is_known(names)).map(|(projection, ..)| *projection)
    }

    /// It and its parameters as words of a PROJ string.
    pub(super) fn words(self, parameters: &ProjectionParameters) -> String {
        let ProjectionParameters { parallel_1, parallel_2, .. } = *parameters;
        let origin = parameters.latitude.unwrap_or(0.0);
        let scale = parameters.scale.unwrap_or(1.0);
        let parallel = parallel_1.unwrap_or(0.0);
        let (lat, k) = (format!("lat_0={origin}"), format!("k_0={scale}"));
        let true_scale = format!("lat_ts={parallel}");
        let two_parallels = format!("lat_1={parallel} lat_2={}", parallel_2.unwrap_or(0.0));
        let azimuth = parameters.azimuth.unwrap_or(0.0);
        let oblique = format!("alpha={azimuth} gamma={} {k}", parameters.rectification.unwrap_or(azimuth));
        let height = format!("h={}", parameters.height.unwrap_or(0.0));
        let is_swiss = azimuth == 90.0 && parameters.rectification.is_none_or(|angle| angle == 90.0);
        // Polar stereographic: the latitude is that of true scale, on the side of the pole.
        let polar = |parallel: f64, pole: f64| format!("proj=stere lat_0={pole} lat_ts={parallel} {k}");
        let name_and_parameters = match self {
            P::Albers => format!("proj=aea {lat} {two_parallels}"),
            P::AzimuthalEquidistant => format!("proj=aeqd {lat}"),
            P::Behrmann => "proj=cea lat_ts=30".to_owned(),
            P::Cassini => format!("proj=cass {lat}"),
            P::CylindricalEqualArea => format!("proj=cea {true_scale}"),
            P::EqualEarth => "proj=eqearth".to_owned(),
            P::EquidistantConic => format!("proj=eqdc {lat} {two_parallels}"),
            P::EquidistantCylindrical => format!("proj=eqc {true_scale} {lat}"),
            P::Geostationary => format!("proj=geos {height}"),
            P::Gnomonic => format!("proj=gnom {lat}"),
            P::Krovak => format!("proj=krovak {lat} alpha={azimuth} {k}"),
            P::LambertAzimuthalEqualArea => format!("proj=laea {lat}"),
            P::LambertConformal if parallel_2.is_some() => format!("proj=lcc {lat} {two_parallels} {k}"),
            P::LambertConformal => format!("proj=lcc {lat} lat_1={} {k}", parallel_1.unwrap_or(origin)),
            P::LambertConformalOneParallel => format!("proj=lcc {lat} lat_1={origin} {k}"),
            P::Mercator if parallel_1.is_some() => format!("proj=merc {true_scale}"),
            // As GDAL always did: a latitude of origin is that of true scale.
            P::Mercator if origin != 0.0 && scale == 1.0 => format!("proj=merc lat_ts={origin}"),
            P::Mercator => format!("proj=merc {k}"),
            P::MercatorOnSphere => "proj=webmerc".to_owned(),
            P::MillerCylindrical => "proj=mill R_A".to_owned(),
            P::Mollweide => "proj=moll".to_owned(),
            P::NewZealandMapGrid => format!("proj=nzmg {lat}"),
            P::ObliqueMercatorAtCenter | P::ObliqueMercatorAtOrigin | P::SwissOblique if is_swiss => {
                format!("proj=somerc {lat} {k}")
            }
            P::SwissOblique => format!("proj=somerc {lat} {k}"),
            P::ObliqueMercatorAtCenter => format!("proj=omerc {lat} {oblique}"),
            P::ObliqueMercatorAtOrigin => format!("proj=omerc no_uoff {lat} {oblique}"),
            P::ObliqueStereographic => format!("proj=sterea {lat} {k}"),
            P::Orthographic => format!("proj=ortho {lat}"),
            P::PolarStereographic => polar(origin, 90f64.copysign(origin)),
            P::Polyconic => format!("proj=poly {lat}"),
            P::Robinson => "proj=robin".to_owned(),
            P::Sinusoidal => "proj=sinu".to_owned(),
            P::Stereographic => format!("proj=stere {lat} {k}"),
            P::StereographicNorthPole => polar(parallel_1.unwrap_or(90.0), 90.0),
            P::StereographicSouthPole => polar(parallel_1.unwrap_or(-90.0), -90.0),
            P::TransverseMercator => format!("proj=tmerc {lat} {k}"),
            P::TransverseMercatorSouth => format!("proj=tmerc {lat} {k}"),
            P::VerticalPerspective => format!("proj=nsper {lat} {height}"),
            P::WagnerIv => "proj=wag4".to_owned(),
            P::WagnerV => "proj=wag5".to_owned(),
        };
        let longitude = if name_and_parameters.starts_with("proj=omerc") { "lonc" } else { "lon_0" };
        format!(
            "{name_and_parameters} {longitude}={} x_0={} y_0={}",
            parameters.longitude.unwrap_or(0.0),
            parameters.easting.unwrap_or(0.0),
            parameters.northing.unwrap_or(0.0)
        )
    }

    /// Directions of its axes as in PROJ's `axis`, where they are not east and north.
    pub(super) fn axes(self) -> Option<String> {
        (self == P::TransverseMercatorSouth).then(|| "wsu".to_owned())
    }
}
