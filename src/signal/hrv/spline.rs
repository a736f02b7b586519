//! Cubic spline through unevenly spaced points (not-a-knot ends: the first two pieces are one cubic, and the last two).

/// Values at `at` (any order) of the spline through (`x`, `y`), `x` increasing. At least four points.
///
/// With h the steps and m the second derivatives at the points, continuity of the slope gives for each inner point
///
/// ```text
/// h[i-1] m[i-1] + 2 (h[i-1] + h[i]) m[i] + h[i] m[i+1] = 6 (s[i] - s[i-1]),   s[i] = (y[i+1] - y[i]) / h[i]
/// ```
///
/// and equal third derivatives across the second point give m[0] = m[1] (1 + h[0]/h[1]) - m[2] h[0]/h[1], so a
/// tridiagonal system for the inner points remains.
pub(super) fn cubic_spline(x: &[f64], y: &[f64], at: impl Iterator<Item = f64>) -> Vec<f64> {
    let n = x.len();
    let h: Vec<f64> = x.windows(2).map(|w| w[1] - w[0]).collect();
    let slope: Vec<f64> = (0..n - 1).map(|i| (y[i + 1] - y[i]) / h[i]).collect();
    let inner = n - 2;
    let mut lower: Vec<f64> = (1..=inner).map(|i| h[i - 1]).collect();
    let mut diagonal: Vec<f64> = (1..=inner).map(|i| 2.0 * (h[i - 1] + h[i])).collect();
    let mut upper: Vec<f64> = (1..=inner).map(|i| h[i]).collect();
    let mut right: Vec<f64> = (1..=inner).map(|i| 6.0 * (slope[i] - slope[i - 1])).collect();
    let (first, last) = (h[0] / h[1], h[n - 2] / h[n - 3]);
    diagonal[0] += h[0] * (1.0 + first);
    upper[0] -= h[0] * first;
    diagonal[inner - 1] += h[n - 2] * (1.0 + last);
    lower[inner - 1] -= h[n - 2] * last;
    for i in 1..inner {
        let factor = lower[i] / diagonal[i - 1];
        diagonal[i] -= factor * upper[i - 1];
        right[i] -= factor * right[i - 1];
    }
    let mut m = vec![0.0; n];
    for i in (0..inner).rev() {
        let beyond = if i + 1 < inner { upper[i] * m[i + 2] } else { 0.0 };
        m[i + 1] = (right[i] - beyond) / diagonal[i];
    }
    m[0] = m[1] * (1.0 + first) - m[2] * first;
    m[n - 1] = m[n - 2] * (1.0 + last) - m[n - 3] * last;
    at.map(|t| {
        let i = x.partition_point(|v| *v <= t).clamp(1, n - 1) - 1;
        let (a, b) = (x[i + 1] - t, t - x[i]);
        (m[i] * a * a * a + m[i + 1] * b * b * b) / (6.0 * h[i])
            + (y[i] / h[i] - m[i] * h[i] / 6.0) * a
            + (y[i + 1] / h[i] - m[i + 1] * h[i] / 6.0) * b
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not-a-knot ends reproduce any cubic.
    #[test]
    fn a_cubic_is_its_own_spline() {
        let cubic = |t: f64| 2.0 - t + 0.5 * t * t - 0.25 * t * t * t;
        for n in [4, 5, 9] {
            let x: Vec<f64> = (0..n).map(|i| f64::from(i) + 0.3 * f64::from(i * i % 3)).collect();
            let y: Vec<f64> = x.iter().map(|t| cubic(*t)).collect();
            let at: Vec<f64> = (0..50).map(|i| x[x.len() - 1] * f64::from(i) / 49.0).collect();
            for (t, v) in at.iter().zip(cubic_spline(&x, &y, at.iter().copied())) {
                assert!((v - cubic(*t)).abs() < 1e-10 * (1.0 + cubic(*t).abs()), "{n}: {v} at {t}");
            }
        }
    }
}
