//! What the room promises, and every way to break a file.

mod atomic;
mod container;
mod damage;
pub(crate) mod faults;
mod json;
mod kill;
mod lock;

use super::state::{Data, State, Stored};

/// A state with every kind of content.
fn sample(step: u64) -> State {
    let mut state = State::default();
    state.put_f32("param/w", &[2, 3], &[1.0, -0.0, f32::NAN, 3.5, f32::MIN_POSITIVE, step as f32]);
    state.put_f32("param/empty", &[0, 4], &[]);
    state.tensors.insert("rng".into(), Stored { shape: vec![2], data: Data::U64(vec![u64::MAX, step]) });
    state.tensors.insert("sum".into(), Stored { shape: vec![], data: Data::F64(vec![0.1]) });
    state.numbers.insert("step".into(), step);
    state.numbers.insert("seed".into(), u64::MAX);
    state.floats.insert("best".into(), 0.1 + 0.2);
    state.floats.insert("zero".into(), -0.0);
    state.strings.insert("config.hash".into(), "a\"b\\c\n\u{1F600}\"heartlore.crc32\":\"00000000\"".into());
    state
}

fn bytes(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    state.write_to(&mut out).unwrap();
    out
}
