//! The part of ONNX's protobuf format that an exported encoder needs.
//!
//! *Source*: `onnx.proto` of ONNX 1.12 (IR version 8); the tags below are its field numbers.

use half::f16;
use prost::Message;

/// IR version that goes with opset 17.
pub const IR_VERSION: i64 = 8;
/// Version of the standard operators: the first with LayerNormalization.
pub const OPSET: i64 = 17;
/// Where ONNX Runtime's fused operators live.
pub const MICROSOFT: &str = "com.microsoft";

#[derive(Clone, PartialEq, Message)]
pub struct Model {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(int32, tag = "20")]
    pub kind: i32,
}

impl Attribute {
    /// A whole number.
    pub fn int(name: &str, value: i64) -> Self {
        Self { name: name.to_owned(), f: None, i: Some(value), kind: 2 }
    }

    /// A real number.
    pub fn float(name: &str, value: f32) -> Self {
        Self { name: name.to_owned(), f: Some(value), i: None, kind: 1 }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
}

impl Tensor {
    /// Real numbers of any shape.
    pub fn floats(name: &str, dims: &[usize], values: &[f32]) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "{name} has as many numbers as its shape says");
        Self::raw(name, dims, ElementType::Float, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// The same numbers in half precision; what is too large for it becomes its largest.
    pub fn halves(name: &str, dims: &[usize], values: &[f32]) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "{name} has as many numbers as its shape says");
        let half = |x: &f32| f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())).to_le_bytes();
        Self::raw(name, dims, ElementType::Float16, values.iter().flat_map(half).collect())
    }

    /// Signed bytes of any shape.
    pub fn signed_bytes(name: &str, dims: &[usize], values: &[i8]) -> Self {
        Self::raw(name, dims, ElementType::Int8, values.iter().map(|x| x.cast_unsigned()).collect())
    }

    /// One real number, without dimensions.
    pub fn float(name: &str, value: f32) -> Self {
        Self::floats(name, &[], &[value])
    }

    /// One unsigned byte, without dimensions.
    pub fn byte(name: &str, value: u8) -> Self {
        Self::raw(name, &[], ElementType::UInt8, vec![value])
    }

    /// One whole number, without dimensions.
    pub fn int(name: &str, value: i64) -> Self {
        Self::raw(name, &[], ElementType::Int64, value.to_le_bytes().to_vec())
    }

    /// A list of whole numbers.
    pub fn ints(name: &str, values: &[i64]) -> Self {
        Self::raw(name, &[values.len()], ElementType::Int64, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn raw(name: &str, dims: &[usize], kind: ElementType, raw_data: Vec<u8>) -> Self {
        Self { dims: dims.iter().map(|&d| d as i64).collect(), data_type: kind as i32, name: name.to_owned(), raw_data }
    }
}

/// The element types that the exported graph uses.
#[derive(Debug, Clone, Copy)]
pub enum ElementType {
    Float = 1,
    UInt8 = 2,
    Int8 = 3,
    Int32 = 6,
    Int64 = 7,
    Float16 = 10,
}

#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub kind: Option<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ValueType {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    #[prost(int32, tag = "1")]
    pub element_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Dim {
    #[prost(int64, optional, tag = "1")]
    pub value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub symbol: Option<String>,
}

impl Dim {
    /// A fixed length.
    pub fn fixed(value: usize) -> Self {
        Self { value: Some(value as i64), symbol: None }
    }

    /// A length that each run chooses.
    pub fn dynamic(symbol: &str) -> Self {
        Self { value: None, symbol: Some(symbol.to_owned()) }
    }
}

impl ValueInfo {
    /// An input or output of the graph.
    pub fn tensor(name: &str, element_type: ElementType, dim: Vec<Dim>) -> Self {
        let tensor = TensorType { element_type: element_type as i32, shape: Some(Shape { dim }) };
        Self { name: name.to_owned(), kind: Some(ValueType { tensor: Some(tensor) }) }
    }
}
