//! Groups of flags that several commands share.

pub mod labels;
pub mod model;
pub mod preparation;
pub mod protocol;
pub mod reading;
pub mod selection;
pub mod text;
pub mod training;

use std::fmt;
use std::str::FromStr;

use crate::graph::MatmulPrecision;
use crate::train::shard::MOST_THREADS;

/// Whole numbers as `16,32,64`, or `none` for an empty list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List(pub Vec<usize>);

impl FromStr for List {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self(Vec::new()));
        }
        let number = |t: &str| t.trim().parse().map_err(|_| format!("'{t}' is no whole number"));
        text.split(',').map(number).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    }
}

/// A number of threads, as every command takes it.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= MOST_THREADS => Ok(n),
        Ok(_) | Err(_) => Err(format!("a whole number from 0 (all cores) to {MOST_THREADS} is expected")),
    }
}

/// A number of bootstrap resamples: each keeps some numbers in memory.
pub(crate) fn resamples(text: &str) -> Result<usize, String> {
    const MOST: usize = 1_000_000;
    text.parse().ok().filter(|n| *n <= MOST).ok_or_else(|| format!("a whole number up to {MOST} is expected"))
}

/// What the operands of matrix products are rounded to: `f32` (not at all), `bf16` or `int8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision(pub MatmulPrecision);

const PRECISIONS: Choices<MatmulPrecision> =
    &[("f32", MatmulPrecision::F32), ("bf16", MatmulPrecision::Bf16), ("int8", MatmulPrecision::Int8)];

impl FromStr for Precision {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        choose(PRECISIONS, text).map(Self).ok_or_else(|| format!("'{text}' is none of f32, bf16 and int8"))
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(PRECISIONS, self.0))
    }
}

/// Names of choices with what they stand for, for flags whose types belong to other rooms.
pub(crate) type Choices<T> = &'static [(&'static str, T)];

/// The choice called `name`.
pub(crate) fn choose<T: Copy>(choices: Choices<T>, name: &str) -> Option<T> {
    choices.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

/// The name of a choice.
pub(crate) fn name_of<T: PartialEq>(choices: Choices<T>, value: T) -> &'static str {
    choices.iter().find(|(_, v)| *v == value).map_or("", |(n, _)| n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_as_it_is_written() {
        for (text, list) in [("16,32,64", vec![16, 32, 64]), ("none", vec![]), ("5", vec![5])] {
            assert_eq!(text.parse::<List>(), Ok(List(list.clone())));
            assert_eq!(List(list).to_string(), text);
        }
        for text in ["f32", "bf16"] {
            assert_eq!(text.parse::<Precision>().unwrap().to_string(), text);
        }
        assert!("f16".parse::<Precision>().is_err());
        assert!("1,x".parse::<List>().is_err() && "".parse::<List>().is_err());
    }
}
