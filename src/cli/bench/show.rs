//! The figures as text, JSON and pictures.

use std::fmt::Write as _;

use super::{Figures, OpLine};
use crate::report::plots::{Bandwidth, Peak, Roofline, RooflinePoint, roofline};
use crate::report::{Align, Figure, Report, Section, Svg, Table};

pub(super) fn as_text(f: &Figures<'_>) -> String {
    let Figures { machine, lines, operations, .. } = *f;
    let preset = &f.args.preset;
    let mut t = format!("model {preset}; {}: {}\n", machine.isa, machine.limits());
    // Writing to a String cannot fail.
    if !lines.is_empty() {
        let _ = writeln!(
            t,
            "\n{:<12} {:<9} {:>7} {:>6} {:>11} {:>10} {:>9} {:>8} {:>7} {:>8}",
            "what",
            "precision",
            "threads",
            "batch",
            "ms/window",
            "windows/s",
            "GFLOP/s",
            "of peak",
            "clean",
            "MiB"
        );
    }
    for l in lines {
        let (per_window, rate) = (l.per_window(), l.flops.total() / l.per_window() / 1e9);
        let _ = writeln!(
            t,
            "{:<12} {:<9} {:>7} {:>6} {:>11.2} {:>10.1} {:>9.1} {:>7.1}% {:>7} {:>8}",
            l.what,
            l.precision.to_string(),
            l.threads,
            l.batch,
            1e3 * per_window,
            1.0 / per_window,
            rate,
            machine.share(l.flops, l.threads, per_window),
            format!("{}/{}", l.time.clean, l.time.total),
            l.peak_mib.map_or("?".into(), |m| format!("{m:.0}"))
        );
    }
    if !f.starts.is_empty() {
        let _ = writeln!(
            t,
            "\nheartlore predict on a recording of 10 minutes, from its start to its end\n{:>9} {:>7} {:>8} {:>10} {:>14} {:>6}",
            "precision", "threads", "windows", "ms", "passes alone", "ratio"
        );
    }
    for s in f.starts {
        let _ = writeln!(
            t,
            "{:>9} {:>7} {:>8} {:>10.0} {:>14.0} {:>6.2}",
            s.precision.to_string(),
            s.threads,
            s.windows,
            1e3 * s.whole.seconds,
            1e3 * s.bare.seconds,
            s.ratio()
        );
    }
    if !f.growth.is_empty() {
        let _ = writeln!(
            t,
            "\nall outputs of one window, one thread\n{:<9} {:>9} {:>11} {:>12} {:>9} {:>8} {:>10} {:>12}",
            "precision", "samples", "ms", "us/sample", "GFLOP/s", "of peak", "MiB", "bytes/sample"
        );
    }
    for g in f.growth {
        let (samples, seconds) = (g.samples as f64, g.time.seconds);
        let _ = writeln!(
            t,
            "{:<9} {:>9} {:>11.1} {:>12.2} {:>9.1} {:>7.1}% {:>10.1} {:>12.0}",
            g.precision.to_string(),
            g.samples,
            1e3 * seconds,
            1e6 * seconds / samples,
            g.flops.total() / seconds / 1e9,
            machine.share(g.flops, 1, seconds),
            g.bytes as f64 / f64::from(1 << 20),
            g.bytes as f64 / samples
        );
    }
    for operations in operations.chunk_by(|a, b| a.precision == b.precision) {
        let total = total(operations);
        let _ = writeln!(
            t,
            "\noperations of a pre-training pass, {}, one thread: {:.1} ms\n{:<34} {:<14} {:>9} {:>7} {:>9} {:>7} {:>7}",
            operations[0].precision,
            1e3 * total,
            "operation",
            "kind",
            "fwd ms",
            "peak",
            "bwd ms",
            "peak",
            "share"
        );
        for o in operations.iter().filter(|o| o.seconds[0] + o.seconds[1] >= 0.002 * total) {
            let [forward, backward] = [0, 1].map(|i| share(f, o, i));
            let _ = writeln!(
                t,
                "{:<34} {:<14} {:>9.2} {:>6.0}% {:>9.2} {:>6.0}% {:>6.1}%",
                o.name,
                format!("{:?}", o.kind),
                1e3 * o.seconds[0],
                forward,
                1e3 * o.seconds[1],
                backward,
                100.0 * (o.seconds[0] + o.seconds[1]) / total
            );
        }
    }
    t
}

pub(super) fn as_json(f: &Figures<'_>) -> serde_json::Value {
    let Figures { args, machine, lines, starts, growth, operations } = *f;
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "preset": args.preset,
        "isa": machine.isa.to_string(),
        "cores": machine.cores,
        "peak_gflops_one_thread": machine.peak,
        "peak_gflops_all_cores": machine.peak_all,
        "bf16_dot_peak_gflops_one_thread": machine.dot_peak,
        "int8_dot_peak_gops_one_thread": machine.int8_peak,
        "memory_gbytes_per_s_one_thread": machine.bandwidth,
        "jobs": lines.iter().map(|l| serde_json::json!({
            "what": l.what, "precision": l.precision.to_string(), "threads": l.threads, "batch": l.batch, "seconds_per_window": l.per_window(),
            "best_seconds_per_window": l.time.best / l.windows as f64, "flops_per_window": l.flops.total(),
            "bf16_flops_per_window": l.flops.bf16, "int8_ops_per_window": l.flops.int8, "gflops": l.flops.total() / l.per_window() / 1e9,
            "percent_of_peak": machine.share(l.flops, l.threads, l.per_window()), "clean": l.time.clean, "total": l.time.total,
            "peak_mib": l.peak_mib,
        })).collect::<Vec<_>>(),
        "start": starts.iter().map(|s| serde_json::json!({
            "precision": s.precision.to_string(), "threads": s.threads, "windows": s.windows,
            "seconds": s.whole.seconds, "passes_seconds": s.bare.seconds, "ratio": s.ratio(),
        })).collect::<Vec<_>>(),
        "growth": growth.iter().map(|g| serde_json::json!({
            "precision": g.precision.to_string(), "samples": g.samples, "seconds": g.time.seconds, "flops": g.flops.total(), "bytes": g.bytes,
            "clean": g.time.clean, "total": g.time.total,
        })).collect::<Vec<_>>(),
        "operations": operations.iter().map(|o| serde_json::json!({
            "name": o.name, "precision": o.precision.to_string(), "kind": format!("{:?}", o.kind), "forward_seconds": o.seconds[0],
            "backward_seconds": o.seconds[1], "forward_flops": o.flops[0].total(), "backward_flops": o.flops[1].total(),
            "forward_percent_of_peak": share(f, o, 0), "backward_percent_of_peak": share(f, o, 1), "forward_bytes": o.bytes,
        })).collect::<Vec<_>>(),
    })
}

pub(super) fn plot(f: &Figures<'_>) -> Svg {
    let Figures { machine, operations, .. } = *f;
    let name = format!("{} FMA, one thread", machine.isa);
    // One precision: the points of two would lie on each other.
    let first = operations.chunk_by(|a, b| a.precision == b.precision).next().unwrap_or(&[]);
    let total: f64 = first.iter().map(|o| o.seconds[0]).sum();
    // The small ones cost nothing and would hide the others' names.
    let shown: Vec<(String, &OpLine)> = first
        .iter()
        .filter(|o| o.seconds[0] > 0.005 * total)
        .map(|o| (format!("{} {:?}", o.name.trim_start_matches("transformer.layers."), o.kind), o))
        .collect();
    let points: Vec<RooflinePoint<'_>> = shown
        .iter()
        .map(|(label, o)| RooflinePoint {
            label,
            flop_per_byte: o.flops[0].total() / o.bytes,
            gflops: o.flops[0].total() / o.seconds[0] / 1e9,
        })
        .collect();
    let mut peaks = vec![Peak { name: &name, gflops: machine.peak }];
    let dots = first.iter().any(|o| o.flops[0].bf16 > 0.0) && machine.isa.bf16_dot().is_some();
    peaks.extend(machine.dot_peak.filter(|_| dots).map(|gflops| Peak { name: "bf16 dot products", gflops }));
    roofline(&Roofline {
        title: "Forward operations of a pre-training pass (those above half a percent of its time)",
        peaks: &peaks,
        bandwidths: &[Bandwidth { name: "memory", gbytes_per_s: machine.bandwidth }],
        points: &points,
    })
}

/// One page: the table of jobs, growth, and every operation under the machine's roofline.
pub(super) fn report(f: &Figures<'_>, command_line: &str) -> Report {
    let Figures { machine, lines, .. } = *f;
    let mut page = Report::new("heartlore bench").subtitle(format!(
        "Model {}; {}: {}",
        f.args.preset,
        machine.isa,
        machine.limits()
    ));
    if !lines.is_empty() {
        let caption = "Medians. GFLOP/s count the operations really executed; 'clean' repetitions hardly waited for a CPU.";
        let columns =
            ["precision", "threads", "batch", "ms per window", "GFLOP/s", "of peak", "clean", "MiB"];
        let mut table = Table::new(caption).column("what", Align::Left);
        table = columns.into_iter().fold(table, |t, c| t.column(c, Align::Right));
        for l in lines {
            let rate = l.flops.total() / l.per_window() / 1e9;
            table = table.row([
                l.what.to_string(),
                l.precision.to_string(),
                l.threads.to_string(),
                l.batch.to_string(),
                format!("{:.2}", 1e3 * l.per_window()),
                format!("{rate:.1}"),
                format!("{:.0} %", machine.share(l.flops, l.threads, l.per_window())),
                format!("{}/{}", l.time.clean, l.time.total),
                l.peak_mib.map_or("?".into(), |m| format!("{m:.0}")),
            ]);
        }
        page = page.section(Section::new("Training and prediction").table(table));
    }
    if !f.starts.is_empty() {
        let caption =
            "A CSV recording of 10 minutes at 256 Hz: reading, filtering, resampling, judging, predicting.";
        let columns = ["threads", "windows", "ms", "passes alone, ms", "ratio"];
        let mut table = Table::new(caption).column("precision", Align::Left);
        table = columns.into_iter().fold(table, |t, c| t.column(c, Align::Right));
        for s in f.starts {
            table = table.row([
                s.precision.to_string(),
                s.threads.to_string(),
                s.windows.to_string(),
                format!("{:.0}", 1e3 * s.whole.seconds),
                format!("{:.0}", 1e3 * s.bare.seconds),
                format!("{:.2}", s.ratio()),
            ]);
        }
        page = page.section(Section::new("heartlore predict, from its start to its end").table(table));
    }
    if !f.growth.is_empty() {
        let columns = ["precision", "ms", "microseconds per sample", "GFLOP/s", "MiB planned"];
        let mut table = Table::new("All outputs of one window, one thread.").column("samples", Align::Right);
        table = columns.into_iter().fold(table, |t, c| t.column(c, Align::Right));
        for g in f.growth {
            table = table.row([
                g.samples.to_string(),
                g.precision.to_string(),
                format!("{:.1}", 1e3 * g.time.seconds),
                format!("{:.2}", 1e6 * g.time.seconds / g.samples as f64),
                format!("{:.1}", g.flops.total() / g.time.seconds / 1e9),
                format!("{:.1}", g.bytes as f64 / f64::from(1 << 20)),
            ]);
        }
        page = page.section(Section::new("Growth with the window").table(table));
    }
    if !f.operations.is_empty() {
        page = page.section(
            Section::new("Operations")
                .figure(Figure::new(
                    plot(f),
                    "A point under the slanted line waits for memory, one under the flat line computes.",
                ))
                .table(operation_table(f)),
        );
    }
    page.section(Section::new("Command").code(command_line))
}

fn operation_table(f: &Figures<'_>) -> Table {
    let caption = "A pre-training pass, one thread, dropout on; of peak in brackets.";
    let mut table = Table::new(caption).column("operation", Align::Left).column("kind", Align::Left);
    table = table.column("precision", Align::Left);
    for c in ["forward, ms", "backward, ms", "share"] {
        table = table.column(c, Align::Right);
    }
    let groups = f.operations.chunk_by(|a, b| a.precision == b.precision);
    let lines = groups.flat_map(|group| group.iter().map(|o| (o, total(group))));
    lines.fold(table, |t, (o, total)| {
        let [forward, backward] =
            [0, 1].map(|i| format!("{:.2} ({:.0} %)", 1e3 * o.seconds[i], share(f, o, i)));
        let part = 100.0 * (o.seconds[0] + o.seconds[1]) / total;
        t.row([
            o.name.clone(),
            format!("{:?}", o.kind),
            o.precision.to_string(),
            forward,
            backward,
            format!("{part:.1} %"),
        ])
    })
}

/// Seconds of a pass through these operations.
fn total(operations: &[OpLine]) -> f64 {
    operations.iter().map(|o| o.seconds[0] + o.seconds[1]).sum()
}

/// Percent of the peak that an operation reaches forward (0) or backward (1).
fn share(f: &Figures<'_>, o: &OpLine, i: usize) -> f64 {
    f.machine.share(o.flops[i], 1, o.seconds[i])
}
