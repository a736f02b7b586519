//! From data to pixels: linear and logarithmic scales, round ticks, and their labels.

/// Values beyond this are drawn at the border; keeps differences of extreme numbers finite.
const HUGE: f64 = 1e100;

/// Smallest and largest finite value; `None` without any.
pub(crate) fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|v| v.is_finite()).map(|v| v.clamp(-HUGE, HUGE)).fold(
        None,
        |acc, v| match acc {
            None => Some((v, v)),
            Some((lo, hi)) => Some((lo.min(v), hi.max(v))),
        },
    )
}

/// `(lo, hi)` widened by `share` of its width on both sides; a single value gets a width of its own.
pub(crate) fn padded((lo, hi): (f64, f64), share: f64) -> (f64, f64) {
    let width = hi - lo;
    // Below this relative width neighbouring ticks would print alike: treat the series as constant.
    if width <= 1e-9 * lo.abs().max(hi.abs()) || width <= 1e-300 {
        let half = if lo == 0.0 { 1.0 } else { 0.1 * lo.abs().max(hi.abs()) };
        return (lo - half, hi + half);
    }
    (lo - share * width, hi + share * width)
}

/// Maps a data interval onto a pixel interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    lo: f64,
    hi: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    /// Linear from `domain` onto `range`; an empty or non-finite domain becomes (0, 1).
    pub(crate) fn linear(domain: (f64, f64), range: (f64, f64)) -> Self {
        let (lo, hi) = if domain.0.is_finite() && domain.1.is_finite() && domain.1 > domain.0 {
            (domain.0.clamp(-2.0 * HUGE, 2.0 * HUGE), domain.1.clamp(-2.0 * HUGE, 2.0 * HUGE))
        } else {
            (0.0, 1.0)
        };
        Self { lo, hi, from: range.0, to: range.1, log: false }
    }
    /// Logarithmic; a domain that is not positive becomes (0.1, 10).
    pub(crate) fn log(domain: (f64, f64), range: (f64, f64)) -> Self {
        let ok = domain.0 > 0.0 && domain.1 > domain.0 && domain.1.is_finite();
        let (lo, hi) = if ok { (domain.0.max(1e-100), domain.1.min(HUGE)) } else { (0.1, 10.0) };
        Self { lo: lo.log10(), hi: hi.log10(), from: range.0, to: range.1, log: true }
    }
    /// Whether this is a logarithmic scale.
    pub(crate) fn is_log(&self) -> bool {
        self.log
    }
    /// The data interval.
    pub(crate) fn domain(&self) -> (f64, f64) {
        if self.log { (10f64.powf(self.lo), 10f64.powf(self.hi)) } else { (self.lo, self.hi) }
    }
    /// The pixel of `v`, `None` where it has none (not finite; not positive on a logarithmic scale). Values far outside
    /// are kept within ten widths.
    pub(crate) fn px(&self, v: f64) -> Option<f64> {
        let v = if self.log { if v > 0.0 { v.log10() } else { return None } } else { v };
        if !v.is_finite() {
            return None;
        }
        let t = ((v - self.lo) / (self.hi - self.lo)).clamp(-10.0, 10.0);
        Some(self.from + t * (self.to - self.from))
    }
    /// The pixel of `v` cut to the range; the lower end where `v` has no place.
    pub(crate) fn px_in(&self, v: f64) -> f64 {
        let (a, b) = (self.from.min(self.to), self.from.max(self.to));
        self.px(v).unwrap_or(self.from).clamp(a, b)
    }
    /// Round tick positions inside the domain with their labels, about `want` of them.
    pub(crate) fn ticks(&self, want: usize) -> Vec<(f64, String)> {
        if self.log { self.log_ticks(want) } else { linear_ticks(self.lo, self.hi, want) }
    }
    /// Ticks for an axis in seconds: steps of the clock; labels `m:ss` or `h:mm:ss` beyond two minutes.
    pub(crate) fn time_ticks(&self, want: usize) -> Vec<(f64, String)> {
        const STEPS: [f64; 15] = [
            10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0,
            43200.0, 86400.0,
        ];
        let width = self.hi - self.lo;
        if self.log || width <= 120.0 || width > 86400.0 * 20.0 || self.lo.abs() > 1e9 {
            return self.ticks(want);
        }
        let ideal = width / want.max(1) as f64;
        let step = STEPS.iter().copied().find(|s| *s >= ideal).unwrap_or(86400.0);
        positions(self.lo, self.hi, step).into_iter().map(|v| (v, clock(v))).collect()
    }
    fn log_ticks(&self, want: usize) -> Vec<(f64, String)> {
        let decades = self.hi - self.lo;
        if decades < 0.7 {
            // Within a few multiples round linear steps read better than powers of ten.
            let (lo, hi) = self.domain();
            return linear_ticks(lo, hi, want);
        }
        let stride = (decades / want.max(2) as f64).ceil().max(1.0) as i64;
        let multiples: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut out = Vec::new();
        for k in (self.lo.floor() as i64)..=(self.hi.ceil() as i64) {
            if k.rem_euclid(stride) != 0 {
                continue;
            }
            for m in multiples {
                let l = k as f64 + m.log10();
                if l >= self.lo - 1e-9 && l <= self.hi + 1e-9 {
                    let v = m * 10f64.powi(k as i32);
                    out.push((v, log_label(*m, k)));
                }
            }
        }
        out
    }
}

fn positions(lo: f64, hi: f64, step: f64) -> Vec<f64> {
    let (first, last) = ((lo / step - 1e-9).ceil(), (hi / step + 1e-9).floor());
    if !(last - first).is_finite() || last - first > 100.0 || last < first {
        return vec![];
    }
    (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect()
}

fn linear_ticks(lo: f64, hi: f64, want: usize) -> Vec<(f64, String)> {
    let ideal = (hi - lo) / want.max(1) as f64;
    let power = 10f64.powf(ideal.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|s| *s >= ideal * 0.999).unwrap_or(10.0 * power);
    if !(step.is_finite() && step > 0.0) {
        return vec![];
    }
    let largest = lo.abs().max(hi.abs());
    let at = positions(lo, hi, step);
    if !(2e-3..1e6).contains(&largest) {
        // Mantissa digits that still tell neighbouring ticks apart.
        let digits = ((largest.log10().floor() - step.log10().floor()) as i64).clamp(0, 12) as usize;
        return at
            .into_iter()
            .map(|v| (v, if v == 0.0 { "0".into() } else { scientific(v, digits) }))
            .collect();
    }
    let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    at.into_iter().map(|v| (v, minus(format!("{:.decimals$}", v + 0.0)))).collect()
}

/// `m:ss`, or `h:mm:ss` from one hour on.
pub(crate) fn clock(seconds: f64) -> String {
    let sign = if seconds < 0.0 { "\u{2212}" } else { "" };
    let s = seconds.abs().min(1e12).round() as u64;
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 { format!("{sign}{h}:{m:02}:{s:02}") } else { format!("{sign}{m}:{s:02}") }
}

/// A value for reading: about `digits` significant digits, no trailing zeros beyond them, a proper minus sign.
pub(crate) fn short(v: f64, digits: usize) -> String {
    if !v.is_finite() {
        return if v.is_nan() {
            "NaN".into()
        } else if v > 0.0 {
            "\u{221e}".into()
        } else {
            "\u{2212}\u{221e}".into()
        };
    }
    if v == 0.0 {
        return "0".into();
    }
    let magnitude = v.abs().log10().floor();
    if !(-4.0..6.0).contains(&magnitude) {
        return scientific(v, digits.saturating_sub(1));
    }
    let decimals = (digits as f64 - 1.0 - magnitude).max(0.0) as usize;
    minus(format!("{v:.decimals$}"))
}

fn scientific(v: f64, digits: usize) -> String {
    let s = format!("{v:.digits$e}");
    match s.split_once('e') {
        Some((m, e)) => format!("{}\u{d7}10{}", minus(m.to_string()), superscript(e)),
        None => s,
    }
}

fn log_label(multiple: f64, power: i64) -> String {
    let v = multiple * 10f64.powi(power as i32);
    if (-2..=4).contains(&power) {
        return format!("{:.*}", (-power).max(0) as usize, v);
    }
    let ten = format!("10{}", superscript(&power.to_string()));
    if multiple == 1.0 { ten } else { format!("{multiple}\u{d7}{ten}") }
}

fn superscript(digits: &str) -> String {
    digits
        .chars()
        .map(|c| match c {
            '-' => '\u{207b}',
            '1' => '\u{b9}',
            '2' => '\u{b2}',
            '3' => '\u{b3}',
            '0' => '\u{2070}',
            d => char::from_u32(0x2070 + d.to_digit(10).unwrap_or(0)).unwrap_or(d),
        })
        .collect()
}

fn minus(s: String) -> String {
    match s.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_string(),
        Some(rest) => format!("\u{2212}{rest}"),
        None => s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(t: &[(f64, String)]) -> Vec<&str> {
        t.iter().map(|(_, s)| s.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        let s = Scale::linear((-0.13, 1.02), (0.0, 100.0));
        assert_eq!(labels(&s.ticks(6)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let s = Scale::linear((0.0, 4e-5), (0.0, 100.0));
        assert_eq!(labels(&s.ticks(4)), ["0", "1×10⁻⁵", "2×10⁻⁵", "3×10⁻⁵", "4×10⁻⁵"]);
        let s = Scale::log((0.9, 2000.0), (0.0, 100.0));
        assert_eq!(labels(&s.ticks(6)), ["1", "10", "100", "1000"]);
        let s = Scale::log((1e-8, 1e-5), (0.0, 100.0));
        assert_eq!(labels(&s.ticks(6)), ["10⁻⁸", "10⁻⁷", "10⁻⁶", "10⁻⁵"]);
        let s = Scale::linear((0.0, 3700.0), (0.0, 100.0));
        assert_eq!(labels(&s.time_ticks(5)), ["0:00", "15:00", "30:00", "45:00", "1:00:00"]);
    }

    #[test]
    fn extreme_domains_stay_finite() {
        for d in [
            (-1e308, 1e308),
            (0.0, f64::INFINITY),
            (5.0, 5.0),
            (1e15, 1e15 + 0.25),
            (0.0, 1e-320),
            (1.0, -1.0),
        ] {
            for s in [Scale::linear(d, (0.0, 100.0)), Scale::log(d, (0.0, 100.0))] {
                for (v, _) in s.ticks(6).into_iter().chain(s.time_ticks(6)) {
                    assert!(s.px(v).is_some_and(f64::is_finite), "{d:?} {v}");
                }
                assert!(s.px(1e308).is_none_or(f64::is_finite) && s.px_in(f64::NAN).is_finite());
            }
        }
        assert_eq!(extent([f64::NAN, f64::INFINITY]), None);
        assert_eq!(extent([f64::NAN, 2.0, 1.0]), Some((1.0, 2.0)));
        let (lo, hi) = padded((3.0, 3.0), 0.05);
        assert!(lo < 3.0 && hi > 3.0);
    }

    #[test]
    fn values_for_reading() {
        assert_eq!(short(0.71234, 3), "0.712");
        assert_eq!(short(123.4, 3), "123");
        assert_eq!(short(-0.5, 2), "\u{2212}0.50");
        assert_eq!(short(1.5e-7, 2), "1.5×10⁻⁷");
        assert_eq!(short(f64::NAN, 2), "NaN");
        assert_eq!(clock(-61.0), "\u{2212}1:01");
    }
}
