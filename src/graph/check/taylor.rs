//! The remainder of Taylor's formula: |L(x + h v) - L(x) - h <g, v>| falls as h^2 if and only if g is the gradient.

use super::interpret::{self, Direction};
use super::runner::{Runner, cotangent, inner};
use super::{Point, Settings};
use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::id::Id;
use heartlore_kernels::Isa;
use heartlore_kernels::gemm::MatmulPrecision;
use std::fmt::Write;

pub(super) const FLAT: &str = "no curvature along this direction that stands out of rounding";

/// Steps and remainders.
#[derive(Clone, Debug)]
pub struct Taylor {
    /// (h, L(x + h v) - L(x) - h <g, v>), the largest step first.
    pub remainders: Vec<(f64, f64)>,
    /// Remainders below this are rounding.
    pub floor: f64,
}

impl Taylor {
    /// Halves the step from `largest` on twelve times.
    ///
    /// # Errors
    /// If the point does not fit the program.
    pub fn measure(
        graph: &Graph,
        root: Id,
        point: &Point,
        v: &Direction,
        settings: Settings,
        largest: f64,
    ) -> Result<Self> {
        let w = cotangent(graph.shape(root).elements(), settings.seed, 0);
        let length = inner(v, v).0.sqrt().max(f64::MIN_POSITIVE);
        let (isa, f32) = (Isa::best(), MatmulPrecision::F32);
        let mut runner = Runner::<f64>::new(graph, root, point, settings, isa, f32)?;
        let loss = |values: Vec<f64>| values.iter().zip(&w).map(|(y, w)| y * w).sum::<f64>();
        let values = runner.value();
        let magnitude: f64 = values.iter().zip(&w).map(|(y, w)| (y * w).abs()).sum();
        let (here, slope) = (loss(values), inner(v, &runner.gradient(&w, None)).0 / length);
        let mut remainders = Vec::new();
        for halvings in 0..12 {
            let h = largest / f64::from(1 << halvings);
            runner.move_to(&point.moved(h / length, v))?;
            remainders.push((h, loss(runner.value()) - here - h * slope));
        }
        // Hundreds of roundings of the largest terms.
        Ok(Self { remainders, floor: 1e3 * f64::EPSILON * (magnitude + 1.0) })
    }

    /// The slope of log(remainder) over log(h), by least squares on the smallest steps whose remainder stands out of rounding;
    /// `None` if fewer than four do. The third-order term is taken out first, or it would bend the line where the curvature is
    /// small: with R(h) = e h + a h^2 + b h^3, 8 R(h / 2) - R(h) = 3 e h + a h^2.
    pub fn slope(&self) -> Option<f64> {
        let clear: Vec<(f64, f64)> = self
            .remainders
            .windows(2)
            .map(|pair| (pair[0].0, (8.0 * pair[1].1 - pair[0].1).abs()))
            .filter(|(_, r)| *r > 1000.0 * self.floor)
            .map(|(h, r)| (h.ln(), r.ln()))
            .collect();
        let last = clear.len().checked_sub(4).map(|from| &clear[from..])?;
        let n = last.len() as f64;
        let (mx, my) = (last.iter().map(|p| p.0).sum::<f64>() / n, last.iter().map(|p| p.1).sum::<f64>() / n);
        let (sxy, sxx) = last
            .iter()
            .fold((0.0, 0.0), |(xy, xx), (x, y)| (xy + (x - mx) * (y - my), xx + (x - mx) * (x - mx)));
        Some(sxy / sxx)
    }

    /// The remainders over the steps, both logarithmic, as a picture (SVG) with a line of slope 2.
    pub fn svg(&self) -> String {
        let points: Vec<(f64, f64)> =
            self.remainders.iter().map(|(h, r)| (h.log10(), r.abs().max(1e-18).log10())).collect();
        let (left, right) = (points[points.len() - 1].0, points[0].0);
        let low = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min).floor();
        let high = points.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max).ceil();
        let x = |h: f64| 60.0 + 320.0 * (h - left) / (right - left);
        let y = |r: f64| 250.0 - 220.0 * (r - low) / (high - low).max(1.0);
        let mut svg = String::from(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 400 300\" font-family=\"sans-serif\" \
             font-size=\"11\"><rect width=\"400\" height=\"300\" fill=\"white\"/>",
        );
        let (top, fall) = (points[0].1, 2.0 * (right - left));
        let _ = write!(
            svg,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#bbb\"/>",
            x(right),
            y(top),
            x(left),
            y(top - fall)
        );
        for (h, r) in &points {
            let _ = write!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"#1f5fa8\"/>", x(*h), y(*r));
        }
        let slope = self.slope().map_or_else(|| FLAT.to_string(), |s| format!("slope {s:.3}"));
        let _ = write!(
            svg,
            "<text x=\"60\" y=\"20\">remainder of Taylor's formula, {slope} (line: 2)</text>\
             <text x=\"60\" y=\"275\">step 1e{left:.1} to 1e{right:.1}</text>\
             <text x=\"5\" y=\"35\">1e{high}</text><text x=\"5\" y=\"250\">1e{low}</text></svg>"
        );
        svg
    }
}

/// Measures along a random direction.
///
/// # Errors
/// If the point does not fit the program.
pub fn taylor(graph: &Graph, root: Id, point: &Point, settings: Settings) -> Result<Taylor> {
    let v = point.direction(graph, settings.seed ^ 0xD1);
    let corner = interpret::Values::<f64>::at(graph, root, point, settings)?.corner;
    Taylor::measure(graph, root, point, &v, settings, (0.1 * corner).min(0.02))
}
