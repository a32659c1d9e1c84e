//! Which devices networks run on and in which number type.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device, DeviceLocation};
use serde::{Deserialize, Serialize};

use super::error::EngineError;

/// Where a network runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA or Metal if available, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by number.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("found {text:?}; auto, cpu, cuda, cuda:N or metal is needed")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

/// Where networks run side by side: choices of one kind, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceChoices(Vec<DeviceChoice>);

impl FromStr for DeviceChoices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let choices = text.split(',').map(|choice| choice.trim().parse()).collect::<Result<Vec<DeviceChoice>, _>>()?;
        let kind = std::mem::discriminant(&choices[0]);
        // Answers must not depend on the device that was free.
        if choices.iter().any(|choice| std::mem::discriminant(choice) != kind) {
            return Err(format!("found {text:?}; devices side by side must be of one kind, such as cuda:0,cuda:1"));
        }
        if choices.len() > 1 && choices[0] == DeviceChoice::Auto {
            return Err(format!("found {text:?}; auto stands alone"));
        }
        Ok(Self(choices))
    }
}

impl fmt::Display for DeviceChoices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, choice) in self.0.iter().enumerate() {
            let separator = if index > 0 { "," } else { "" };
            write!(f, "{separator}{choice}")?;
        }
        Ok(())
    }
}

impl DeviceChoices {
    /// Opens the devices.
    ///
    /// # Errors
    /// As [`DeviceChoice::open`].
    pub fn open(&self) -> Result<Devices, EngineError> {
        Ok(Devices(self.0.iter().map(|choice| choice.open()).collect::<Result<_, _>>()?))
    }
}

/// The devices that networks run on side by side: at least one, all of one kind.
#[derive(Clone, Debug)]
pub struct Devices(Vec<Device>);

impl From<Device> for Devices {
    fn from(device: Device) -> Self {
        Self(vec![device])
    }
}

impl Devices {
    /// What all of them have in common can be asked of this one.
    pub fn first(&self) -> &Device {
        &self.0[0]
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Device> {
        self.0.iter()
    }

    /// How many of them share one memory, at most: all CPUs share the machine's, every GPU has its own.
    pub(super) fn per_memory(&self) -> usize {
        let shared = |place: DeviceLocation| self.0.iter().filter(|device| device.location() == place).count();
        self.0.iter().map(|device| shared(device.location())).max().unwrap_or(1)
    }

    /// The name of each in metrics: `cpu`, `cuda:1`, `metal`; CPUs side by side are numbered.
    pub(super) fn names(&self) -> Vec<String> {
        let name = |(index, device): (usize, &Device)| match device.location() {
            DeviceLocation::Cpu if self.0.len() > 1 => format!("cpu:{index}"),
            DeviceLocation::Cpu => "cpu".to_owned(),
            DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            DeviceLocation::Metal { .. } => "metal".to_owned(),
        };
        self.0.iter().enumerate().map(name).collect()
    }
}

/// The number type networks run in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DtypeChoice {
    /// f32 on the CPU, bf16 on GPUs.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit floats with the range of f32.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl FromStr for DtypeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(format!("found {text:?}; auto, f32, bf16 or f16 is needed")),
        }
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// If the device is missing, or this build does not support it.
    pub fn open(self) -> Result<Device, EngineError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto if candle_core::utils::cuda_is_available() => Self::Cuda(0).open_or_cpu(),
            Self::Auto if candle_core::utils::metal_is_available() => Self::Metal.open_or_cpu(),
            Self::Auto => Ok(Device::Cpu),
            Self::Cuda(number) => open_cuda(number).map_err(|error| self.missing("cuda", &error)),
            Self::Metal => Device::new_metal(0).map_err(|error| self.missing("metal", &error)),
        }
    }

    /// A build for GPUs also runs on machines that have none.
    fn open_or_cpu(self) -> Result<Device, EngineError> {
        self.open().or_else(|error| {
            tracing::warn!(%error, "running on the CPU");
            Ok(Device::Cpu)
        })
    }

    fn missing(self, feature: &str, error: &candle_core::Error) -> EngineError {
        // What follows the first line is a backtrace.
        let error = error.to_string();
        let error = error.lines().next().unwrap_or_default();
        let detail =
            format!("device {self} cannot be used ({error}); it needs the device and a build with `--features {feature}`");
        EngineError::Invalid { detail }
    }
}

/// Opens a CUDA device with one stream for all threads. Loader threads copy weights that the device thread reads; with
/// candle's default of one stream per thread, the reader would not wait for the copy.
fn open_cuda(number: usize) -> candle_core::Result<Device> {
    let device = Device::new_cuda_with_stream(number)?;
    #[cfg(feature = "cuda")]
    {
        #[expect(
            unsafe_code,
            reason = "two events for every tensor are of no use where one stream keeps everything in order"
        )]
        // SAFETY: nothing else makes a stream on this device, so no tensor is used on a stream other than its own.
        unsafe {
            device.as_cuda_device()?.disable_event_tracking();
        }
        if let Err(error) = keep_freed_memory(number) {
            tracing::warn!(%error, "freed memory of the GPU goes back to the driver after every pass, which takes time");
        }
    }
    Ok(device)
}

/// Lets the device's memory pool keep what tensors have given back: by default it returns all of it whenever the stream has
/// been waited for, and the next pass asks the driver again.
#[cfg(feature = "cuda")]
fn keep_freed_memory(number: usize) -> candle_core::Result<()> {
    use candle_core::cuda_backend::WrapErr;
    use candle_core::cuda_backend::cudarc::driver::{result, sys};

    let device = result::device::get(i32::try_from(number).map_err(candle_core::Error::wrap)?).w()?;
    let mut kept_bytes = u64::MAX;
    #[expect(unsafe_code, reason = "calls of the driver")]
    // SAFETY: `device` is what the driver gave for this number, the pool what it gave for the device; the attribute is a number of
    // 64 bits, which it copies.
    unsafe {
        let pool = result::device::get_mem_pool(device).w()?;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, threshold, (&raw mut kept_bytes).cast()).w()
    }
}

impl DtypeChoice {
    /// The number type on `device`.
    pub fn on(self, device: &Device) -> DType {
        match self {
            Self::Auto if device.is_cpu() => DType::F32,
            Self::Auto | Self::Bf16 => DType::BF16,
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
        }
    }
}

/// Serialises types as the text that they are parsed from.
macro_rules! as_text {
    ($($name:ty),*) => {
        $(impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        })*
    };
}

as_text!(DeviceChoices, DtypeChoice);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_printed_as_they_are_read() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3", "metal", "cpu,cpu", "cuda:0,cuda:2"] {
            assert_eq!(text.parse::<DeviceChoices>().unwrap().to_string(), text);
        }
        for text in ["auto", "f32", "bf16", "f16"] {
            assert_eq!(text.parse::<DtypeChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_wrong_choice_is_told_what_there_is() {
        assert!("tpu".parse::<DeviceChoice>().unwrap_err().contains("cuda:N"));
        assert!("cuda:-1".parse::<DeviceChoice>().is_err());
        assert!("cuda:0,".parse::<DeviceChoices>().unwrap_err().contains("cuda:N"));
        assert!("cuda:0,cpu".parse::<DeviceChoices>().unwrap_err().contains("of one kind"));
        assert!("auto,auto".parse::<DeviceChoices>().unwrap_err().contains("alone"));
        assert!("int8".parse::<DtypeChoice>().unwrap_err().contains("bf16"));
    }

    #[test]
    fn cpus_side_by_side_share_memory_and_have_names_of_their_own() {
        let devices = |text: &str| text.parse::<DeviceChoices>().unwrap().open().unwrap();
        assert_eq!((devices("cpu").per_memory(), devices("cpu").names()), (1, vec!["cpu".to_owned()]));
        assert_eq!(
            (devices("cpu,cpu").per_memory(), devices("cpu,cpu").names()),
            (2, ["cpu:0", "cpu:1"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn the_cpu_runs_in_f32_unless_told_otherwise() {
        let device = DeviceChoice::Cpu.open().unwrap();
        assert_eq!((DtypeChoice::Auto.on(&device), DtypeChoice::Bf16.on(&device)), (DType::F32, DType::BF16));
    }
}
