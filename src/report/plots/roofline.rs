//! Roofline (Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009).

use crate::report::chart::{HEAD, Panel, WIDE, empty, header, notes, notes_height};
use crate::report::scale::{extent, short};
use crate::report::style::fill;
use crate::report::svg::{Anchor, Canvas, Svg, fit, num, text_width};

/// A compute roof.
#[derive(Clone, Copy, Debug)]
pub struct Peak<'a> {
    /// Name: "fp32 FMA".
    pub name: &'a str,
    /// GFLOP/s.
    pub gflops: f64,
}

/// A memory roof.
#[derive(Clone, Copy, Debug)]
pub struct Bandwidth<'a> {
    /// Name: "DRAM".
    pub name: &'a str,
    /// GB/s (10^9 bytes).
    pub gbytes_per_s: f64,
}

/// One kernel.
#[derive(Clone, Copy, Debug)]
pub struct RooflinePoint<'a> {
    /// Its name.
    pub label: &'a str,
    /// Arithmetic intensity in FLOP per byte.
    pub flop_per_byte: f64,
    /// Speed reached in GFLOP/s.
    pub gflops: f64,
}

/// Input of [`roofline`].
#[derive(Clone, Copy, Debug)]
pub struct Roofline<'a> {
    /// Title.
    pub title: &'a str,
    /// Compute roofs.
    pub peaks: &'a [Peak<'a>],
    /// Memory roofs.
    pub bandwidths: &'a [Bandwidth<'a>],
    /// The kernels.
    pub points: &'a [RooflinePoint<'a>],
}

/// Speed against arithmetic intensity, both logarithmic, below the machine's roofs.
///
/// Values that are not positive have no place on the axes; they are counted in a note.
pub fn roofline(p: &Roofline<'_>) -> Svg {
    let good = |v: f64| v.is_finite() && v > 0.0;
    let peaks: Vec<_> = p.peaks.iter().filter(|r| good(r.gflops)).collect();
    let bands: Vec<_> = p.bandwidths.iter().filter(|b| good(b.gbytes_per_s)).collect();
    let points: Vec<_> = p.points.iter().filter(|q| good(q.flop_per_byte) && good(q.gflops)).collect();
    let lost = p.peaks.len() + p.bandwidths.len() + p.points.len() - peaks.len() - bands.len() - points.len();
    let remarks: Vec<String> = if lost > 0 {
        vec![format!("{lost} values that are not positive and finite left out.")]
    } else {
        vec![]
    };
    let highest = peaks.iter().map(|r| r.gflops).fold(0.0, f64::max);
    let list: Vec<String> = points
        .iter()
        .map(|q| {
            format!("{} {} GFLOP/s at {} FLOP/byte", q.label, short(q.gflops, 3), short(q.flop_per_byte, 2))
        })
        .collect();
    let desc = format!("Roofline with peak {} GFLOP/s. {}.", short(highest, 3), list.join("; "));
    let plot_height = 380.0;
    let mut c = Canvas::new(WIDE, HEAD + plot_height + 40.0 + notes_height(&remarks), p.title, &desc);
    header(&mut c, p.title, &[]);
    let top = 46.0;
    let (left, width) = (74.0, WIDE - 96.0);
    // The corner of every roof must be in view, and every point.
    let corners = peaks.iter().flat_map(|r| bands.iter().map(move |b| r.gflops / b.gbytes_per_s));
    let xs = extent(points.iter().map(|q| q.flop_per_byte).chain(corners));
    let ys = extent(points.iter().map(|q| q.gflops).chain(peaks.iter().map(|r| r.gflops)));
    let (Some(xs), Some(ys)) = (xs, ys) else {
        empty(&mut c, left, top, width, plot_height, "No roof and no point to draw.");
        notes(&mut c, &remarks);
        return c.finish();
    };
    let x = (xs.0 / 4.0, xs.1 * 4.0);
    let y = (ys.0 / 3.0, ys.1 * 1.8);
    let panel = Panel::new(left, top, width, plot_height, (0.0, 1.0), (0.0, 1.0)).log_x(x).log_y(y);
    let ticks = panel.x.ticks(8);
    panel.x_grid(&mut c, &ticks);
    panel.y_axis(&mut c, "speed (GFLOP/s)");
    panel.x_axis(&mut c, "arithmetic intensity (FLOP/byte)", &ticks);
    panel.clip(&mut c);
    let roof = if highest > 0.0 { highest } else { y.1 };
    for b in &bands {
        let corner = roof / b.gbytes_per_s;
        let line = panel.line_path([(x.0, x.0 * b.gbytes_per_s), (corner, roof)]);
        c.path("ink bold half", &line);
    }
    let fastest = bands.iter().map(|b| b.gbytes_per_s).fold(0.0, f64::max);
    for r in &peaks {
        let start = if fastest > 0.0 { r.gflops / fastest } else { x.0 };
        c.path("ink bold", &panel.line_path([(start, r.gflops), (x.1, r.gflops)]));
    }
    c.unclip();
    let mut taken: Vec<[f64; 4]> = Vec::new();
    for r in &peaks {
        let text = format!("{} {} GFLOP/s", r.name, short(r.gflops, 3));
        let (px, py) = (panel.right() - 6.0, panel.y.px_in(r.gflops) - 7.0);
        let w = text_width(&text, 12.0);
        taken.push([px - w, py - 11.0, px, py + 8.0]);
        c.text("halo", px, py, Anchor::End, &fit(&text, 12.0, width / 2.0));
    }
    // Slope of a bandwidth line on the page, for text that runs along it.
    let slope = slope_degrees(&panel);
    for (i, b) in bands.iter().enumerate() {
        let text = format!("{} {} GB/s", b.name, short(b.gbytes_per_s, 3));
        let x0 = (x.0 * 1.15).max(y.0 * 1.15 / b.gbytes_per_s);
        // Staggered along their lines, so that roofs close together keep their names apart.
        let (sin, cos) = slope.to_radians().sin_cos();
        let along = 8.0 + 112.0 * (i % 3) as f64;
        let (px, py) = (panel.x.px_in(x0) + along * cos, panel.y.px_in(x0 * b.gbytes_per_s) - along * sin);
        c.text_along("halo small", px - 6.0 * sin, py - 6.0 * cos, -slope, &fit(&text, 11.0, 160.0));
        // Keeps the names of points off the line and off its own name.
        let mut reach = -along;
        while reach < 1500.0
            && panel.x.px_in(x0) + (along + reach) * cos < panel.x.px_in(roof / b.gbytes_per_s)
        {
            let (x, y) = (px + reach * cos, py - reach * sin);
            reach += 9.0;
            let above = if (9.0..=117.0).contains(&reach) { 12.0 } else { 3.0 };
            taken.push([x - above, y - above, x + 3.0, y + 3.0]);
        }
    }
    for (i, q) in points.iter().enumerate() {
        let Some((px, py)) = panel.at(q.flop_per_byte, q.gflops) else { continue };
        taken.push([px - 6.0, py - 6.0, px + 6.0, py + 6.0]);
        let bound =
            bands.iter().map(|b| b.gbytes_per_s * q.flop_per_byte).fold(f64::INFINITY, f64::min).min(roof);
        let share = 100.0 * q.gflops / bound;
        let hover = format!("{}: {} GFLOP/s, {share:.0} % of its lowest roof", q.label, short(q.gflops, 3));
        c.circle(&format!("{} dot", fill(i)), px, py, 5.5, &hover);
    }
    for q in &points {
        let Some((px, py)) = panel.at(q.flop_per_byte, q.gflops) else { continue };
        let text = fit(q.label, 12.0, 190.0);
        let w = text_width(&text, 12.0);
        place_label(&mut c, &panel, &mut taken, px, py, w, &text);
    }
    notes(&mut c, &remarks);
    c.finish()
}

fn slope_degrees(panel: &Panel) -> f64 {
    let (x, y) = (panel.x.domain(), panel.y.domain());
    let per_decade_x = panel.width / (x.1 / x.0).log10();
    let per_decade_y = panel.height / (y.1 / y.0).log10();
    per_decade_y.atan2(per_decade_x).to_degrees()
}

/// Puts a label at the first free place around its point; the last resort overlaps rather than leaving it out.
fn place_label(
    c: &mut Canvas,
    panel: &Panel,
    taken: &mut Vec<[f64; 4]>,
    px: f64,
    py: f64,
    w: f64,
    text: &str,
) {
    let mut places = Vec::new();
    for d in [0.0, 14.0, 28.0, 42.0] {
        places.extend([(px + 10.0, py + 4.0 + d), (px - 10.0 - w, py + 4.0 + d)]);
        places.extend([
            (px + 10.0, py + 4.0 - d),
            (px - 10.0 - w, py + 4.0 - d),
            (px - w / 2.0, py + 20.0 + d),
        ]);
    }
    let free = |&(x, y): &(f64, f64)| {
        let b = [x - 2.0, y - 11.0, x + w + 2.0, y + 3.0];
        let inside =
            b[0] >= panel.left && b[2] <= panel.right() && b[1] >= panel.top && b[3] <= panel.bottom();
        inside && taken.iter().all(|t| b[2] < t[0] || b[0] > t[2] || b[3] < t[1] || b[1] > t[3])
    };
    let (x, y) = places.iter().copied().find(free).unwrap_or((px + 10.0, py + 4.0));
    taken.push([x - 2.0, y - 11.0, x + w + 2.0, y + 3.0]);
    if (y - 4.0 - py).abs() > 10.0 {
        c.path(
            "leader",
            &format!("M{} {}L{} {}", num(px), num(py), num(x + if x > px { 0.0 } else { w }), num(y - 4.0)),
        );
    }
    c.text("halo", x, y, Anchor::Start, text);
}
