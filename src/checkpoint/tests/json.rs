use crate::checkpoint::json::{MAX_DEPTH, Value};
use proptest::prelude::*;

fn fails(text: &str, what: &str, byte: usize) {
    let e = Value::parse(text.as_bytes()).expect_err(text).to_string();
    assert!(e.contains(what) && e.contains(&format!("byte {byte}:")), "{text}: {e}");
}

#[test]
fn reads_every_kind() {
    let v = Value::parse(
        br#" {"a": [1, -2, 18446744073709551615, 9223372036854775808, 1.5, -0, 1e3], "b": null, "c": true,
             "d": "x\n\u00e9\ud83d\ude00\/\\", "e": {}, "f": [], "g": false} "#,
    )
    .unwrap();
    let a = v.get("a").and_then(Value::as_array).unwrap();
    assert_eq!(a[0], Value::Int(1));
    assert_eq!(a[1].as_i64(), Some(-2));
    assert_eq!(a[1].as_u64(), None);
    assert_eq!(a[2].as_u64(), Some(u64::MAX));
    assert_eq!(a[3], Value::UInt(1 << 63));
    assert_eq!(a[4].as_f64(), Some(1.5));
    assert!(matches!(a[5], Value::Float(z) if z == 0.0 && z.is_sign_negative()));
    assert_eq!(a[6], Value::Float(1000.0));
    assert_eq!(v.get("d").and_then(Value::as_str), Some("x\n\u{e9}\u{1F600}/\\"));
    assert_eq!(v.get("c").and_then(Value::as_bool), Some(true));
    assert_eq!(v.as_object().unwrap().len(), 7);
    assert_eq!(v.get("zz"), None);
}

#[test]
fn refuses_with_the_byte_offset() {
    fails("", "expected a value, found the end", 0);
    fails("{\"a\":1,\"a\":2}", "duplicate key", 11);
    fails("[1,]", "expected a value, found ']'", 3);
    fails("{\"a\":1,}", "expected '\"'", 7);
    fails("{a:1}", "expected '\"'", 1);
    fails("[1 2]", "expected ',' or ']'", 3);
    fails("{\"a\" 1}", "expected ':'", 5);
    fails("01", "leading zero", 0);
    fails("-", "digits", 0);
    fails("1.", "after its point", 2);
    fails("1e", "exponent", 2);
    fails("+1", "expected a value", 0);
    fails(".5", "expected a value", 0);
    fails("NaN", "expected a value", 0);
    fails("nul", "expected null", 0);
    fails("1e999", "does not fit", 0);
    fails("[18446744073709551616]", "does not fit", 1);
    fails("-9223372036854775809", "does not fit", 0);
    fails("1 x", "after the end", 2);
    fails("\"abc", "does not end", 4);
    fails("\"a\tb\"", "control", 2);
    fails("\"\\x\"", "unknown escape", 1);
    fails("\"\\u12g4\"", "bad \\u", 1);
    fails("\"\\ud800\"", "lone surrogate", 1);
    fails("\"\\ud800\\u0041\"", "lone surrogate", 1);
    fails("\"\\udc00\"", "lone surrogate", 1);
    fails("\"\\", "unknown escape", 1);
    assert!(Value::parse(b"\"\xff\"").unwrap_err().to_string().contains("byte 1"));
    // A byte order mark is not white space.
    assert!(Value::parse(b"\xef\xbb\xbf1").is_err());
}

#[test]
fn depth_is_limited() {
    let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(Value::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    let e = Value::parse(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
    assert!(e.to_string().contains("deeper than 64"));
    // Without a limit this would overflow the stack.
    assert!(Value::parse("[".repeat(1_000_000).as_bytes()).is_err());
}

#[test]
fn writes_compact_and_pretty() {
    let v = Value::parse(br#"{"a":[1,{"b":"\u0001\""}],"c":{},"d":[]}"#).unwrap();
    assert_eq!(v.to_compact().unwrap(), r#"{"a":[1,{"b":"\u0001\""}],"c":{},"d":[]}"#);
    let pretty = "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"\\u0001\\\"\"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}\n";
    assert_eq!(v.to_pretty().unwrap(), pretty);
    assert!(Value::Array(vec![Value::Float(f64::NAN)]).to_compact().is_err());
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (1u64 << 63..=u64::MAX).prop_map(Value::UInt),
        any::<f64>().prop_filter("JSON has no NaN", |x| x.is_finite()).prop_map(Value::Float),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn comes_back_as_written(v in any_value()) {
        prop_assert_eq!(&Value::parse(v.to_compact().unwrap().as_bytes()).unwrap(), &v);
        prop_assert_eq!(&Value::parse(v.to_pretty().unwrap().as_bytes()).unwrap(), &v);
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(prop::sample::select(&b"{}[]\",:\\u0d8e1.-+ntf a\xc3\xa9"[..]), 0..40)) {
        let _ = Value::parse(&bytes);
    }
}
