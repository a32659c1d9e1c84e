//! Runs convolutions by cuDNN, and keeps what it has prepared for their sizes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnActivationMode_t as Activation, cudnnConvolutionFwdAlgo_t as Algorithm, cudnnConvolutionMode_t as Mode,
    cudnnMathType_t as MathType, cudnnNanPropagation_t as Nan, cudnnTensorFormat_t as Format,
};
use candle_core::cuda_backend::cudarc::cudnn::{
    ActivationDescriptor, ConvBiasActivationForward, ConvDescriptor, Cudnn, CudnnDataType, FilterDescriptor,
    TensorDescriptor,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, DeviceRepr};
use candle_core::cuda_backend::{CudaDType, CudaDevice, DeviceId};
use candle_core::{CudaStorage, DType, Layout, Result, Storage, Tensor, WithDType};
use half::{bf16, f16};

use super::convolution::{ConvolutionSizes, StartedConvolution};
use super::launch::int;
use crate::ops::ConvShape;

/// The one algorithm that takes channels last and needs no activation. On tensor cores it is cuDNN's usual choice.
const ALGORITHM: Algorithm = Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;

/// Sizes that a thread remembers. Clients may send images of any size, so when there are more, it begins anew.
const MOST_SIZES: usize = 1024;

thread_local! {
    /// A handle of cuDNN serves one thread, so every thread has its own for each device.
    static LIBRARIES: RefCell<HashMap<DeviceId, Library>> = RefCell::default();
}

/// cuDNN on one device, and what it has prepared there.
struct Library {
    cudnn: Arc<Cudnn>,
    prepared: HashMap<ConvolutionSizes, Rc<dyn Prepared>>,
}

/// A convolution of certain sizes.
trait Prepared {
    /// Runs it on maps, weight, bias and residual, all without gaps and of those sizes.
    fn run(&self, device: &CudaDevice, operands: &Operands<'_>) -> Result<CudaStorage>;
}

/// A tensor's memory on the device.
type Operand<'a> = (&'a CudaStorage, &'a Layout);

struct Operands<'a> {
    maps: Operand<'a>,
    weight: Operand<'a>,
    bias: Operand<'a>,
    residual: Option<Operand<'a>>,
}

/// Runs a convolution of `maps`.
pub(super) fn run(started: &StartedConvolution<'_>, maps: &CudaStorage, layout: &Layout) -> Result<CudaStorage> {
    let device = &maps.device;
    let prepared = LIBRARIES.with_borrow_mut(|libraries| {
        if !libraries.contains_key(&device.id()) {
            let library = Library { cudnn: Cudnn::new(device.cuda_stream())?, prepared: HashMap::new() };
            libraries.insert(device.id(), library);
        }
        match libraries.get_mut(&device.id()) {
            Some(library) => library.prepare(&started.sizes),
            None => candle_core::bail!("cuDNN has no handle for this device"),
        }
    })?;
    let (weight, weight_layout) = started.weight.storage_and_layout();
    let (bias, bias_layout) = started.bias.storage_and_layout();
    let residual = started.residual.as_ref().map(Tensor::storage_and_layout);
    let operands = Operands {
        maps: (maps, layout),
        weight: (on_device(&weight)?, weight_layout),
        bias: (on_device(&bias)?, bias_layout),
        residual: match &residual {
            Some((storage, layout)) => Some((on_device(storage)?, *layout)),
            None => None,
        },
    };
    prepared.run(device, &operands)
}

fn on_device(storage: &Storage) -> Result<&CudaStorage> {
    match storage {
        Storage::Cuda(storage) => Ok(storage),
        _ => candle_core::bail!("a convolution on a GPU was given a tensor in main memory"),
    }
}

impl Library {
    fn prepare(&mut self, sizes: &ConvolutionSizes) -> Result<Rc<dyn Prepared>> {
        if let Some(prepared) = self.prepared.get(sizes) {
            return Ok(Rc::clone(prepared));
        }
        let prepared: Rc<dyn Prepared> = match sizes.dtype {
            DType::F32 => Rc::new(Plan::<f32>::new(&self.cudnn, sizes)?),
            DType::BF16 => Rc::new(Plan::<bf16>::new(&self.cudnn, sizes)?),
            DType::F16 => Rc::new(Plan::<f16>::new(&self.cudnn, sizes)?),
            other => candle_core::bail!("no convolution computes in {other:?}"),
        };
        if self.prepared.len() >= MOST_SIZES {
            self.prepared.clear();
        }
        self.prepared.insert(*sizes, Rc::clone(&prepared));
        Ok(prepared)
    }
}

/// What cuDNN is told about a convolution of activations in `T`. Sums are in float32.
struct Plan<T> {
    maps: TensorDescriptor<T>,
    weight: FilterDescriptor<T>,
    convolution: ConvDescriptor<f32>,
    bias: TensorDescriptor<T>,
    activation: ActivationDescriptor<f32>,
    output: TensorDescriptor<T>,
    values: usize,
    workspace_bytes: usize,
}

impl<T: CudnnDataType + WithDType> Plan<T> {
    fn new(cudnn: &Arc<Cudnn>, sizes: &ConvolutionSizes) -> Result<Self> {
        let [.., inputs] = sizes.input;
        let [.., outputs] = sizes.output;
        let ConvShape { kernel, stride, padding } = sizes.shape;
        // cuDNN names dimensions in the order of channels first, whatever the format.
        let dims = |[count, rows, columns, channels]: [usize; 4]| -> Result<[i32; 4]> {
            Ok([signed(count)?, signed(channels)?, signed(rows)?, signed(columns)?])
        };
        let tensor = |of: [usize; 4]| -> Result<TensorDescriptor<T>> {
            Ok(cudnn.create_4d_tensor(Format::CUDNN_TENSOR_NHWC, dims(of)?)?)
        };
        let both = |size: usize| -> Result<[i32; 2]> { Ok([signed(size)?; 2]) };
        let mut convolution = cudnn.create_conv2d(both(padding)?, both(stride)?, [1, 1], Mode::CUDNN_CROSS_CORRELATION)?;
        // Tensor cores would compute float32 in TF32.
        let math = if T::DTYPE == DType::F32 { MathType::CUDNN_FMA_MATH } else { MathType::CUDNN_TENSOR_OP_MATH };
        convolution.set_math_type(math)?;
        let activation = if sizes.relu { Activation::CUDNN_ACTIVATION_RELU } else { Activation::CUDNN_ACTIVATION_IDENTITY };
        let mut plan = Self {
            maps: tensor(sizes.input)?,
            weight: cudnn.create_4d_filter(Format::CUDNN_TENSOR_NHWC, dims([outputs, kernel, kernel, inputs])?)?,
            convolution,
            bias: tensor([1, 1, 1, outputs])?,
            activation: cudnn.create_activation(activation, Nan::CUDNN_PROPAGATE_NAN, 0.0)?,
            output: tensor(sizes.output)?,
            values: sizes.output.iter().product(),
            workspace_bytes: 0,
        };
        plan.workspace_bytes = plan.forward().get_workspace_size(ALGORITHM)?;
        Ok(plan)
    }

    fn forward(&self) -> ConvBiasActivationForward<'_, T, f32, f32, T> {
        ConvBiasActivationForward {
            conv: &self.convolution,
            act: &self.activation,
            x: &self.maps,
            w: &self.weight,
            z: &self.output,
            bias: &self.bias,
            y: &self.output,
        }
    }
}

impl<T: CudaDType + CudnnDataType + DeviceRepr + WithDType> Prepared for Plan<T> {
    #[expect(unsafe_code, reason = "cuDNN is given addresses")]
    fn run(&self, device: &CudaDevice, operands: &Operands<'_>) -> Result<CudaStorage> {
        let (maps, weight, bias) = (view(operands.maps)?, view(operands.weight)?, view(operands.bias)?);
        let residual = operands.residual.map(view).transpose()?;
        // The pool keeps memory that is freed, so this costs no call of the driver, and threads do not hoard it.
        // SAFETY: cuDNN writes the workspace before it reads it, and writes every value of the output.
        let (mut output, mut workspace) =
            unsafe { (device.alloc::<T>(self.values)?, device.alloc::<u8>(self.workspace_bytes.max(1))?) };
        let share = if residual.is_some() { 1.0 } else { 0.0 };
        // SAFETY: the descriptors have the shapes and the type of the tensors, which the operator has compared. A residual of no
        // share is not read.
        unsafe {
            self.forward().launch::<CudaSlice<u8>, CudaView<'_, T>, _, _>(
                ALGORITHM,
                Some(&mut workspace),
                (T::from_f64(1.0), T::from_f64(share)),
                &maps,
                &weight,
                residual.as_ref().unwrap_or(&maps),
                &bias,
                &mut output,
            )?;
        }
        Ok(CudaStorage::wrap_cuda_slice(output, device.clone()))
    }
}

fn view<T: CudaDType>((storage, layout): Operand<'_>) -> Result<CudaView<'_, T>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(storage.as_cuda_slice::<T>()?.slice(start..end)),
        None => candle_core::bail!("a convolution was given a tensor with gaps: {layout:?}"),
    }
}

fn signed(number: usize) -> Result<i32> {
    Ok(int(number)?.cast_signed())
}
