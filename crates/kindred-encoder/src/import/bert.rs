//! The BERT encoder, or a cross-encoder made of it, as an ONNX graph, with the operators that ONNX Runtime runs fastest on a CPU.
//!
//! *Shape*: `input_ids [batch × sequence] i64`, `attention_mask [batch × sequence] i64` → `last_hidden_state [batch × sequence × dims] f32`;
//! of a cross-encoder these and `token_type_ids [batch × sequence] i64` → `logits [batch × classes] f32`.
//!
//! - Queries, keys and values come from one matrix product; com.microsoft MultiHeadAttention adds their biases and masks the padding.
//! - Residuals are Add + LayerNormalization: the CPU kernel of the fused SkipLayerNormalization is several times slower.
//! - A text is one segment, so the embedding of segment 0 is added to the position table beforehand. A pair has two, which are looked up.
//! - In int8, each linear layer quantises its input by a fixed scale and multiplies bytes ([`super::int8`]); the rest stays f32.
//! - In fp16 all is computed in halves but the output, which is f32.
//!
//! *Source*: Devlin et al. 2019, "BERT", section 3; Vaswani et al. 2017, "Attention is all you need", section 3.

use serde::Deserialize;

use super::ImportError;
use super::calibration::{Calibration, Range};
use super::int8;
use super::onnx::{Attribute, Dim, ElementType, Graph, IR_VERSION, MICROSOFT, Model, Node, OPSET, OperatorSet, Tensor, ValueInfo};
use super::weights::{Weights, transpose};

/// What the linear layers compute with.
#[derive(Clone, Copy)]
pub enum Numbers<'a> {
    F32,
    F16,
    /// By the ranges that their inputs were seen to have.
    Int8(&'a Calibration),
}

/// What the graph puts out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// A vector for each token.
    Hidden,
    /// The logits of a pair, from the first token's vector: the pooler, tanh, the classifier.
    Logits { n_classes: usize },
}

/// What `config.json` says about a BERT encoder.
#[derive(Debug, Clone, Deserialize)]
pub struct BertConfig {
    pub model_type: String,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub max_position_embeddings: usize,
    pub vocab_size: usize,
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    #[serde(default = "default_epsilon")]
    pub layer_norm_eps: f32,
    #[serde(default = "gelu")]
    pub hidden_act: String,
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    #[serde(default)]
    pub is_decoder: bool,
}

fn two() -> usize {
    2
}
fn default_epsilon() -> f32 {
    1e-12
}
fn gelu() -> String {
    "gelu".to_owned()
}
fn absolute() -> String {
    "absolute".to_owned()
}

impl BertConfig {
    /// Refuses what the graph below would compute wrongly.
    ///
    /// # Errors
    /// [`ImportError::Unsupported`], naming the setting.
    pub fn check(&self) -> Result<(), ImportError> {
        let unsupported = |what: &'static str, found: &dyn ToString, supported| {
            Err(ImportError::Unsupported { what, found: found.to_string(), supported })
        };
        if self.model_type != "bert" {
            return unsupported("model_type in config.json", &self.model_type, "bert");
        }
        if self.position_embedding_type != "absolute" {
            return unsupported("position_embedding_type in config.json", &self.position_embedding_type, "absolute");
        }
        if self.hidden_act != "gelu" {
            return unsupported("hidden_act in config.json", &self.hidden_act, "gelu");
        }
        if self.is_decoder {
            return unsupported("is_decoder in config.json", &true, "false");
        }
        if self.num_attention_heads == 0 || self.hidden_size == 0 || !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return unsupported("num_attention_heads in config.json", &self.num_attention_heads, "a divisor of hidden_size");
        }
        Ok(())
    }

    /// Bytes that the weights will take in the ONNX file, or `None` if the number has no end.
    pub fn size_bytes(&self) -> Option<usize> {
        let (h, inner) = (self.hidden_size, self.intermediate_size);
        let attention = h.checked_mul(h)?.checked_mul(4)?;
        let layer = attention.checked_add(h.checked_mul(inner)?.checked_mul(2)?)?;
        let tables = h.checked_mul(self.vocab_size.checked_add(self.max_position_embeddings)?)?;
        layer.checked_mul(self.num_hidden_layers)?.checked_add(tables)?.checked_mul(4)
    }
}

/// Builds the graph.
///
/// # Errors
/// [`ImportError::Weights`] when a tensor is missing or of another shape; [`ImportError::Calibration`] when a range is.
pub fn model(config: &BertConfig, weights: &Weights<'_>, numbers: Numbers<'_>, output: Output) -> Result<Model, ImportError> {
    let mut builder = Builder { config, weights, numbers, nodes: Vec::new(), tensors: Vec::new() };
    let mut hidden = builder.embeddings(output)?;
    builder.node("Cast", "mask", &["attention_mask"], vec![Attribute::int("to", ElementType::Int32 as i64)]);
    builder.tensors.push(Tensor::ints("split", &[config.hidden_size as i64; 3]));
    let halves = matches!(numbers, Numbers::F16);
    let last = if halves || output != Output::Hidden { "hidden" } else { HIDDEN };
    for layer in 0..config.num_hidden_layers {
        let output = if layer + 1 == config.num_hidden_layers { last.to_owned() } else { format!("layer.{layer}") };
        hidden = builder.layer(layer, &hidden, &output)?;
    }
    let tokens = || vec![Dim::dynamic("batch"), Dim::dynamic("sequence")];
    let mut inputs = vec!["input_ids", "attention_mask"];
    let output = match output {
        Output::Hidden => ValueInfo::tensor(HIDDEN, ElementType::Float, [tokens(), vec![Dim::fixed(config.hidden_size)]].concat()),
        Output::Logits { n_classes } => {
            inputs.push("token_type_ids");
            hidden = builder.classifier(&hidden, n_classes, if halves { "logits.half" } else { LOGITS })?;
            ValueInfo::tensor(LOGITS, ElementType::Float, vec![Dim::dynamic("batch"), Dim::fixed(n_classes)])
        }
    };
    if halves {
        builder.node("Cast", output.name.as_str(), &[&hidden], vec![Attribute::int("to", ElementType::Float as i64)]);
    }
    let graph = Graph {
        node: builder.nodes,
        name: "bert".to_owned(),
        initializer: builder.tensors,
        input: inputs.into_iter().map(|name| ValueInfo::tensor(name, ElementType::Int64, tokens())).collect(),
        output: vec![output],
    };
    let opset = |domain: &str, version| OperatorSet { domain: domain.to_owned(), version };
    let opset_import = vec![opset("", OPSET), opset(MICROSOFT, 1)];
    Ok(Model { ir_version: IR_VERSION, producer_name: "kindred".to_owned(), graph: Some(graph), opset_import })
}

/// Makes the inputs of all linear layers outputs of the graph, too, so that their ranges can be seen. Returns name and width of each.
pub fn observed(config: &BertConfig, model: &mut Model) -> Vec<(String, usize)> {
    let (h, inner) = (config.hidden_size, config.intermediate_size);
    let of_layer = |layer: usize| {
        let name = |tail: &str| format!("encoder.layer.{layer}.{tail}");
        [(input_of(layer), h), (name("attention.context"), h), (name("attended"), h), (name("activated"), inner)]
    };
    let inputs: Vec<(String, usize)> = (0..config.num_hidden_layers).flat_map(of_layer).collect();
    let shape = |width| vec![Dim::dynamic("batch"), Dim::dynamic("sequence"), Dim::fixed(width)];
    let outputs = inputs.iter().map(|(name, width)| ValueInfo::tensor(name, ElementType::Float, shape(*width)));
    model.graph.as_mut().expect("a model that was built has a graph").output.extend(outputs);
    inputs
}

/// The graph's output.
const HIDDEN: &str = "last_hidden_state";
/// That of a cross-encoder.
const LOGITS: &str = "logits";

fn input_of(layer: usize) -> String {
    if layer == 0 { "embeddings".to_owned() } else { format!("layer.{}", layer - 1) }
}

struct Builder<'a> {
    config: &'a BertConfig,
    weights: &'a Weights<'a>,
    numbers: Numbers<'a>,
    nodes: Vec<Node>,
    tensors: Vec<Tensor>,
}

impl Builder<'_> {
    /// Word + position + segment embeddings, normalised.
    fn embeddings(&mut self, output: Output) -> Result<String, ImportError> {
        let (h, n_positions) = (self.config.hidden_size, self.config.max_position_embeddings);
        let words = self.weights.floats("embeddings.word_embeddings.weight", &[self.config.vocab_size, h])?;
        let mut positions = self.weights.floats("embeddings.position_embeddings.weight", &[n_positions, h])?;
        let segments = self.weights.floats("embeddings.token_type_embeddings.weight", &[self.config.type_vocab_size, h])?;
        if output == Output::Hidden {
            let segment_0 = segments.get(..h).unwrap_or(&[]).iter().cycle();
            positions.iter_mut().zip(segment_0).for_each(|(position, segment)| *position += segment);
        }
        let table = [self.config.vocab_size, h];
        if matches!(self.numbers, Numbers::Int8(_)) {
            // The table is most of a small model, and halves are more exact than what follows.
            self.tensors.push(Tensor::halves("words.half", &table, &words));
            self.node("Gather", "embeddings.halves", &["words.half", "input_ids"], vec![]);
            self.node("Cast", "embeddings.words", &["embeddings.halves"], vec![Attribute::int("to", ElementType::Float as i64)]);
        } else {
            self.numbers("words", &table, &words);
            self.node("Gather", "embeddings.words", &["words", "input_ids"], vec![]);
        }
        self.numbers("positions", &[n_positions, h], &positions);
        self.tensors.push(Tensor::ints("zero", &[0]));
        self.node("Shape", "sequence", &["input_ids"], vec![Attribute::int("start", 1), Attribute::int("end", 2)]);
        self.node("Slice", "embeddings.positions", &["positions", "zero", "sequence"], vec![]);
        let mut placed = "embeddings.positions";
        if output != Output::Hidden {
            self.numbers("segments", &[self.config.type_vocab_size, h], &segments);
            self.node("Gather", "embeddings.segments", &["segments", "token_type_ids"], vec![]);
            self.node("Add", "embeddings.placed", &["embeddings.segments", placed], vec![]);
            placed = "embeddings.placed";
        }
        self.node("Add", "embeddings.sum", &["embeddings.words", placed], vec![]);
        self.layer_norm("embeddings.LayerNorm", "embeddings.sum", "embeddings")
    }

    /// One transformer layer: attention, then the feed-forward network, each with its residual.
    fn layer(&mut self, layer: usize, input: &str, output: &str) -> Result<String, ImportError> {
        let (h, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let name = |tail: &str| format!("encoder.layer.{layer}.{tail}");
        let attended = self.attention(layer, input)?;
        let attended = self.add_norm(&name("attention.output.LayerNorm"), &attended, input, &name("attended"))?;
        let wide = self.dense(&name("intermediate.dense"), &attended, h, inner)?;
        let activated = name("activated");
        self.microsoft_node("Gelu", &activated, &[&wide], vec![]);
        let narrow = match self.numbers {
            Numbers::Int8(calibration) => {
                self.dense_beside_outliers(&name("output.dense"), &activated, calibration.range(&activated, inner)?, h)?
            }
            Numbers::F32 | Numbers::F16 => self.dense(&name("output.dense"), &activated, inner, h)?,
        };
        self.add_norm(&name("output.LayerNorm"), &narrow, &attended, output)
    }

    /// Multi-head self-attention with its output layer.
    fn attention(&mut self, layer: usize, input: &str) -> Result<String, ImportError> {
        let h = self.config.hidden_size;
        let name = |tail: &str| format!("encoder.layer.{layer}.attention.{tail}");
        let (mut merged, mut bias) = (Vec::with_capacity(3 * h * h), Vec::with_capacity(3 * h));
        for part in ["query", "key", "value"] {
            merged.extend(self.weights.floats(&name(&format!("self.{part}.weight")), &[h, h])?);
            bias.extend(self.weights.floats(&name(&format!("self.{part}.bias")), &[h])?);
        }
        let context = name("context");
        let (mut out_weight, out_bias) = self.weight_and_bias(&name("output.dense"), h, h)?;
        let mut out_range = None;
        if let Numbers::Int8(calibration) = self.numbers {
            // Attention hands the values' channels through: what they are divided by here, the output layer multiplies again.
            let range = calibration.range(&context, h)?;
            let smoothing = int8::Smoothing::of(&range, &out_weight, h, int8::VALUE_ALPHA);
            // Rows of `merged` are output channels, the values' are its last `h`.
            smoothing.divide_rows(&mut merged[2 * h * h..], &mut bias[2 * h..]);
            out_range = Some(smoothing.multiply_rows(&mut out_weight, range));
        }
        let (bias_name, qkv) = (name("qkv.bias"), name("qkv"));
        self.product(&qkv, &qkv, input, &transpose(&merged, 3 * h, h), (h, 3 * h))?;
        self.numbers(&bias_name, &[3 * h], &bias);
        let parts = ["q", "k", "v"].map(&name);
        self.nodes.push(Node {
            input: vec![qkv.clone(), "split".to_owned()],
            output: parts.to_vec(),
            name: name("split"),
            op_type: "Split".to_owned(),
            attribute: vec![Attribute::int("axis", -1)],
            domain: String::new(),
        });
        let [q, k, v] = &parts;
        let heads = Attribute::int("num_heads", self.config.num_attention_heads as i64);
        self.microsoft_node("MultiHeadAttention", &context, &[q, k, v, &bias_name, "mask"], vec![heads]);
        let output = name("output.dense");
        match out_range {
            Some(range) => self.quantized(&output, &context, &int8::Layer::of(&out_weight, (h, h), &range, None), Some(&out_bias)),
            None => self.linear(&output, &context, &out_weight, &out_bias)?,
        }
        Ok(output)
    }

    /// The first token's vector, through the pooler and the classifier.
    fn classifier(&mut self, hidden: &str, n_classes: usize, output: &str) -> Result<String, ImportError> {
        let h = self.config.hidden_size;
        self.tensors.push(Tensor::int("first", 0));
        self.node("Gather", "first_token", &[hidden, "first"], vec![Attribute::int("axis", 1)]);
        let dense = self.dense("pooler.dense", "first_token", h, h)?;
        self.node("Tanh", "pooled", &[&dense], vec![]);
        // The classifier is no part of the encoder: its tensors' names have not the prefix of the others.
        let weight = self.weights.floats_at("classifier.weight", &[n_classes, h])?;
        let bias = self.weights.floats_at("classifier.bias", &[n_classes])?;
        self.linear(output, "pooled", &transpose(&weight, n_classes, h), &bias)?;
        Ok(output.to_owned())
    }

    /// `input × weight + bias` by the layer's name.
    fn dense(&mut self, name: &str, input: &str, n_in: usize, n_out: usize) -> Result<String, ImportError> {
        let (weight, bias) = self.weight_and_bias(name, n_in, n_out)?;
        self.linear(name, input, &weight, &bias)?;
        Ok(name.to_owned())
    }

    /// The same in bytes, but for the input channels that reach furthest, which stay f32.
    fn dense_beside_outliers(&mut self, name: &str, input: &str, mut range: Range, n_out: usize) -> Result<String, ImportError> {
        let n_in = range.low.len();
        let (mut weight, bias) = self.weight_and_bias(name, n_in, n_out)?;
        let outliers = int8::Outliers::take(&mut weight, &mut range, n_out);
        let part = |tail: &str| format!("{name}.{tail}");
        let (most, channels, loud, loud_weight, product) =
            (part("most"), part("outlier_channels"), part("outliers"), part("outlier_weight"), part("outlier_product"));
        self.quantized(&most, input, &int8::Layer::of(&weight, (n_in, n_out), &range, None), Some(&bias));
        self.tensors.push(Tensor::ints(&channels, &outliers.channels));
        self.tensors.push(Tensor::floats(&loud_weight, &[outliers.channels.len(), n_out], &outliers.weight));
        self.node("Gather", &loud, &[input, &channels], vec![Attribute::int("axis", -1)]);
        self.node("MatMul", &product, &[&loud, &loud_weight], vec![]);
        self.node("Add", name, &[&most, &product], vec![]);
        Ok(name.to_owned())
    }

    /// A layer's weights `[n_in × n_out]` and bias `[n_out]`.
    fn weight_and_bias(&self, name: &str, n_in: usize, n_out: usize) -> Result<(Vec<f32>, Vec<f32>), ImportError> {
        let weight = self.weights.floats(&format!("{name}.weight"), &[n_out, n_in])?;
        let bias = self.weights.floats(&format!("{name}.bias"), &[n_out])?;
        Ok((transpose(&weight, n_out, n_in), bias))
    }

    fn linear(&mut self, name: &str, input: &str, weight: &[f32], bias: &[f32]) -> Result<(), ImportError> {
        let (n_out, n_in) = (bias.len(), weight.len() / bias.len());
        if let Numbers::Int8(calibration) = self.numbers {
            return self.smoothed(calibration, name, input, (weight, n_out), Some(bias));
        }
        let (bias_name, product) = (format!("{name}.bias"), format!("{name}.product"));
        self.product(&product, name, input, weight, (n_in, n_out))?;
        self.numbers(&bias_name, &[n_out], bias);
        self.node("Add", name, &[&product, &bias_name], vec![]);
        Ok(())
    }

    /// `input × weight` of a layer.
    fn product(&mut self, name: &str, layer: &str, input: &str, weight: &[f32], (n_in, n_out): (usize, usize)) -> Result<(), ImportError> {
        if let Numbers::Int8(calibration) = self.numbers {
            return self.smoothed(calibration, name, input, (weight, n_out), None);
        }
        let weight_name = format!("{layer}.weight");
        self.numbers(&weight_name, &[n_in, n_out], weight);
        self.node("MatMul", name, &[input, &weight_name], vec![]);
        Ok(())
    }

    /// A linear layer in bytes, by the range of its input; the weights have `n_out` columns.
    fn smoothed(
        &mut self,
        calibration: &Calibration,
        name: &str,
        input: &str,
        (weight, n_out): (&[f32], usize),
        bias: Option<&[f32]>,
    ) -> Result<(), ImportError> {
        let n_in = weight.len() / n_out;
        let layer = int8::Layer::smoothed(weight, (n_in, n_out), &calibration.range(input, n_in)?);
        self.quantized(name, input, &layer, bias);
        Ok(())
    }

    /// A linear layer in bytes: smooth, quantise, multiply, and back to f32 with the bias.
    fn quantized(&mut self, name: &str, input: &str, layer: &int8::Layer, bias: Option<&[f32]>) {
        let part = |tail: &str| format!("{name}.{tail}");
        let (scale, zero, weight, weight_scale, weight_zero) =
            (part("input_scale"), part("input_zero"), part("weight"), part("weight_scale"), part("weight_zero"));
        let (n_in, n_out) = layer.shape;
        self.tensors.push(Tensor::float(&scale, layer.input_scale));
        self.tensors.push(Tensor::byte(&zero, layer.input_zero));
        self.tensors.push(Tensor::signed_bytes(&weight, &[n_in, n_out], &layer.weight));
        self.tensors.push(Tensor::floats(&weight_scale, &[n_out], &layer.weight_scale));
        self.tensors.push(Tensor::signed_bytes(&weight_zero, &[n_out], &vec![0; n_out]));
        let mut input = input.to_owned();
        if let Some(smoothing) = &layer.input_factors {
            let (factors, smoothed) = (part("input_factors"), part("smoothed"));
            self.tensors.push(Tensor::floats(&factors, &[n_in], smoothing));
            self.node("Mul", &smoothed, &[&input, &factors], vec![]);
            input = smoothed;
        }
        let quantized = part("quantized");
        self.node("QuantizeLinear", &quantized, &[&input, &scale, &zero], vec![]);
        let mut inputs = vec![&*quantized, &weight, &scale, &weight_scale, &zero, &weight_zero];
        let bias_name = part("bias");
        if let Some(bias) = bias {
            self.tensors.push(Tensor::floats(&bias_name, &[n_out], bias));
            inputs.push(&bias_name);
        }
        self.microsoft_node("MatMulIntegerToFloat", name, &inputs, vec![]);
    }

    fn add_norm(&mut self, name: &str, a: &str, b: &str, output: &str) -> Result<String, ImportError> {
        let sum = format!("{name}.sum");
        self.node("Add", &sum, &[a, b], vec![]);
        self.layer_norm(name, &sum, output)
    }

    fn layer_norm(&mut self, name: &str, input: &str, output: &str) -> Result<String, ImportError> {
        let h = self.config.hidden_size;
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        for tensor in [&weight_name, &bias_name] {
            let values = self.weights.floats(tensor, &[h])?;
            self.numbers(tensor, &[h], &values);
        }
        let attributes = vec![Attribute::int("axis", -1), Attribute::float("epsilon", self.config.layer_norm_eps)];
        self.node("LayerNormalization", output, &[input, &weight_name, &bias_name], attributes);
        Ok(output.to_owned())
    }

    /// A tensor of the numbers that the graph computes with where it does not multiply bytes.
    fn numbers(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        self.tensors.push(match self.numbers {
            Numbers::F16 => Tensor::halves(name, dims, values),
            Numbers::F32 | Numbers::Int8(_) => Tensor::floats(name, dims, values),
        });
    }

    fn node(&mut self, op_type: &str, output: &str, input: &[&str], attribute: Vec<Attribute>) {
        self.push(op_type, "", output, input, attribute);
    }

    fn microsoft_node(&mut self, op_type: &str, output: &str, input: &[&str], attribute: Vec<Attribute>) {
        self.push(op_type, MICROSOFT, output, input, attribute);
    }

    fn push(&mut self, op_type: &str, domain: &str, output: &str, input: &[&str], attribute: Vec<Attribute>) {
        self.nodes.push(Node {
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: format!("{output}/{op_type}"),
            op_type: op_type.to_owned(),
            attribute,
            domain: domain.to_owned(),
        });
    }
}
