//! The safetensors container against the `safetensors` crate, against a file by the Python package, and bad headers.

use crate::checkpoint::safetensors::{Metadata, read, read_bytes, write, write_to};
use crate::checkpoint::{Dtype, TensorView};
use crate::error::Kind;
use std::borrow::Cow;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// The error for a file with this header and `data` zero bytes.
fn trouble(header: &str, data: usize) -> String {
    let e = read_bytes(&file(header, &vec![0; data])).expect_err(header);
    assert_eq!(e.kind(), Kind::Format);
    assert!(e.to_string().contains("remedy"), "{e}");
    e.to_string()
}

fn refuse(header: &str, data: usize, what: &str) {
    let e = trouble(header, data);
    assert!(e.contains(what), "{header}: {e}");
}

#[test]
fn each_fault_of_a_header_has_its_own_error() {
    let a = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert!(read_bytes(&file(a, &[0; 8])).is_ok());
    assert!(read_bytes(&file(&format!("{a}   "), &[0; 8])).is_ok());
    refuse(a, 7, "tensor \"a\": ends at byte 8 of 7: the file is cut off");
    refuse(a, 9, "1 bytes after the last tensor");
    refuse(&format!(" {a}"), 8, "does not start with '{'");
    refuse(&format!("{a}x"), 8, "after the end");
    refuse("", 0, "does not start with '{'");
    refuse("{", 0, "byte 1");
    refuse(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9]}}"#, 9, "F32 [2] needs 8 bytes");
    refuse(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8, "a hole");
    refuse(r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,-1]}}"#, 0, "non-negative integer");
    refuse(r#"{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#, 4, "non-negative integer");
    refuse(r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0]}}"#, 4, "must be two numbers");
    refuse(r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4,4]}}"#, 4, "more than 2 numbers");
    refuse(r#"{"a":{"dtype":"F8_E4M3","shape":[],"data_offsets":[0,1]}}"#, 1, "\"F8_E4M3\" is not known");
    refuse(r#"{"a":{"dtype":"F32","shape":[]}}"#, 4, "data_offsets is missing");
    refuse(r#"{"a":{"dtype":"F32","data_offsets":[0,4]}}"#, 4, "shape is missing");
    refuse(r#"{"a":{"shape":[],"data_offsets":[0,4]}}"#, 4, "dtype is missing");
    refuse(r#"{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}"#, 4, "dtype occurs twice");
    refuse(r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4],"x":1}}"#, 4, "unknown field \"x\"");
    refuse(r#"{"a":1}"#, 0, "expected '{'");
    refuse(r#"{"__metadata__":{"a":1}}"#, 0, "expected '\"'");
    refuse(r#"{"__metadata__":{"a":"","a":""}}"#, 0, "the key \"a\" twice");
    refuse(r#"{"__metadata__":{},"__metadata__":{}}"#, 0, "__metadata__ occurs twice");
    let big = "18446744073709551615";
    refuse(
        &format!(r#"{{"a":{{"dtype":"F32","shape":[{big},{big}],"data_offsets":[0,4]}}}}"#),
        4,
        "overflows",
    );
    refuse(&format!(r#"{{"a":{{"dtype":"F32","shape":[{big}],"data_offsets":[0,4]}}}}"#), 4, "overflows");
    refuse(&format!(r#"{{"a":{{"dtype":"U8","shape":[{big}],"data_offsets":[0,{big}]}}}}"#), 4, "cut off");
    let rank = ["1"; 65].join(",");
    refuse(
        &format!(r#"{{"a":{{"dtype":"U8","shape":[{rank}],"data_offsets":[0,1]}}}}"#),
        1,
        "more than 64 numbers",
    );
    let two = |b: &str, c: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},"{b}":{{"dtype":"F32","shape":[1],"data_offsets":{c}}}}}"#
        )
    };
    assert!(read_bytes(&file(&two("b", "[4,8]"), &[0; 8])).is_ok());
    refuse(&two("a", "[4,8]"), 8, "tensor \"a\": the tensor occurs twice");
    refuse(&two("b", "[5,9]"), 9, "tensor \"b\": a hole: starts at byte 5, not at 4");
    refuse(&two("b", "[3,7]"), 7, "tensor \"b\": an overlap");
    refuse(&two("b", "[0,4]"), 8, "an overlap");
}

#[test]
fn the_claimed_header_length_is_checked_first() {
    let claim = |n: u64| read_bytes(&[&n.to_le_bytes()[..], b"{}"].concat()).unwrap_err().to_string();
    assert!(claim(u64::MAX).contains("more than the format's"));
    assert!(claim(100_000_001).contains("more than the format's"));
    assert!(claim(100_000_000).contains("only 2 follow"));
    assert!(claim(3).contains("only 2 follow"));
    assert!(read_bytes(b"1234567").unwrap_err().to_string().contains("7 bytes, fewer than the 8"));
}

#[test]
fn files_that_are_not_there_or_not_files() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(dir.path()).unwrap_err().kind(), Kind::Io);
    let e = read(dir.path().join("none.safetensors")).unwrap_err();
    assert!(e.kind() == Kind::Io && e.to_string().contains("none.safetensors"));
    let path = dir.path().join("x.safetensors");
    std::fs::write(&path, b"\x02\0\0\0\0\0\0\0{]").unwrap();
    let e = read(&path).unwrap_err();
    assert_eq!(e.file(), Some(path.as_path()));
}

fn sample() -> (Vec<TensorView<'static>>, Metadata) {
    static W: [f32; 6] = [1.0, -2.5, 3.25, f32::NAN, f32::INFINITY, -0.0];
    static D: [f64; 2] = [0.1, -1e300];
    static I: [i64; 3] = [i64::MIN, 0, 7];
    static B: [u8; 5] = [0, 1, 2, 254, 255];
    let raw = |name, dtype, shape: &[usize], data: &'static [u8]| TensorView {
        name,
        dtype,
        shape: shape.to_vec(),
        data: Cow::Borrowed(data),
    };
    let tensors = vec![
        TensorView::new("z.weight", &[2, 3], &W),
        TensorView::new("a.\"quoted\"\n\u{e9}", &[2], &D),
        TensorView::new("ids", &[3, 1], &I),
        TensorView::new("bytes", &[5], &B),
        TensorView::new("scalar", &[], &[-7i32]),
        TensorView::new("empty", &[0, 3], &[] as &[f32]),
        raw("half", Dtype::F16, &[2], &[0x00, 0x3c, 0x01, 0x00]),
        raw("brain", Dtype::Bf16, &[1], &[0x49, 0xc0]),
        raw("flag", Dtype::Bool, &[2], &[0, 1]),
    ];
    (tensors, Metadata::from([("format".into(), "pt".into())]))
}

#[test]
fn bytes_equal_the_safetensors_crate_and_it_reads_them() {
    use safetensors::tensor as st;
    let dtype = |d: Dtype| match d {
        Dtype::F32 => st::Dtype::F32,
        Dtype::F64 => st::Dtype::F64,
        Dtype::I64 => st::Dtype::I64,
        Dtype::I32 => st::Dtype::I32,
        Dtype::U8 => st::Dtype::U8,
        Dtype::F16 => st::Dtype::F16,
        Dtype::Bf16 => st::Dtype::BF16,
        Dtype::Bool => st::Dtype::BOOL,
        other => panic!("{other:?}"),
    };
    let (tensors, metadata) = sample();
    for with_metadata in [true, false] {
        let theirs_in: Vec<_> = tensors
            .iter()
            .map(|t| (t.name, st::TensorView::new(dtype(t.dtype), t.shape.clone(), &t.data).unwrap()))
            .collect();
        let info = with_metadata.then(|| metadata.clone().into_iter().collect());
        let theirs = st::serialize(theirs_in, info).unwrap();
        let mut ours = Vec::new();
        let metadata = if with_metadata { metadata.clone() } else { Metadata::new() };
        write_to(&mut ours, &tensors, &metadata).unwrap();
        assert_eq!(ours, theirs);
        let back = st::SafeTensors::deserialize(&ours).unwrap();
        for t in &tensors {
            assert_eq!(back.tensor(t.name).unwrap().data(), &t.data[..]);
        }
    }
}

#[test]
fn reads_and_rewrites_the_file_of_the_python_package() {
    let theirs = include_bytes!("../../../tests/oracles/checkpoint/python.safetensors");
    let mut reader = read_bytes(theirs).unwrap();
    assert_eq!(reader.metadata().get("format").map(String::as_str), Some("pt"));
    let names: Vec<&str> = reader.names().collect();
    assert_eq!(names, ["conv.weight", "double", "half", "ids", "norm.bias", "scalar"]);
    let w: Vec<f32> = (0..6).map(|i| i as f32 * 0.5 - 1.0).collect();
    assert_eq!(reader.get_f32("conv.weight", &[1, 2, 3]).unwrap(), w);
    assert_eq!(reader.get_f32("double", &[2]).unwrap(), [0.1f64 as f32, -2.0]);
    assert_eq!(reader.get_f32("half", &[3]).unwrap(), [1.0, -0.5, 65504.0]);
    assert_eq!(reader.get::<i64>("ids", &[2]).unwrap(), [-1, 1 << 40]);
    assert_eq!(reader.get_f32("norm.bias", &[0]).unwrap(), [0f32; 0]);
    assert_eq!(reader.get_f32("scalar", &[]).unwrap(), [3.5]);
    let mut all = vec![7.0];
    reader.append_f32("half", &[3], &mut all).unwrap();
    reader.append_f32("ids", &[2], &mut all).unwrap_err();
    reader.append_f32("scalar", &[], &mut all).unwrap();
    assert_eq!(all, [7.0, 1.0, -0.5, 65504.0, 3.5]);
    let half: Vec<u8> = [0x3c00u16, 0xb800, 0x7bff].iter().flat_map(|h| h.to_le_bytes()).collect();
    let tensors = [
        TensorView::new("conv.weight", &[1, 2, 3], &w),
        TensorView::new("double", &[2], &[0.1f64, -2.0]),
        TensorView { name: "half", dtype: Dtype::F16, shape: vec![3], data: Cow::Owned(half) },
        TensorView::new("ids", &[2], &[-1i64, 1 << 40]),
        TensorView::new("norm.bias", &[0], &[] as &[f32]),
        TensorView::new("scalar", &[], &[3.5f32]),
    ];
    let mut ours = Vec::new();
    write_to(&mut ours, &tensors, reader.metadata()).unwrap();
    assert!(ours == theirs, "the rewritten file differs");
}

#[test]
fn reads_back_what_was_written_and_refuses_the_wrong_question() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let (tensors, metadata) = sample();
    write(&path, &tensors, &metadata).unwrap();
    let mut reader = read(&path).unwrap();
    let w = reader.get_f32("z.weight", &[2, 3]).unwrap();
    assert_eq!(
        w.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
        [1.0f32, -2.5, 3.25, f32::NAN, f32::INFINITY, -0.0].map(f32::to_bits)
    );
    assert_eq!(reader.get_f32("half", &[2]).unwrap(), [1.0, 2f32.powi(-24)]);
    assert_eq!(reader.get_f32("brain", &[1]).unwrap(), [-3.140625]);
    assert_eq!(reader.get::<i32>("scalar", &[]).unwrap(), [-7]);
    assert_eq!(reader.get::<u8>("bytes", &[5]).unwrap(), [0, 1, 2, 254, 255]);
    let text = |e: crate::error::Error| e.to_string();
    let e = text(reader.get_f32("z.weight", &[3, 2]).unwrap_err());
    assert!(
        e.contains("model.safetensors: tensor \"z.weight\": is [2, 3] in the file, [3, 2] in the model"),
        "{e}"
    );
    assert!(text(reader.get_f32("nope", &[]).unwrap_err()).contains("no such tensor"));
    assert!(
        text(reader.get_f32("ids", &[3, 1]).unwrap_err()).contains("element type I64, wanted a float type")
    );
    assert!(text(reader.get::<f64>("z.weight", &[2, 3]).unwrap_err()).contains("wanted F64"));
    // The file shrinks while it is open.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    assert_eq!(reader.get::<u8>("bytes", &[5]).unwrap_err().kind(), Kind::Io);
}

#[test]
fn long_tensors_cross_the_chunks() {
    let values: Vec<f32> = (0..100_001).map(|i| i as f32).collect();
    let mut out = Vec::new();
    write_to(&mut out, &[TensorView::new("x", &[values.len()], &values)], &Metadata::new()).unwrap();
    assert_eq!(read_bytes(&out).unwrap().get_f32("x", &[values.len()]).unwrap(), values);
}

#[test]
fn the_writer_refuses_nonsense() {
    let refuse = |tensors: &[TensorView<'_>], what: &str| {
        let e = write_to(&mut Vec::new(), tensors, &Metadata::new()).unwrap_err().to_string();
        assert!(e.contains(what), "{e}");
    };
    refuse(&[TensorView::new("a", &[3], &[1f32])], "F32 [3] does not have 4 bytes");
    refuse(&[TensorView::new("a", &[usize::MAX, 2], &[1f32])], "does not have");
    refuse(&[TensorView::new("a", &[], &[1f32]), TensorView::new("a", &[], &[2f64])], "same name");
    refuse(&[TensorView::new("__metadata__", &[], &[1f32])], "may not be called");
    refuse(&[TensorView::new("a", &[1; 65], &[1f32])], "64 dimensions");
}
