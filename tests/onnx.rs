//! Exported ONNX files are sound: they decode, every input of a node is made before, parameters are all there once, and the
//! metadata says how to feed them. What they compute is compared in ONNX Runtime by `.ci/onnx`.
#![cfg(feature = "onnx")]

use std::collections::BTreeSet;

use heartlore::error::Kind;
use heartlore::model::onnx::{OPSET, proto};
use heartlore::model::{BandPass, Model, Output, Preprocessing, Task};
use heartlore::nn::{Activation, EncoderNorm, ModelConfig, NormOrder, Pooling, Positions};
use heartlore::signal::Normalisation;
use prost::Message;

fn classifier() -> Task {
    Task::Classifier { positive: "stressed".into(), negative: "calm".into(), threshold: 0.4 }
}

fn decode(bytes: &[u8]) -> proto::ModelProto {
    proto::ModelProto::decode(bytes).unwrap()
}

fn check(model: &Model, output: Output, name: &str, rest: &[i64]) {
    let file = decode(&model.to_onnx(output).unwrap());
    assert_eq!((file.ir_version, file.opset_import[0].version), (8, OPSET));
    let graph = file.graph.unwrap();
    let mut made: BTreeSet<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
    assert_eq!(made.len(), graph.initializer.len(), "an initializer is there twice");
    for tensor in &graph.initializer {
        let n: i64 = tensor.dims.iter().product();
        let each = if tensor.data_type == proto::INT64 { 8 } else { 4 };
        assert_eq!(tensor.raw_data.len(), each * n as usize, "{}", tensor.name);
    }
    made.extend(graph.input.iter().map(|v| v.name.clone()));
    let mut read = BTreeSet::new();
    for node in &graph.node {
        for input in &node.input {
            assert!(made.contains(input), "{} reads {input} before it is made", node.name);
            read.insert(input.clone());
        }
        for made_here in &node.output {
            assert!(made.insert(made_here.clone()), "{made_here} is made twice");
        }
    }
    assert_eq!(graph.output[0].name, name);
    assert!(made.contains(name));
    made.remove(name);
    assert_eq!(made, read, "something is made and never read");
    let shape = |v: &proto::ValueInfoProto| {
        let tensor = v.r#type.clone().unwrap().tensor_type.unwrap();
        tensor.shape.unwrap().dim
    };
    let dims = shape(&graph.output[0]);
    assert_eq!(dims[0].dim_param.as_deref(), Some("batch"));
    assert_eq!(dims[1..].iter().map(|d| d.dim_value.unwrap()).collect::<Vec<_>>(), rest);
    assert_eq!(shape(&graph.input[0])[1].dim_value, Some(model.config().window as i64));
}

#[test]
fn every_choice_of_the_configuration_is_exported() {
    let base = ModelConfig {
        window: 160,
        channels: vec![4, 8],
        kernels: vec![5, 3],
        strides: vec![4, 2],
        ..ModelConfig::tiny()
    };
    let base = ModelConfig { hidden: 12, head_hidden: vec![6], ..base };
    for pooling in [Pooling::Cls, Pooling::Mean, Pooling::Max, Pooling::Last] {
        for norm_order in [NormOrder::Post, NormOrder::Pre] {
            for (positions, embed_norm, encoder_norm, activation) in [
                (Positions::Sinusoidal, true, EncoderNorm::First, Activation::Relu),
                (Positions::Learned, false, EncoderNorm::Every, Activation::Gelu),
                (Positions::None, true, EncoderNorm::None, Activation::GeluTanh),
                (Positions::Sinusoidal, false, EncoderNorm::None, Activation::Tanh),
                (Positions::Learned, true, EncoderNorm::First, Activation::Sigmoid),
            ] {
                let cls = pooling == Pooling::Cls;
                let config = ModelConfig {
                    pooling,
                    norm_order,
                    positions,
                    embed_norm,
                    encoder_norm,
                    activation,
                    cls,
                    ..base.clone()
                };
                let model = Model::init(config.clone(), classifier(), 3).unwrap();
                check(&model, Output::Logit, "probability", &[]);
                check(&model, Output::Features, "features", &[8]);
                let pretrained = Model::init(config, Task::Pretrained, 3).unwrap();
                check(&pretrained, Output::Reconstruction, "reconstruction", &[160]);
            }
        }
    }
}

#[test]
fn metadata_says_how_to_feed_it_and_what_is_not_there_is_refused() {
    let mut model = Model::init(ModelConfig::tiny(), classifier(), 3).unwrap();
    assert_eq!(model.to_onnx(Output::Reconstruction).unwrap_err().kind(), Kind::Usage);
    model.preprocessing = Some(Preprocessing {
        rate_hz: 128.0,
        window: 1280,
        hop: 640,
        filter: Some(BandPass { order: 4, low_hz: 0.8, high_hz: 50.0, zero_phase: true }),
        normalisation: Normalisation::Window,
        unit: "z-score".into(),
        quality_gate: heartlore::model::QualityGate::On(heartlore::signal::QualitySettings::default()),
    });
    let file = decode(&model.to_onnx(Output::Logit).unwrap());
    let get = |key: &str| file.metadata_props.iter().find(|p| p.key == key).map(|p| p.value.clone()).unwrap();
    assert_eq!(
        (get("rate_hz"), get("threshold"), get("positive")),
        ("128".into(), "0.4".into(), "stressed".into())
    );
    assert_eq!(get("filter"), "butterworth band-pass, order 4, 0.8 to 50 Hz, zero phase");
    assert_eq!(get("normalisation"), "window");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    model.save_onnx(&path, Output::Logit).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), model.to_onnx(Output::Logit).unwrap());
}
