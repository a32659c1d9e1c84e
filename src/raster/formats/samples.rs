//! Typed samples, and the loop that converts runs of them to `f32` and tells "no data".

use crate::raster::pixels::SampleType;

/// Samples of one type; their order is up to the owner.
#[derive(Debug)]
pub(crate) enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Samples {
    /// Bytes held in memory.
    pub(crate) fn byte_len(&self) -> usize {
        match self {
            Self::U8(samples) => samples.len(),
            Self::U16(samples) => samples.len() * 2,
            Self::I16(samples) => samples.len() * 2,
            Self::U32(samples) => samples.len() * 4,
            Self::I32(samples) => samples.len() * 4,
            Self::F32(samples) => samples.len() * 4,
            Self::F64(samples) => samples.len() * 8,
        }
    }

    /// The type of the samples.
    pub(crate) fn sample_type(&self) -> SampleType {
        match self {
            Self::U8(_) => SampleType::U8,
            Self::U16(_) => SampleType::U16,
            Self::I16(_) => SampleType::I16,
            Self::U32(_) => SampleType::U32,
            Self::I32(_) => SampleType::I32,
            Self::F32(_) => SampleType::F32,
            Self::F64(_) => SampleType::F64,
        }
    }

    /// Number of samples.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::U8(samples) => samples.len(),
            Self::U16(samples) => samples.len(),
            Self::I16(samples) => samples.len(),
            Self::U32(samples) => samples.len(),
            Self::I32(samples) => samples.len(),
            Self::F32(samples) => samples.len(),
            Self::F64(samples) => samples.len(),
        }
    }
}

/// Samples of one band in one row.
pub(crate) struct Run<'a> {
    pub(crate) samples: &'a Samples,
    pub(crate) start: usize,
    pub(crate) step: usize,
    pub(crate) len: usize,
}

/// Conversion of a sample to `f32`, and its comparison with the file's nodata value.
trait Sample: Copy {
    fn to_f32(self) -> f32;
    fn is(self, nodata: f64) -> bool;
}

macro_rules! sample {
    ($($type:ty),*) => {$(
        impl Sample for $type {
            fn to_f32(self) -> f32 {
                self as f32
            }
            fn is(self, nodata: f64) -> bool {
                self as f64 == nodata
            }
        }
    )*};
}
sample!(u8, u16, i16, u32, i32);

impl Sample for f32 {
    fn to_f32(self) -> f32 {
        self
    }
    fn is(self, nodata: f64) -> bool {
        // The tag is the decimal text of an f32, not always of all its digits.
        self == nodata as f32 || is_close(self.into(), nodata, f64::from(f32::EPSILON))
    }
}

impl Sample for f64 {
    fn to_f32(self) -> f32 {
        self as f32
    }
    fn is(self, nodata: f64) -> bool {
        self == nodata || is_close(self, nodata, f64::EPSILON)
    }
}

/// Magnitude from which on a float stands for nothing but "no data".
const HUGE: f64 = 1e30;

/// True if two floats differ in the last digits only: by four times `epsilon` relative to them, as in GDAL, or in the sixth digit of
/// a [`HUGE`] one, which is often written as `-3.40282e+38`.
fn is_close(value: f64, nodata: f64, epsilon: f64) -> bool {
    if nodata.is_infinite() {
        // No number is near it.
        return value == nodata;
    }
    let tolerance = if nodata.abs() > HUGE { 1e-5 } else { 4.0 * epsilon };
    (value - nodata).abs() <= tolerance * nodata.abs()
}

impl Run<'_> {
    /// Calls `put(offset, value, has_data)` for every sample but NaN. One that equals `nodata` has no data.
    pub(crate) fn for_each(&self, nodata: Option<f64>, put: impl FnMut(usize, f32, bool)) {
        fn each<T: Sample>(samples: &[T], run: &Run<'_>, nodata: Option<f64>, mut put: impl FnMut(usize, f32, bool)) {
            let samples = samples[run.start..].iter().step_by(run.step).take(run.len).enumerate();
            match nodata {
                Some(nodata) => {
                    for (offset, sample) in samples {
                        let value = sample.to_f32();
                        if !value.is_nan() {
                            put(offset, value, !sample.is(nodata));
                        }
                    }
                }
                None => {
                    for (offset, sample) in samples {
                        let value = sample.to_f32();
                        if !value.is_nan() {
                            put(offset, value, true);
                        }
                    }
                }
            }
        }
        match self.samples {
            Samples::U8(samples) => each(samples, self, nodata, put),
            Samples::U16(samples) => each(samples, self, nodata, put),
            Samples::I16(samples) => each(samples, self, nodata, put),
            Samples::U32(samples) => each(samples, self, nodata, put),
            Samples::I32(samples) => each(samples, self, nodata, put),
            Samples::F32(samples) => each(samples, self, nodata, put),
            Samples::F64(samples) => each(samples, self, nodata, put),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_near_a_finite_nodata_value_equal_it_and_none_an_infinite_one() {
        assert!((-3.402_823_5e38_f32).is(-3.402_82e38) && 0.1_f32.is(0.1) && !0.2_f32.is(0.1));
        for nodata in [f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!1.0_f32.is(nodata) && !1e300_f64.is(nodata) && !7_u8.is(nodata));
            assert!((nodata as f32).is(nodata) && nodata.is(nodata) && !(-nodata).is(nodata));
        }
    }
}
