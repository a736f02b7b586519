//! The battery on the machine at hand: every operation and random programs, on each instruction set the machine has.

use super::draw::Case;
use super::laws::battery;
use super::{cases, programs};
use crate::error::Result;
use crate::graph::ops::OpKind;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What one law was tried on.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Cases in which it was tried.
    pub cases: usize,
    /// Cases in which it did not hold.
    pub failed: usize,
    /// The largest error as a part of its bound; of laws that allow no error, 0 or infinite.
    pub closest: f64,
}

/// What was proven.
#[derive(Clone, Debug, Default)]
pub struct SelfTest {
    /// Laws, those of an instruction set with its name.
    pub laws: BTreeMap<String, Tried>,
    /// Cases per operation, and of random programs.
    pub cases: BTreeMap<&'static str, usize>,
    /// The first failures in full.
    pub failures: Vec<String>,
}

impl SelfTest {
    /// Whether every law held in every case.
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && !self.laws.is_empty()
    }

    fn try_case(&mut self, name: &'static str, case: &Case, seed: u64) -> Result<()> {
        let Some(point) = case.point(seed)? else { return Ok(()) };
        let found = battery(&case.graph, case.root, &point, case.settings(seed))?;
        *self.cases.entry(name).or_default() += 1;
        for proof in &found.proofs {
            let of_a_set = proof.law.contains("rounding bound");
            let law = if of_a_set { format!("{} ({})", proof.law, proof.detail) } else { proof.law.into() };
            let tried = self.laws.entry(law).or_default();
            tried.cases += 1;
            tried.failed += usize::from(!proof.passed());
            let part = if proof.error == 0.0 { 0.0 } else { proof.error / proof.bound };
            tried.closest = if part.is_nan() { f64::INFINITY } else { tried.closest.max(part) };
        }
        if !found.passed() && self.failures.len() < 5 {
            let mut text = format!("{name}, seed {seed}: {found}");
            let _ = write!(text, "\n  case: check::cases or check::programs with this seed");
            self.failures.push(text);
        }
        Ok(())
    }
}

/// Runs the battery on `each` random cases of every operation and on as many random programs; `done(part)` is told how far it
/// has come.
///
/// # Errors
/// If a case cannot be run. A law that does not hold is not an error but a failed [`SelfTest`].
pub fn selftest(each: usize, seed: u64, mut done: impl FnMut(f64)) -> Result<SelfTest> {
    let mut result = SelfTest::default();
    let kinds: Vec<OpKind> = OpKind::ALL.iter().copied().filter(|k| !k.is_leaf()).collect();
    for i in 0..each {
        let seed = seed.wrapping_add(i as u64);
        let size = 1 + i % 7;
        for &kind in &kinds {
            result.try_case(kind.name(), &cases::of(kind, size, seed), seed)?;
        }
        result.try_case("programs", &programs::random(3 + i % 20, seed), seed)?;
        done((i + 1) as f64 / each as f64);
    }
    Ok(result)
}
