//! The values that a pickle is made of.

use std::sync::Arc;

use candle_core::DType;

/// A tensor as the pickle describes it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::weights) struct TensorRef {
    /// Where its elements are.
    pub(in crate::weights) data: TensorData,
    /// Element type; `None` for types that no network reads.
    pub(in crate::weights) dtype: Option<DType>,
    /// Index of its first element there.
    pub(in crate::weights) offset: usize,
    pub(in crate::weights) shape: Vec<usize>,
    pub(in crate::weights) strides: Vec<usize>,
}

/// What a tensor is a view of.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::weights) enum TensorData {
    /// A storage, by its name: a file in the archive's `data` folder.
    Storage(Arc<str>),
    /// Bytes in the pickle.
    Inline(Inline),
}

/// Bytes in the pickle itself.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::weights) struct Inline {
    /// Position in the pickle.
    pub(in crate::weights) start: usize,
    /// Bytes there.
    pub(in crate::weights) len: usize,
    /// Bytes that they stand for: fewer if they are text in UTF-8, each of whose characters is the byte of its number.
    pub(in crate::weights) count: usize,
}

/// Index of a value in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::weights) struct ValueId(pub(super) usize);

#[derive(Debug)]
pub(super) enum PickleValue {
    /// Numbers and objects of any class: no tensor, and nothing that leads to one.
    Opaque,
    /// An object of a foreign class, with the dictionary of its attributes.
    Object(ValueId),
    Int(i64),
    Text {
        text: Arc<str>,
        /// Its position in the pickle; `None` if that has it with quotes and escapes.
        start: Option<usize>,
    },
    Bytes(Inline),
    Sequence(Vec<ValueId>),
    Dict(Vec<(ValueId, ValueId)>),
    Global(Global),
    Storage {
        key: Arc<str>,
        /// `None` for types that no network reads, and for untyped storages, whose tensors state their type themselves.
        dtype: Option<DType>,
    },
    Tensor(TensorRef),
    /// An array of numpy that has not been given its elements.
    EmptyArray,
}

/// The type of a storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct StorageType {
    /// `None` for types that no network reads.
    pub(super) dtype: Option<DType>,
    /// Bytes of an element; 0 if the type is not known.
    pub(super) element_bytes: usize,
}

impl StorageType {
    fn by_name(name: &str) -> Self {
        let dtype = match name {
            "FloatStorage" => Some(DType::F32),
            "HalfStorage" => Some(DType::F16),
            "BFloat16Storage" => Some(DType::BF16),
            "DoubleStorage" => Some(DType::F64),
            _ => None,
        };
        let element_bytes = match name {
            "ComplexDoubleStorage" => 16,
            "DoubleStorage" | "LongStorage" | "ComplexFloatStorage" => 8,
            "FloatStorage" | "IntStorage" | "QInt32Storage" => 4,
            "HalfStorage" | "BFloat16Storage" | "ShortStorage" => 2,
            "CharStorage" | "ByteStorage" | "BoolStorage" | "UntypedStorage" | "QInt8Storage" | "QUInt8Storage"
            | "QUInt4x2Storage" | "QUInt2x4Storage" => 1,
            _ => 0,
        };
        Self { dtype, element_bytes }
    }
}

/// What a class or function that a pickle names means to this reader.
#[derive(Clone, Copy, Debug)]
pub(super) enum Global {
    /// A dictionary.
    Dict,
    /// A function that makes a tensor of a storage, offset, size and stride, with the storage's element type.
    RebuildTensor,
    /// The same, but its seventh argument is the element type.
    RebuildTypedTensor,
    /// A wrapper, such as `nn.Parameter`: its first argument is the tensor.
    Wrapper,
    /// A function whose first argument is one of these functions, and whose third are the arguments for it.
    RebuildFromType,
    /// The function that makes an empty array of numpy.
    EmptyArray,
    /// The function that makes an array of numpy from bytes.
    ArrayOfBuffer,
    /// The class of numpy's element types.
    ArrayType,
    /// The function that turns text into bytes.
    Encode,
    /// The type of a storage.
    Storage(StorageType),
    /// An element type.
    ElementType(Option<DType>),
    /// Any other class or function. It is never run; its result is opaque.
    Foreign,
}

impl Global {
    pub(super) fn by_name(module: &str, name: &str) -> Self {
        match (module, name) {
            ("collections", "OrderedDict" | "defaultdict") => Self::Dict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v3") => Self::RebuildTypedTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
            | ("torch.nn.parameter" | "torch.nn", "Parameter" | "Buffer") => Self::Wrapper,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::RebuildFromType,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Self::EmptyArray,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::ArrayOfBuffer,
            ("numpy", "dtype") => Self::ArrayType,
            ("_codecs", "encode") => Self::Encode,
            ("torch" | "torch.cuda" | "torch.storage", name) if name.ends_with("Storage") => {
                Self::Storage(StorageType::by_name(name))
            }
            ("torch", "float32" | "float") => Self::ElementType(Some(DType::F32)),
            ("torch", "float16" | "half") => Self::ElementType(Some(DType::F16)),
            ("torch", "bfloat16") => Self::ElementType(Some(DType::BF16)),
            ("torch", "float64" | "double") => Self::ElementType(Some(DType::F64)),
            _ => Self::Foreign,
        }
    }
}
