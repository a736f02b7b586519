//! How well detected beats agree with annotated ones.

/// Counts of beats that agree, in the way of ANSI/AAMI EC57: each annotated beat is matched with at most one detected beat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BeatAgreement {
    /// Annotated beats that were found.
    pub matched: usize,
    /// Annotated beats that were not found.
    pub missed: usize,
    /// Detections where no beat is annotated.
    pub extra: usize,
}

impl BeatAgreement {
    /// Matches `found_s` with `annotated_s` (seconds, both increasing) that lie within `tolerance_s`; EC57 takes 0.15.
    ///
    /// ```
    /// use heartlore::signal::BeatAgreement;
    /// let a = BeatAgreement::of(&[0.9, 2.0, 2.5], &[1.0, 2.0, 3.0], 0.15);
    /// assert_eq!((a.matched, a.missed, a.extra), (2, 1, 1));
    /// ```
    pub fn of(found_s: &[f64], annotated_s: &[f64], tolerance_s: f64) -> Self {
        let (mut i, mut j, mut matched) = (0, 0, 0);
        while i < found_s.len() && j < annotated_s.len() {
            let d = found_s[i] - annotated_s[j];
            if d.abs() <= tolerance_s {
                // A later detection may be the nearer one, but one of the two would be extra all the same.
                matched += 1;
                i += 1;
                j += 1;
            } else if d < 0.0 {
                i += 1;
            } else {
                j += 1;
            }
        }
        Self { matched, missed: annotated_s.len() - matched, extra: found_s.len() - matched }
    }

    /// Adds the counts of another recording.
    pub fn add(&mut self, other: Self) {
        self.matched += other.matched;
        self.missed += other.missed;
        self.extra += other.extra;
    }

    /// Share of the annotated beats that were found; NaN without any.
    pub fn sensitivity(&self) -> f64 {
        self.matched as f64 / (self.matched + self.missed) as f64
    }

    /// Share of the detections that are beats; NaN without any.
    pub fn positive_predictivity(&self) -> f64 {
        self.matched as f64 / (self.matched + self.extra) as f64
    }
}
