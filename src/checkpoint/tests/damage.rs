//! Damaged files: every byte changed, every length cut, and ten thousand random wounds.

use super::{bytes, sample};
use crate::checkpoint::json::Value;
use crate::checkpoint::safetensors::{Metadata, read_bytes, write_to};
use crate::checkpoint::{State, TensorView};
use crate::error::Kind;

#[test]
fn comes_back_to_the_bit() {
    let state = sample(7);
    let file = bytes(&state);
    let back = State::read_bytes(&file).unwrap();
    // NaN differs from itself, so equality is that of the bytes.
    assert_eq!(bytes(&back), file);
    assert_eq!(back.number("step").unwrap(), 7);
    assert_eq!(back.float("zero").unwrap().to_bits(), (-0.0f64).to_bits());
    assert_eq!(back.string("config.hash").unwrap(), state.strings["config.hash"]);
    assert_eq!(back.tensors["rng"], state.tensors["rng"]);
    assert_eq!(back.f32("param/w", &[2, 3]).unwrap()[5], 7.0);
    assert!(back.f32("param/w", &[3, 2]).unwrap_err().to_string().contains("is [2, 3] in the saved state"));
    assert!(back.f32("rng", &[2]).unwrap_err().to_string().contains("not of type f32"));
    assert_eq!(back.number("nope").unwrap_err().kind(), Kind::Format);
    // The `safetensors` crate can look into it.
    let theirs = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(theirs.len(), 4);
}

#[test]
fn floats_keep_their_bits() {
    let mut state = State::default();
    for (i, bits) in
        [0x7ff8_dead_beef_0001u64, 1, 0x8000_0000_0000_0000, 0xfff0_0000_0000_0000].iter().enumerate()
    {
        state.floats.insert(i.to_string(), f64::from_bits(*bits));
    }
    let back = State::read_bytes(&bytes(&state)).unwrap();
    assert!(state.floats.iter().all(|(k, v)| back.floats[k].to_bits() == v.to_bits()));
}

#[test]
fn every_change_of_a_single_byte_is_refused() {
    let file = bytes(&sample(3));
    for at in 0..file.len() {
        for flip in 1..=255u8 {
            let mut bad = file.clone();
            bad[at] ^= flip;
            assert!(State::read_bytes(&bad).is_err(), "byte {at} ^ {flip:#04x} went unnoticed");
        }
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let file = bytes(&sample(3));
    for len in 0..file.len() {
        assert!(State::read_bytes(&file[..len]).is_err(), "cut to {len} bytes went unnoticed");
    }
    for extra in [0u8, b' ', b'}'] {
        assert!(State::read_bytes(&[&file[..], &[extra]].concat()).is_err());
    }
}

#[test]
fn weights_without_checksum_and_other_versions_are_no_state() {
    let mut plain = Vec::new();
    write_to(&mut plain, &[TensorView::new("a", &[1], &[1f32])], &Metadata::new()).unwrap();
    assert!(State::read_bytes(&plain).unwrap_err().to_string().contains("not a run state"));
    let mut other = Vec::new();
    let metadata = Metadata::from([("heartlore.format".into(), "state 1".into())]);
    write_to(&mut other, &[], &metadata).unwrap();
    assert!(State::read_bytes(&other).unwrap_err().to_string().contains("the file says \"\""));
}

/// xorshift64 (Marsaglia 2003): reproducible wounds.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

#[test]
fn random_wounds_never_panic() {
    let state = bytes(&sample(1));
    let python = include_bytes!("../../../tests/oracles/checkpoint/python.safetensors").to_vec();
    let json =
        br#"{"a":[1,-2.5e3,"x\u00e9\ud83d\ude00",null,true],"b":{"c":[[],{}]},"d":18446744073709551615}"#;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut valid, mut refused) = (0, 0);
    for round in 0..10_000 {
        for file in [&state, &python, &json.to_vec()] {
            let mut bad = file.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bad.len());
                bad[at] = if random.below(2) == 0 {
                    random.below(256) as u8
                } else {
                    bad[random.below(file.len())]
                };
            }
            if round % 3 == 0 {
                bad.truncate(random.below(file.len() + 1));
            }
            let mut outcome = Value::parse(&bad).is_ok();
            if let Ok(mut reader) = read_bytes(&bad) {
                outcome = true;
                let tensors = reader.tensors().clone();
                for (name, info) in tensors {
                    let _ = reader.get_f32(&name, &info.shape);
                    let _ = reader.get::<i64>(&name, &info.shape);
                }
            }
            let _ = State::read_bytes(&bad);
            if outcome { valid += 1 } else { refused += 1 }
        }
    }
    // Both outcomes must occur, or the test tests nothing.
    assert!(valid > 1000 && refused > 1000, "{valid} valid, {refused} refused");
}
