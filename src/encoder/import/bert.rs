//! The BERT encoder as an ONNX graph, with the operators that ONNX Runtime runs fastest on a CPU.
//!
//! *Shape*: `input_ids [batch × sequence] i64`, `attention_mask [batch × sequence] i64` → `last_hidden_state [batch × sequence × dims] f32`.
//!
//! - Queries, keys and values come from one matrix product; com.microsoft MultiHeadAttention adds their biases and masks the padding.
//! - Residuals are Add + LayerNormalization: the CPU kernel of the fused SkipLayerNormalization is several times slower.
//! - A text is one segment, so the embedding of segment 0 is added to the position table beforehand.
//!
//! *Source*: Devlin et al. 2019, "BERT", section 3; Vaswani et al. 2017, "Attention is all you need", section 3.

use serde::Deserialize;

use super::ImportError;
use super::onnx::{Attribute, Dim, ElementType, Graph, IR_VERSION, MICROSOFT, Model, Node, OPSET, OperatorSet, Tensor, ValueInfo};
use super::weights::{Weights, transpose};

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
/// [`ImportError::Weights`] when a tensor is missing or of another shape.
pub fn model(config: &BertConfig, weights: &Weights<'_>) -> Result<Model, ImportError> {
    let mut builder = Builder { config, weights, nodes: Vec::new(), tensors: Vec::new() };
    let mut hidden = builder.embeddings()?;
    builder.node("Cast", "mask", &["attention_mask"], vec![Attribute::int("to", ElementType::Int32 as i64)]);
    builder.tensors.push(Tensor::ints("split", &[config.hidden_size as i64; 3]));
    for layer in 0..config.num_hidden_layers {
        let output = if layer + 1 == config.num_hidden_layers { "last_hidden_state".to_owned() } else { format!("layer.{layer}") };
        hidden = builder.layer(layer, &hidden, &output)?;
    }
    let tokens = || vec![Dim::dynamic("batch"), Dim::dynamic("sequence")];
    let graph = Graph {
        node: builder.nodes,
        name: "bert".to_owned(),
        initializer: builder.tensors,
        input: ["input_ids", "attention_mask"].map(|name| ValueInfo::tensor(name, ElementType::Int64, tokens())).into(),
        output: vec![ValueInfo::tensor(&hidden, ElementType::Float, [tokens(), vec![Dim::fixed(config.hidden_size)]].concat())],
    };
    let opset = |domain: &str, version| OperatorSet { domain: domain.to_owned(), version };
    let opset_import = vec![opset("", OPSET), opset(MICROSOFT, 1)];
    Ok(Model { ir_version: IR_VERSION, producer_name: "kindred".to_owned(), graph: Some(graph), opset_import })
}

struct Builder<'a> {
    config: &'a BertConfig,
    weights: &'a Weights<'a>,
    nodes: Vec<Node>,
    tensors: Vec<Tensor>,
}

impl Builder<'_> {
    /// Word + position + segment embeddings, normalised.
    fn embeddings(&mut self) -> Result<String, ImportError> {
        let (h, n_positions) = (self.config.hidden_size, self.config.max_position_embeddings);
        let words = self.weights.floats("embeddings.word_embeddings.weight", &[self.config.vocab_size, h])?;
        let mut positions = self.weights.floats("embeddings.position_embeddings.weight", &[n_positions, h])?;
        let segments = self.weights.floats("embeddings.token_type_embeddings.weight", &[self.config.type_vocab_size, h])?;
        let segment_0 = segments.get(..h).unwrap_or(&[]).iter().cycle();
        positions.iter_mut().zip(segment_0).for_each(|(position, segment)| *position += segment);
        self.tensors.push(Tensor::floats("words", &[self.config.vocab_size, h], &words));
        self.tensors.push(Tensor::floats("positions", &[n_positions, h], &positions));
        self.tensors.push(Tensor::ints("zero", &[0]));
        self.node("Gather", "embeddings.words", &["words", "input_ids"], vec![]);
        self.node("Shape", "sequence", &["input_ids"], vec![Attribute::int("start", 1), Attribute::int("end", 2)]);
        self.node("Slice", "embeddings.positions", &["positions", "zero", "sequence"], vec![]);
        self.node("Add", "embeddings.sum", &["embeddings.words", "embeddings.positions"], vec![]);
        self.layer_norm("embeddings.LayerNorm", "embeddings.sum", "embeddings")
    }

    /// One transformer layer: attention, then the feed-forward network, each with its residual.
    fn layer(&mut self, layer: usize, input: &str, output: &str) -> Result<String, ImportError> {
        let (h, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let name = |tail: &str| format!("encoder.layer.{layer}.{tail}");
        let context = self.attention(layer, input)?;
        let attended = self.dense(&name("attention.output.dense"), &context, h, h)?;
        let attended = self.add_norm(&name("attention.output.LayerNorm"), &attended, input, &name("attended"))?;
        let wide = self.dense(&name("intermediate.dense"), &attended, h, inner)?;
        let activated = name("activated");
        self.microsoft_node("Gelu", &activated, &[&wide], vec![]);
        let narrow = self.dense(&name("output.dense"), &activated, inner, h)?;
        self.add_norm(&name("output.LayerNorm"), &narrow, &attended, output)
    }

    /// Multi-head self-attention before its output layer.
    fn attention(&mut self, layer: usize, input: &str) -> Result<String, ImportError> {
        let h = self.config.hidden_size;
        let name = |tail: &str| format!("encoder.layer.{layer}.attention.{tail}");
        let (mut merged, mut bias) = (Vec::with_capacity(3 * h * h), Vec::with_capacity(3 * h));
        for part in ["query", "key", "value"] {
            merged.extend(self.weights.floats(&name(&format!("self.{part}.weight")), &[h, h])?);
            bias.extend(self.weights.floats(&name(&format!("self.{part}.bias")), &[h])?);
        }
        let (weight_name, bias_name, qkv, context) = (name("qkv.weight"), name("qkv.bias"), name("qkv"), name("context"));
        self.tensors.push(Tensor::floats(&weight_name, &[h, 3 * h], &transpose(&merged, 3 * h, h)));
        self.tensors.push(Tensor::floats(&bias_name, &[3 * h], &bias));
        self.node("MatMul", &qkv, &[input, &weight_name], vec![]);
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
        Ok(context)
    }

    /// `input × weight + bias`.
    fn dense(&mut self, name: &str, input: &str, n_in: usize, n_out: usize) -> Result<String, ImportError> {
        let weight = self.weights.floats(&format!("{name}.weight"), &[n_out, n_in])?;
        let bias = self.weights.floats(&format!("{name}.bias"), &[n_out])?;
        let (weight_name, bias_name, product) = (format!("{name}.weight"), format!("{name}.bias"), format!("{name}.product"));
        self.tensors.push(Tensor::floats(&weight_name, &[n_in, n_out], &transpose(&weight, n_out, n_in)));
        self.tensors.push(Tensor::floats(&bias_name, &[n_out], &bias));
        self.node("MatMul", &product, &[input, &weight_name], vec![]);
        self.node("Add", name, &[&product, &bias_name], vec![]);
        Ok(name.to_owned())
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
            self.tensors.push(Tensor::floats(tensor, &[h], &values));
        }
        let attributes = vec![Attribute::int("axis", -1), Attribute::float("epsilon", self.config.layer_norm_eps)];
        self.node("LayerNormalization", output, &[input, &weight_name, &bias_name], attributes);
        Ok(output.to_owned())
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
