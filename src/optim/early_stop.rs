//! Early stopping: keep the best score seen, stop when it has not improved for a while.

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Losses.
    Lower,
    /// Accuracy, F1, AUC.
    Higher,
}

/// What to do after a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The best so far: save it.
    Better,
    /// Not better, but there is patience left.
    Wait,
    /// Not better for `patience` scores in a row: stop.
    Stop,
}

/// The state of early stopping; all of it is public, so that it can be saved and resumed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyStop {
    /// Which way is better.
    pub goal: Goal,
    /// Scores in a row without improvement after which to stop; `None` never stops and only keeps the best.
    pub patience: Option<u64>,
    /// A score is better if it beats the best by more than this.
    pub min_delta: f64,
    /// The best score and its epoch.
    pub best: Option<(f64, u64)>,
    /// Scores since the best.
    pub waited: u64,
}

impl EarlyStop {
    /// Nothing seen yet.
    pub fn new(goal: Goal, patience: Option<u64>, min_delta: f64) -> Self {
        Self { goal, patience, min_delta, best: None, waited: 0 }
    }

    /// Takes in the score of an epoch. NaN and infinity are never better, not even first, so they use up patience.
    pub fn observe(&mut self, epoch: u64, score: f64) -> Verdict {
        let better = match (self.best, self.goal) {
            _ if !score.is_finite() => false,
            (None, _) => true,
            (Some((best, _)), Goal::Lower) => score < best - self.min_delta,
            (Some((best, _)), Goal::Higher) => score > best + self.min_delta,
        };
        if better {
            self.best = Some((score, epoch));
            self.waited = 0;
            return Verdict::Better;
        }
        self.waited = self.waited.saturating_add(1);
        if self.patience.is_some_and(|p| self.waited >= p) { Verdict::Stop } else { Verdict::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Better, Stop, Wait};
    use super::*;

    fn verdicts(mut e: EarlyStop, scores: &[f64]) -> (Vec<Verdict>, EarlyStop) {
        (scores.iter().enumerate().map(|(i, s)| e.observe(i as u64, *s)).collect(), e)
    }

    #[test]
    fn waits_and_stops() {
        let (v, e) = verdicts(EarlyStop::new(Goal::Lower, Some(2), 0.1), &[1.0, 0.95, 0.8, 0.8, 0.75]);
        assert_eq!((v, e.best), (vec![Better, Wait, Better, Wait, Stop], Some((0.8, 2))));
        let (v, _) = verdicts(EarlyStop::new(Goal::Higher, Some(1), 0.0), &[0.5, 0.6, 0.6]);
        assert_eq!(v, [Better, Better, Stop]);
        let (v, _) = verdicts(EarlyStop::new(Goal::Higher, None, 0.0), &[0.5, 0.4, 0.4]);
        assert_eq!(v, [Better, Wait, Wait]);
    }

    #[test]
    fn what_is_no_number_is_never_better() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let (v, e) = verdicts(EarlyStop::new(Goal::Lower, Some(3), 0.0), &[bad, 2.0, bad, bad]);
            assert_eq!((v, e.best, e.waited), (vec![Wait, Better, Wait, Wait], Some((2.0, 1)), 2));
        }
    }
}
