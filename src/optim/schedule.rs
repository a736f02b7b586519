//! Learning-rate schedules as pure functions of the step, so that a resumed run needs nothing but its step.
//!
//! Steps count from 0: [`Schedule::rate`]`(0)` is the rate of the first update. Write a schedule in epochs and turn it
//! into steps with [`Schedule::in_steps`], or call it with epochs; it does not care.
//!
//! As text, in configuration files and on the command line:
//!
//! ```
//! use heartlore::optim::Schedule;
//! let s: Schedule = "linear(rate=0.001, warmup=30, total=500)".parse()?;
//! assert_eq!(s.to_string(), "linear(rate=0.001, warmup=30, total=500)");
//! assert_eq!(s.rate(29), 0.001);
//! assert_eq!("constant(rate=1e-4)".parse::<Schedule>()?.rate(7), 1e-4);
//! "step(rate=0.0001, factor=0.65, every=45)".parse::<Schedule>()?;
//! "cosine(rate=0.001, floor=0, warmup=0, total=100)".parse::<Schedule>()?;
//! # Ok::<(), heartlore::Error>(())
//! ```

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A learning-rate schedule. Build it from text or check it with [`Schedule::validate`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// `rate` for ever.
    Constant {
        /// The rate.
        rate: f64,
    },
    /// Linear rise to `rate` over `warmup` steps, then linear fall that reaches 0 at step `total`:
    /// rate (s + 1) / warmup for s < warmup, then rate (total - s) / (total - warmup). No update before `total` has
    /// rate 0; the other convention, rate s / warmup, wastes the first one. The pre-training of the reproduced paper
    /// (Vazquez-Rodriguez et al., ICPR 2022), as recalled: 30 of 500 epochs to 1e-3.
    Linear {
        /// The highest rate.
        rate: f64,
        /// Steps of rise; 0 for none.
        warmup: u64,
        /// Step from which the rate is 0.
        total: u64,
    },
    /// rate x factor^floor(s / every). The paper's fine-tuning, as recalled: 1e-4, x0.65 every 45 epochs.
    Step {
        /// The first rate.
        rate: f64,
        /// Factor at each drop.
        factor: f64,
        /// Steps between drops.
        every: u64,
    },
    /// Linear rise as in [`Schedule::Linear`], then half a cosine down to `floor` at step `total` and after (I. Loshchilov
    /// and F. Hutter, 2017, without restarts): floor + (rate - floor) (1 + cos(pi (s - warmup) / (total - warmup))) / 2.
    Cosine {
        /// The highest rate.
        rate: f64,
        /// The last rate.
        floor: f64,
        /// Steps of rise; 0 for none.
        warmup: u64,
        /// Step from which the rate is `floor`.
        total: u64,
    },
}

use Schedule::{Constant, Cosine, Linear, Step};

/// The rising part, and after it the share of the falling part that has passed, from 0 to 1.
fn rise_or_progress(rate: f64, warmup: u64, total: u64, step: u64) -> std::result::Result<f64, f64> {
    if step < warmup {
        return Ok(rate * ((step + 1) as f64 / warmup as f64));
    }
    if step >= total {
        return Err(1.0);
    }
    Err((step - warmup) as f64 / (total - warmup) as f64)
}

impl Schedule {
    /// The learning rate of update number `step`, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        match *self {
            Constant { rate } => rate,
            Linear { rate, warmup, total } => match rise_or_progress(rate, warmup, total, step) {
                Ok(rising) => rising,
                Err(progress) => rate * (1.0 - progress),
            },
            Step { rate, factor, every } => rate * factor.powf((step / every.max(1)) as f64),
            Cosine { rate, floor, warmup, total } => match rise_or_progress(rate, warmup, total, step) {
                Ok(rising) => rising,
                Err(progress) => {
                    floor + (rate - floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
                }
            },
        }
    }

    /// The same schedule counted in steps, if `self` counts in epochs of `per_epoch` steps.
    ///
    /// # Errors
    /// If `per_epoch` is 0 or a product overflows.
    pub fn in_steps(self, per_epoch: u64) -> Result<Self> {
        let times = |epochs: u64| {
            epochs.checked_mul(per_epoch).filter(|_| per_epoch > 0).ok_or_else(|| {
                Error::usage(format!("{epochs} epochs of {per_epoch} steps cannot be counted"))
                    .remedy("an epoch needs at least one step: add data or make the batch smaller")
            })
        };
        Ok(match self {
            Constant { .. } => self,
            Linear { rate, warmup, total } => Linear { rate, warmup: times(warmup)?, total: times(total)? },
            Step { rate, factor, every } => Step { rate, factor, every: times(every)? },
            Cosine { rate, floor, warmup, total } => {
                Cosine { rate, floor, warmup: times(warmup)?, total: times(total)? }
            }
        })
    }

    /// Checks that every rate is finite and not negative, and that the steps make sense.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] that says what does not.
    pub fn validate(&self) -> Result<()> {
        let non_negative = |name: &str, x: f64| {
            if x.is_finite() && x >= 0.0 {
                return Ok(());
            }
            Err(Error::usage(format!("{name}={x} must be finite and not negative"))
                .at(format!("schedule {self}")))
        };
        let spans = |warmup: u64, total: u64| {
            if total > 0 && warmup <= total {
                return Ok(());
            }
            Err(Error::usage("total must be at least 1 and at least warmup").at(format!("schedule {self}")))
        };
        match *self {
            Constant { rate } => non_negative("rate", rate),
            Linear { rate, warmup, total } => non_negative("rate", rate).and_then(|()| spans(warmup, total)),
            Step { rate, factor, every } => {
                non_negative("rate", rate)?;
                non_negative("factor", factor)?;
                if every > 0 {
                    return Ok(());
                }
                Err(Error::usage("every must be at least 1").at(format!("schedule {self}")))
            }
            Cosine { rate, floor, warmup, total } => {
                non_negative("rate", rate)?;
                non_negative("floor", floor)?;
                spans(warmup, total)
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Constant { rate } => write!(f, "constant(rate={rate})"),
            Linear { rate, warmup, total } => {
                write!(f, "linear(rate={rate}, warmup={warmup}, total={total})")
            }
            Step { rate, factor, every } => write!(f, "step(rate={rate}, factor={factor}, every={every})"),
            Cosine { rate, floor, warmup, total } => {
                write!(f, "cosine(rate={rate}, floor={floor}, warmup={warmup}, total={total})")
            }
        }
    }
}

impl FromStr for Schedule {
    type Err = Error;

    /// Reads `name(key=value, ...)`; every key of the kind must be there once, in any order.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |what: String| {
            Error::usage(what).at(format!("schedule {text:?}")).remedy(
                "write constant(rate=R), linear(rate=R, warmup=N, total=N), step(rate=R, factor=F, every=N) or \
                 cosine(rate=R, floor=R, warmup=N, total=N)",
            )
        };
        let inner = text.trim().strip_suffix(')').and_then(|t| t.split_once('('));
        let (name, list) = inner.ok_or_else(|| bad("not of the form name(key=value, ...)".into()))?;
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for item in list.split(',') {
            let (key, value) =
                item.split_once('=').ok_or_else(|| bad(format!("{item:?} is not key=value")))?;
            let key = key.trim();
            if pairs.iter().any(|(k, _)| *k == key) {
                return Err(bad(format!("{key} is given twice")));
            }
            pairs.push((key, value.trim()));
        }
        let mut take = |key: &str| {
            let at =
                pairs.iter().position(|(k, _)| *k == key).ok_or_else(|| bad(format!("{key} is missing")))?;
            Ok(pairs.swap_remove(at).1)
        };
        let real = |key: &str, value: &str| {
            value.parse::<f64>().map_err(|_| bad(format!("{key}={value} is not a number")))
        };
        let count = |key: &str, value: &str| {
            value.parse::<u64>().map_err(|_| bad(format!("{key}={value} is not a whole number")))
        };
        let rate = real("rate", take("rate")?)?;
        let schedule = match name.trim() {
            "constant" => Constant { rate },
            "linear" => Linear {
                rate,
                warmup: count("warmup", take("warmup")?)?,
                total: count("total", take("total")?)?,
            },
            "step" => Step {
                rate,
                factor: real("factor", take("factor")?)?,
                every: count("every", take("every")?)?,
            },
            "cosine" => Cosine {
                rate,
                floor: real("floor", take("floor")?)?,
                warmup: count("warmup", take("warmup")?)?,
                total: count("total", take("total")?)?,
            },
            other => return Err(bad(format!("no schedule is called {other:?}"))),
        };
        if let Some((key, _)) = pairs.first() {
            return Err(bad(format!("{key} is not known for {}", name.trim())));
        }
        schedule.validate()?;
        Ok(schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_rises_and_falls() {
        let s = Linear { rate: 1e-3, warmup: 30, total: 500 };
        assert_eq!((s.rate(0), s.rate(29), s.rate(30)), (1e-3 / 30.0, 1e-3, 1e-3));
        assert!((s.rate(265) - 5e-4).abs() < 1e-18);
        assert!(s.rate(499) > 0.0);
        assert_eq!((s.rate(500), s.rate(u64::MAX)), (0.0, 0.0));
        assert!((0..29).all(|i| s.rate(i) < s.rate(i + 1)) && (30..500).all(|i| s.rate(i) > s.rate(i + 1)));
        let only_rise = Linear { rate: 1.0, warmup: 4, total: 4 };
        assert_eq!([0, 1, 2, 3, 4].map(|i| only_rise.rate(i)), [0.25, 0.5, 0.75, 1.0, 0.0]);
        assert_eq!(Linear { rate: 1.0, warmup: 0, total: 2 }.rate(1), 0.5);
    }

    #[test]
    fn steps_and_cosine() {
        let s = Step { rate: 1e-4, factor: 0.65, every: 45 };
        assert_eq!((s.rate(0), s.rate(44)), (1e-4, 1e-4));
        assert!((s.rate(45) - 0.65e-4).abs() < 1e-19 && (s.rate(99) - 0.4225e-4).abs() < 1e-19);
        // Closed form of PyTorch's CosineAnnealingLR(T_max=10, eta_min=0.1), base rate 1.
        let c = Cosine { rate: 1.0, floor: 0.1, warmup: 0, total: 10 };
        assert_eq!((c.rate(0), c.rate(10), c.rate(99)), (1.0, 0.1, 0.1));
        assert!((c.rate(5) - 0.55).abs() < 1e-15);
        assert!((c.rate(2) - (0.1 + 0.45 * (1.0 + (0.2 * std::f64::consts::PI).cos()))).abs() < 1e-15);
        assert_eq!(Constant { rate: 0.5 }.rate(u64::MAX), 0.5);
    }

    #[test]
    fn in_steps_stretches() {
        let epochs = Linear { rate: 1.0, warmup: 3, total: 10 };
        assert_eq!(epochs.in_steps(7).unwrap(), Linear { rate: 1.0, warmup: 21, total: 70 });
        assert!(epochs.in_steps(0).is_err() && epochs.in_steps(u64::MAX).is_err());
    }

    #[test]
    fn text_comes_back() {
        for s in [
            Constant { rate: 1e-300 },
            Linear { rate: 0.1 + 0.2, warmup: 0, total: u64::MAX },
            Step { rate: 1.0, factor: 0.65, every: 1 },
            Cosine { rate: 3.0, floor: 0.0, warmup: 5, total: 5 },
        ] {
            assert_eq!(s.to_string().parse::<Schedule>().unwrap(), s);
        }
        assert_eq!(" linear ( total=5,rate = 1,warmup=2 ) ".parse::<Schedule>().unwrap().rate(1), 1.0);
    }

    #[test]
    fn bad_text_says_what() {
        for (text, what) in [
            ("", "not of the form"),
            ("constant", "not of the form"),
            ("constant()", "not key=value"),
            ("constant(rate=x)", "not a number"),
            ("constant(rate=NaN)", "finite"),
            ("constant(rate=-1)", "not negative"),
            ("constant(rate=1,rate=1)", "twice"),
            ("constant(rate=1,x=1)", "x is not known"),
            ("linear(rate=1,warmup=2)", "total is missing"),
            ("linear(rate=1,warmup=2.5,total=9)", "not a whole number"),
            ("linear(rate=1,warmup=9,total=2)", "at least warmup"),
            ("step(rate=1,factor=0.5,every=0)", "at least 1"),
            ("zigzag(rate=1)", "no schedule is called"),
        ] {
            let e = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(e.contains(what), "{text}: {e}");
        }
    }
}
