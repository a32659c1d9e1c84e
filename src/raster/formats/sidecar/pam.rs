//! GDAL's Persistent Auxiliary Metadata (`scene.tif.aux.xml`), which ArcGIS and QGIS write, too: a coordinate system, a transform, and
//! properties of bands.

use roxmltree::Node;

use crate::georef::{Crs, CrsError, GeoTransform};
use crate::raster::formats::band_item::{BandItem, nodata_number};
use crate::raster::formats::xml;
use crate::raster::pixels::BandInfo;

/// What such a file states.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pam {
    /// The coordinate system, or why it is not understood.
    pub(crate) crs: Option<Result<Crs, CrsError>>,
    pub(crate) transform: Option<GeoTransform>,
    /// True if it tells where some pixels lie.
    pub(crate) has_control_points: bool,
    /// Properties of bands.
    pub(crate) items: Vec<BandItem>,
    /// "No data" values and the samples that they belong to, which are numbered from 0.
    pub(crate) nodata: Vec<(usize, f64)>,
}

impl Pam {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let document = xml::parse(text.trim_start_matches('\u{feff}'))?;
        let root = document.root_element();
        if root.tag_name().name() != "PAMDataset" {
            return Err(format!("it is a {:?}; a PAMDataset is needed", root.tag_name().name()));
        }
        let mut pam = Self {
            crs: child(root, "SRS").map(xml::text_of).filter(|text| !text.is_empty()).map(Crs::from_text),
            transform: child(root, "GeoTransform").and_then(|element| transform_of(xml::text_of(element))),
            has_control_points: child(root, "GCPList").is_some(),
            ..Self::default()
        };
        for element in root.children().filter(|child| child.has_tag_name("PAMRasterBand")) {
            let number = xml::attribute(element, "band").and_then(|band| band.parse::<usize>().ok());
            let Some(sample) = number.and_then(|number| number.checked_sub(1)) else { continue };
            for (name, role) in
                [("Description", "description"), ("Scale", "scale"), ("Offset", "offset"), ("ColorInterp", "colorinterp")]
            {
                let stated = child(element, name).map(xml::text_of);
                pam.items.extend(stated.map(|text| BandItem { sample, role: role.to_owned(), text: text.to_owned() }));
            }
            let nodata = child(element, "NoDataValue").and_then(|value| nodata_number(xml::text_of(value)));
            pam.nodata.extend(nodata.map(|nodata| (sample, nodata)));
        }
        Ok(pam)
    }

    /// The "no data" value of a sample.
    pub(crate) fn nodata_of(&self, sample: usize) -> Option<f64> {
        self.nodata.iter().find(|(of, _)| *of == sample).map(|(_, nodata)| *nodata)
    }

    /// Sets what is stated of bands that are samples as they are stored.
    pub(crate) fn complete(&self, bands: &mut [BandInfo]) {
        for (sample, band) in bands.iter_mut().enumerate() {
            self.items.iter().filter(|item| item.sample == sample).for_each(|item| item.describe(band));
            band.nodata = self.nodata_of(sample).or(band.nodata);
        }
    }
}

fn child<'a, 'input>(element: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    element.children().find(|child| child.has_tag_name(name))
}

/// The transform of six numbers in GDAL's order; `None` for anything else, as in GDAL.
fn transform_of(text: &str) -> Option<GeoTransform> {
    let numbers = text.split(',').map(|number| number.trim().parse().ok()).collect::<Option<Vec<f64>>>()?;
    let [origin_x, pixel_width, row_skew, origin_y, col_skew, pixel_height] = numbers[..] else { return None };
    Some(GeoTransform { origin_x, pixel_width, row_skew, origin_y, col_skew, pixel_height })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_the_transform_and_bands_are_read() {
        let pam = Pam::parse(
            "\u{feff}<PAMDataset>\n  <SRS dataAxisToSRSAxisMapping=\"1,2\"> EPSG:32633 </SRS>\n\
             <GeoTransform> 5.0e+05, 1.0e+01, 0.0, 5.2e+06, 0.0, -1.0e+01</GeoTransform>\n\
             <PAMRasterBand band=\"2\"><Description>a &lt; b</Description><NoDataValue le_hex_equiv=\"0\"> 3 </NoDataValue>\
             <Scale>0.5</Scale><Offset>2</Offset><ColorInterp>Blue</ColorInterp>\
             <Metadata><MDI key=\"STATISTICS_MEAN\">7</MDI></Metadata></PAMRasterBand>\
             <PAMRasterBand band=\"0\"><NoDataValue>9</NoDataValue></PAMRasterBand>\
             <PAMRasterBand band=\"1\"><NoDataValue>nan</NoDataValue></PAMRasterBand></PAMDataset>",
        )
        .expect("it is sound");
        assert_eq!(pam.crs.clone().expect("a system").expect("a known one"), Crs::from_epsg(32633).expect("UTM"));
        assert_eq!(pam.transform, Some(GeoTransform::north_up(500_000.0, 5_200_000.0, 10.0, 10.0)));
        let mut bands = vec![BandInfo { nodata: Some(1.0), ..BandInfo::default() }; 3];
        pam.complete(&mut bands);
        assert_eq!((bands[0].nodata, bands[1].nodata, bands[2].nodata), (Some(1.0), Some(3.0), Some(1.0)));
        let second = &bands[1];
        assert_eq!((second.description.as_deref(), second.scale, second.offset), (Some("a < b"), 0.5, 2.0));
    }

    #[test]
    fn statistics_alone_state_nothing_and_other_documents_are_refused() {
        let pam = Pam::parse("<PAMDataset><SRS/><GeoTransform>1,2,3</GeoTransform></PAMDataset>").expect("it is sound");
        assert!(pam.crs.is_none() && pam.transform.is_none() && pam.items.is_empty() && pam.nodata.is_empty());
        assert!(
            Pam::parse("<PAMDataset><SRS>rubbish</SRS></PAMDataset>")
                .expect("it is sound")
                .crs
                .is_some_and(|crs| crs.is_err())
        );
        assert!(Pam::parse("<metadata/>").is_err() && Pam::parse("<PAMDataset>").is_err());
    }
}
