//! From pixel values to network input: named scalings, and warnings about values that contradict them.
//!
//! SatlasPretrain was trained on the Sentinel-2 L1C true-colour image (8-bit) and on reflectances divided by 8160. Without that
//! image, AllenAI's own tools use B04, B03 and B02 divided by 3000, which is the preset `reflectance`.

mod bands;
mod plan;
mod preset;
mod warnings;

pub use bands::BandNumbers;
pub use plan::InputPlan;
pub use preset::{InputOptions, Preset};
pub use warnings::resolution_warning;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::pixels::{BandInfo, Patch, RasterInfo, SampleType};
    use crate::zoo::{ModelSpec, pretrained_models};

    fn model(id: &str) -> ModelSpec {
        pretrained_models().unwrap().into_iter().find(|model| model.id == id).unwrap()
    }

    fn info(names: &[&str], sample_type: SampleType) -> RasterInfo {
        let band = |name: &&str| BandInfo { description: Some((*name).to_owned()), ..BandInfo::default() };
        RasterInfo {
            width: 2,
            height: 1,
            bands: names.iter().map(band).collect(),
            sample_type,
            georef: None,
            is_normalised: false,
            overviews: vec![],
        }
    }

    /// A preset, and an offset after a comma.
    fn options(text: &str) -> InputOptions {
        let (preset, offset) = text.split_once(',').unwrap_or((text, "0"));
        InputOptions { preset: preset.parse().unwrap(), dn_offset: offset.parse().unwrap(), bands: None }
    }

    /// Two pixels, the second one invalid.
    fn patch(pixel: &[f32]) -> Patch {
        let pixels = pixel.iter().chain(pixel).copied().collect();
        Patch { width: 2, height: 1, bands: pixel.len(), pixels, valid: vec![true, false] }
    }

    const BANDS: [&str; 9] = ["B04", "B03", "B02", "B05", "B06", "B07", "B08", "B11", "B12"];

    #[test]
    fn reflectance_takes_b04_b03_b02_for_the_true_colour_image() {
        let options = self::options("reflectance,-1000");
        let plan = InputPlan::new(&info(&BANDS, SampleType::U16), &model("Sentinel2_SwinB_SI_MS"), &options).unwrap();
        let input = plan.normalise(&patch(&[2500.0, 900.0, 9000.0, 2632.0, 1000.0, 1000.0, 1000.0, 1000.0, 1000.0]));
        assert_eq!(input[..4], [0.5, 0.0, 1.0, 0.2]);
        assert!(input[9..].iter().all(|value| *value == 0.0), "invalid pixels are 0");
    }

    #[test]
    fn landsat_is_scaled_from_4000_to_20320() {
        let names = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11"];
        let plan =
            InputPlan::new(&info(&names, SampleType::U16), &model("Landsat_SwinB_SI"), &InputOptions::default()).unwrap();
        let input = plan.normalise(&patch(&[12_160.0; 11]));
        assert!(input[..11].iter().all(|value| *value == 0.5));
        assert!(
            InputPlan::new(&info(&names, SampleType::U16), &model("Landsat_SwinB_SI"), &options("reflectance")).is_err()
        );
    }

    #[test]
    fn a_missing_true_colour_image_points_to_the_other_preset() {
        let error =
            InputPlan::new(&info(&BANDS, SampleType::U16), &model("Sentinel2_SwinB_SI_MS"), &InputOptions::default());
        assert!(error.unwrap_err().to_string().contains("preset=reflectance"));
    }

    #[test]
    fn values_that_contradict_the_scaling_are_named() {
        let warnings = |id: &str, names: &[&str], sample_type, preset: &str, pixel: &[f32]| {
            let options = self::options(preset);
            InputPlan::new(&info(names, sample_type), &model(id), &options).unwrap().warnings(&patch(pixel)).join(" ")
        };
        let rgb = ["tci_r", "tci_g", "tci_b"];
        let s2 = |sample_type, pixel: &[f32]| warnings("Sentinel2_SwinB_SI_RGB", &rgb, sample_type, "tci", pixel);
        assert_eq!(s2(SampleType::U8, &[10.0, 200.0, 30.0]), "");
        assert_eq!(s2(SampleType::U8, &[255.00003, 200.0, 30.0]), "", "white pixels, interpolated");
        assert!(s2(SampleType::U8, &[0.0, 0.0, 0.0]).contains("All pixels are 0"));
        assert!(s2(SampleType::U8, &[0.0, 9.0, 9.0]).contains("0 in tci_r"));
        assert!(s2(SampleType::F32, &[0.1, 0.2, 0.3]).contains("fractions"));
        assert!(s2(SampleType::U16, &[900.0, 200.0, 3000.0]).contains("expected in tci_r, tci_b"));
        let sar = |pixel: &[f32]| warnings("Sentinel1_SwinB_SI", &["VH", "VV"], SampleType::F32, "tci", pixel);
        assert!(sar(&[-20.0, -10.0]).contains("decibels"));
        assert_eq!(sar(&[40.0, 300.0]), "");
        let ms = |preset: &str, value: f32| warnings("Sentinel2_SwinB_SI_MS", &BANDS, SampleType::U16, preset, &[value; 9]);
        assert!(ms("reflectance", 1400.0).contains("dn_offset=-1000"));
        assert_eq!(ms("reflectance,-1000", 1400.0), "");
        assert_eq!(ms("reflectance", 400.0), "");
    }

    #[test]
    fn an_offset_that_the_product_declares_must_be_asked_for() {
        let mut raster = info(&BANDS, SampleType::U16);
        raster.bands.iter_mut().for_each(|band| (band.scale, band.offset) = (1e-4, -0.1));
        let warnings = |preset: &str| {
            let options = self::options(preset);
            let plan = InputPlan::new(&raster, &model("Sentinel2_SwinB_SI_MS"), &options).unwrap();
            plan.warnings(&patch(&[1400.0; 9])).join(" ")
        };
        let found = warnings("reflectance");
        assert!(found.contains("dn_offset=-1000 takes it out") && found.contains("b12"), "{found}");
        assert!(!found.contains("No pixel"), "one sentence is enough: {found}");
        assert_eq!(warnings("reflectance,-1000"), "");
        assert!(warnings("reflectance,-500").contains("declares an offset of -1000"));
    }

    #[test]
    fn a_raster_of_another_resolution_is_named() {
        assert!(resolution_warning(60.0, 9.55).unwrap().contains("60.000 m"));
        assert_eq!(resolution_warning(10.0, 9.55), None);
    }
}
