//! Throughput of every kernel at the paper's shapes, beside its reference and this machine's measured limits.
//!
//! `cargo bench -p heartlore-kernels --bench kernels -- [FILTER ..] [--isa NAME] [--no-reference] [--seconds S] [--json]`
//!
//! One thread. An entry is timed until nine undisturbed repetitions are in (on Linux: the thread waited less than 2 % of
//! the time for a CPU) or its seconds are over; the figure is the median. A kernel joins with one line in [`table`].
#![allow(clippy::print_stdout)]

use heartlore_kernels::activation::Activation;
use heartlore_kernels::gemm::{self, Epilogue, MatmulPrecision};
use heartlore_kernels::measure::{self, Timing, time};
use heartlore_kernels::rng::{Dropout, Key};
use heartlore_kernels::{
    Beta, GradMut, Isa, absorbed_attention, attention, conv1d, feed_forward, layer_norm, linear, softmax,
};
use heartlore_kernels::{activation, attention::GradRows};
use std::hint::black_box;
use std::time::Duration;

/// What is timed: set up once, called many times.
type Run = Box<dyn FnMut()>;

/// One line of the table.
struct Entry {
    name: String,
    /// Floating-point operations of one call; 0 if bytes are the measure.
    flops: f64,
    /// Bytes that one call must move at least.
    bytes: f64,
    kernel: Box<dyn Fn(Isa) -> Run>,
    reference: Option<Box<dyn Fn() -> Run>>,
}

fn entry(
    name: impl Into<String>,
    flops: usize,
    floats: usize,
    kernel: impl Fn(Isa) -> Run + 'static,
    reference: Option<Box<dyn Fn() -> Run>>,
) -> Entry {
    let (flops, bytes) = (flops as f64, 4.0 * floats as f64);
    Entry { name: name.into(), flops, bytes, kernel: Box::new(kernel), reference }
}

/// Every kernel at the shapes of a 10 s window: 1280 points and a class row, width 256, feed-forward 1024.
fn table() -> Vec<Entry> {
    let mut t = Vec::new();
    for (what, m, n, k, layout) in [
        ("linear y", 1281, 256, 256, Layout::Nt),
        ("qkv y", 1281, 768, 256, Layout::Nt),
        ("ff1 y", 1281, 1024, 256, Layout::Nt),
        ("ff2 y", 1281, 256, 1024, Layout::Nt),
        ("ff1 dx", 1281, 256, 1024, Layout::Nn),
        ("ff2 dx", 1281, 1024, 256, Layout::Nn),
        ("qkv dw", 768, 256, 1281, Layout::Tn),
        ("ff1 dw", 1024, 256, 1281, Layout::Tn),
        ("small qkv dw", 384, 128, 161, Layout::Tn),
        ("small ff1 dw", 256, 128, 161, Layout::Tn),
        ("small ff2 dw", 128, 256, 161, Layout::Tn),
        ("tiny qkv dw", 192, 64, 81, Layout::Tn),
        ("tiny dw", 64, 64, 81, Layout::Tn),
        ("scores", 1281, 1281, 128, Layout::Nt),
        ("context", 1281, 128, 1281, Layout::Nn),
        ("one row", 1, 1024, 256, Layout::Nt),
        ("one row dx", 1, 256, 1024, Layout::Nn),
        ("eight rows", 8, 1024, 256, Layout::Nt),
        ("one output", 1281, 1, 256, Layout::Nt),
        ("one output dw", 1, 256, 1281, Layout::Tn),
    ] {
        t.push(product(what, m, n, k, layout));
        t.push(yardstick(what, m, n, k, layout));
    }
    for (what, m, n, k) in [
        ("linear y", 1281, 256, 256),
        ("qkv y", 1281, 768, 256),
        ("small qkv y", 161, 384, 128),
        ("small qkv dx", 161, 128, 384),
        ("small y", 161, 128, 128),
        ("tiny qkv y", 81, 192, 64),
        ("tiny y", 81, 64, 64),
    ] {
        t.push(packed_product(what, m, n, k, MatmulPrecision::F32));
    }
    let packed = [("ff1 y", 1281, 1024, 256), ("ff2 y", 1281, 256, 1024)];
    for (what, m, n, k) in packed {
        t.push(packed_product(what, m, n, k, MatmulPrecision::F32));
    }
    // bf16 as this CPU runs it, then with dot products where it has them, fast or not, and without.
    for dot in [None, Some(true), Some(false)] {
        for (what, m, n, k) in packed {
            t.push(in_bf16(packed_product(what, m, n, k, MatmulPrecision::Bf16), dot));
        }
        for (what, m, n, k, layout) in [
            ("ff1 y", 1281, 1024, 256, Layout::Nt),
            ("ff1 dx", 1281, 256, 1024, Layout::Nn),
            ("ff1 dw", 1024, 256, 1281, Layout::Tn),
            ("one row", 1, 1024, 256, Layout::Nt),
        ] {
            t.push(in_bf16(product_in(what, m, n, k, layout, MatmulPrecision::Bf16), dot));
        }
    }
    for dot in [true, false] {
        for (what, m, n, k) in packed {
            t.push(in_int8(packed_product(what, m, n, k, MatmulPrecision::Int8), dot));
        }
    }
    t.push(double(257, 256, 256));
    for act in [None, Some(Activation::Relu), Some(Activation::Gelu)] {
        let d = linear::Dims { rows: 1281, inputs: 256, outputs: 1024, precision: MatmulPrecision::F32 };
        t.push(linear_forward(d, act));
        t.push(linear_backward(d, act));
    }
    let paper = [(1280, 1, 64, 65, 1), (1280, 64, 128, 33, 1), (1280, 128, 256, 17, 1)];
    let small = [(1280, 1, 32, 17, 2), (640, 32, 64, 9, 2), (320, 64, 128, 9, 2)];
    let tiny = [(1280, 1, 16, 17, 4), (320, 16, 32, 9, 2), (160, 32, 64, 5, 2)];
    for (length, in_channels, out_channels, kernel, stride) in [paper, small, tiny].concat() {
        let (padding, dilation) = (kernel / 2, 1);
        let d =
            conv1d::Dims { batch: 1, length, in_channels, out_channels, kernel, stride, padding, dilation };
        let paths = [Path::Chosen, Path::Prepared, Path::Direct];
        // The others are the implicit product's anyway.
        let paths = if stride == 1 { &paths[..] } else { &paths[1..2] };
        for &path in paths {
            t.push(conv_forward(d, path));
            // The signal itself needs no gradient.
            if in_channels > 1 {
                t.push(conv_backward(d, path, "dx", true, false));
            }
            t.push(conv_backward(d, path, "dw", false, true));
            if in_channels > 1 {
                t.push(conv_backward(d, path, "dx dw", true, true));
            }
        }
    }
    for act in [Activation::Relu, Activation::Gelu] {
        for dropout in [Dropout::NONE, Dropout::new(0.1)] {
            for (rows, width, hidden) in [(1281, 256, 1024), (161, 128, 256), (81, 64, 128)] {
                let precision = MatmulPrecision::F32;
                let d = feed_forward::Dims { samples: 1, rows, width, hidden, precision };
                t.push(ff_forward(d, act, dropout));
                t.push(ff_backward(d, act, dropout));
            }
        }
    }
    // The whole sequence, the masked half of it, a part, the class row alone; then the small and the tiny preset.
    let wide = [1281, 640, 128, 16, 1].map(|tq| (tq, 1281, 2, 128));
    for (tq, tk, heads, head_dim) in wide.into_iter().chain([(161, 161, 4, 32), (81, 81, 2, 32)]) {
        for dropout in [Dropout::NONE, Dropout::new(0.1)] {
            let d = attention::Dims { batch: 1, tq, tk, heads, head_dim, precision: MatmulPrecision::F32 };
            t.push(attention_forward(d, dropout));
            t.push(attention_backward(d, dropout));
            let d = attention::Dims { precision: MatmulPrecision::Bf16, ..d };
            for dot in [None, Some(true), Some(false)] {
                t.push(in_bf16(attention_forward(d, dropout), dot));
                t.push(in_bf16(attention_backward(d, dropout), dot));
            }
        }
    }
    // Few queries on absorbed projections, beside projecting keys and values first: at which number do they meet?
    let wide = [1, 2, 4, 8, 16, 32, 64, 128].map(|tq| (tq, 1281, 2, 128, 256));
    for (tq, tk, heads, head_dim, width) in wide.into_iter().chain([(1, 161, 4, 32, 128), (1, 81, 2, 32, 64)])
    {
        let d = absorbed_attention::Dims { batch: 1, tq, tk, heads, head_dim, width };
        for absorbed in [true, false] {
            t.push(few_queries_forward(d, Dropout::NONE, absorbed));
            t.push(few_queries_backward(d, Dropout::NONE, absorbed));
            if tq == 1 {
                t.push(few_queries_forward(d, Dropout::new(0.1), absorbed));
                t.push(few_queries_backward(d, Dropout::new(0.1), absorbed));
            }
        }
    }
    for dropout in [None, Some(Dropout::NONE), Some(Dropout::new(0.1))] {
        // The transformer's rows, and without a residual the encoder's, of the presets.
        let encoder = [(1280, 64), (640, 32), (320, 16)];
        let encoder = encoder.into_iter().filter(|_| dropout.is_none());
        for (rows, cols) in [(1281, 256), (161, 128), (81, 64)].into_iter().chain(encoder) {
            let d = layer_norm::Dims { samples: 1, rows, cols };
            t.push(layer_norm_forward(d, dropout));
            t.push(layer_norm_backward(d, dropout));
        }
    }
    t.push(softmax_forward(softmax::Dims { rows: 1281, cols: 1281 }));
    t.push(softmax_backward(softmax::Dims { rows: 1281, cols: 1281 }));
    for act in Activation::ALL {
        t.push(activation_forward(act, 1 << 16));
        t.push(activation_backward(act, 1 << 16));
    }
    t
}

/// `n` numbers in [-1, 1).
fn numbers(n: usize) -> Vec<f32> {
    let mut s = 0x9E37_79B9_7F4A_7C15u64;
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (s >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

#[derive(Clone, Copy, Debug)]
enum Layout {
    Nn,
    Nt,
    Tn,
}

impl Layout {
    fn strides(self, m: usize, n: usize, k: usize) -> (gemm::Strides, gemm::Strides) {
        match self {
            Layout::Nn => ((k, 1), (n, 1)),
            Layout::Nt => ((k, 1), (1, k)),
            Layout::Tn => ((1, m), (n, 1)),
        }
    }
}

/// The entry on a set with the CPU's dot products of bf16, or without; None: as the CPU's maker decides.
fn in_bf16(e: Entry, dot: Option<bool>) -> Entry {
    let kind = dot.map_or("", |dot| if dot { "dot " } else { "rounded " });
    let kernel = e.kernel;
    let chosen = move |isa: Isa| kernel(dot.and_then(|dot| isa.with_bf16_dot(dot)).unwrap_or(isa));
    Entry { name: format!("{kind}{}", e.name), kernel: Box::new(chosen), reference: None, ..e }
}

/// The entry on a set with the CPU's dot products of 8-bit integers, where it has some, or without.
fn in_int8(e: Entry, dot: bool) -> Entry {
    let (kind, kernel) = (if dot { "dot" } else { "rounded" }, e.kernel);
    let chosen = move |isa: Isa| kernel(isa.with_int8_dot(dot).unwrap_or(isa));
    Entry { name: format!("{kind} {}", e.name), kernel: Box::new(chosen), reference: None, ..e }
}

fn product(what: &str, m: usize, n: usize, k: usize, layout: Layout) -> Entry {
    product_in(what, m, n, k, layout, MatmulPrecision::F32)
}

fn product_in(what: &str, m: usize, n: usize, k: usize, layout: Layout, precision: MatmulPrecision) -> Entry {
    let (sa, sb) = layout.strides(m, n, k);
    let kernel = move |isa| -> Run {
        let (a, b, mut c) = (numbers(m * k), numbers(k * n), vec![0.0; m * n]);
        let mut scratch = vec![0.0; gemm::scratch_len::<f32>(m, n, k)];
        Box::new(move || {
            let (s, none) = (&mut scratch, Epilogue::NONE);
            gemm::gemm_with(isa, precision, (m, n, k), &a, sa, &b, sb, Beta::Zero, &mut c, n, none, s);
            black_box(&c);
        })
    };
    let reference = move || -> Run {
        let (a, b, mut c) = (numbers(m * k), numbers(k * n), vec![0.0f32; m * n]);
        Box::new(move || {
            gemm::gemm_reference((m, n, k), &a, sa, &b, sb, Beta::Zero, &mut c, n, Epilogue::NONE);
            black_box(&c);
        })
    };
    let bf16 = if precision == MatmulPrecision::Bf16 { "bf16 " } else { "" };
    let name = format!("gemm {bf16}{layout:?} {m}x{n}x{k} ({what})");
    entry(name, 2 * m * n * k, m * k + k * n + m * n, kernel, Some(Box::new(reference)))
}

/// The same product by the matrixmultiply crate, which chooses its own instruction set.
fn yardstick(what: &str, m: usize, n: usize, k: usize, layout: Layout) -> Entry {
    let (sa, sb) = layout.strides(m, n, k);
    let kernel = move |_| -> Run {
        let (a, b, mut c) = (numbers(m * k), numbers(k * n), vec![0.0f32; m * n]);
        Box::new(move || {
            let (rsa, csa, rsb, csb) = (sa.0 as isize, sa.1 as isize, sb.0 as isize, sb.1 as isize);
            let (pa, pb, pc) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
            #[allow(unsafe_code)]
            // SAFETY: the vectors hold m k, k n and m n elements, which the strides span exactly.
            unsafe {
                matrixmultiply::sgemm(m, k, n, 1.0, pa, rsa, csa, pb, rsb, csb, 0.0, pc, n as isize, 1);
            }
            black_box(&c);
        })
    };
    let name = format!("matrixmultiply {layout:?} {m}x{n}x{k} ({what})");
    entry(name, 2 * m * n * k, m * k + k * n + m * n, kernel, None)
}

fn packed_product(what: &str, m: usize, n: usize, k: usize, precision: MatmulPrecision) -> Entry {
    let kernel = move |isa| -> Run {
        let (a, b, mut c) = (numbers(m * k), numbers(k * n), vec![0.0; m * n]);
        let mut packed = vec![0.0; gemm::packed_len::<f32>(k, n)];
        gemm::pack_b(isa, precision, k, n, &b, (1, k), &mut packed);
        let mut scratch = vec![0.0; gemm::packed_scratch_len::<f32>(m)];
        Box::new(move || {
            let (a, s) = (&a, &mut scratch);
            gemm::gemm_packed(
                isa,
                precision,
                (m, n, k),
                a,
                (k, 1),
                &packed,
                Beta::Zero,
                &mut c,
                n,
                Epilogue::NONE,
                s,
            );
            black_box(&c);
        })
    };
    let kind = match precision {
        MatmulPrecision::F32 => "",
        MatmulPrecision::Bf16 => "bf16 ",
        MatmulPrecision::Int8 => "int8 ",
    };
    let name = format!("gemm {kind}packed {m}x{n}x{k} ({what})");
    entry(name, 2 * m * n * k, m * k + k * n + m * n, kernel, None)
}

fn double(m: usize, n: usize, k: usize) -> Entry {
    let wide = |x: Vec<f32>| x.into_iter().map(f64::from).collect::<Vec<f64>>();
    let kernel = move |isa| -> Run {
        let (a, b, mut c) = (wide(numbers(m * k)), wide(numbers(k * n)), vec![0.0f64; m * n]);
        let mut scratch = vec![0.0; gemm::scratch_len::<f64>(m, n, k)];
        Box::new(move || {
            gemm::gemm(isa, m, n, k, &a, (k, 1), &b, (n, 1), Beta::Zero, &mut c, n, &mut scratch);
            black_box(&c);
        })
    };
    entry(format!("gemm f64 Nn {m}x{n}x{k}"), 2 * m * n * k, 2 * (m * k + k * n + m * n), kernel, None)
}

fn act_name(act: Option<Activation>) -> String {
    act.map_or_else(|| "plain".into(), |a| format!("{a:?}"))
}

fn linear_forward(d: linear::Dims, act: Option<Activation>) -> Entry {
    let (m, k, n) = (d.rows, d.inputs, d.outputs);
    let kernel = move |isa| -> Run {
        let (x, w, b, mut y) = (numbers(m * k), numbers(k * n), numbers(n), vec![0.0; m * n]);
        let mut saved = vec![0.0; linear::saved_len(d, act)];
        let mut scratch = vec![0.0; linear::scratch_len::<f32>(d, act)];
        Box::new(move || {
            linear::forward(isa, d, act, &x, &w, &[], Some(&b), &mut y, &mut saved, &mut scratch);
            black_box(&y);
        })
    };
    let reference = move || -> Run {
        let (x, w, b, mut y) = (numbers(m * k), numbers(k * n), numbers(n), vec![0.0; m * n]);
        Box::new(move || {
            linear::forward_reference(d, act, &x, &w, Some(&b), &mut y, &mut []);
            black_box(&y);
        })
    };
    let name = format!("linear forward {m}x{k}->{n} {}", act_name(act));
    entry(name, 2 * m * n * k, m * k + k * n + m * n, kernel, Some(Box::new(reference)))
}

fn linear_backward(d: linear::Dims, act: Option<Activation>) -> Entry {
    let (m, k, n) = (d.rows, d.inputs, d.outputs);
    let kernel = move |isa| -> Run {
        let (x, w, y, dy) = (numbers(m * k), numbers(k * n), numbers(m * n), numbers(m * n));
        let saved = numbers(linear::saved_len(d, act));
        let (mut dx, mut dw, mut db) = (vec![0.0; m * k], vec![0.0; k * n], vec![0.0; n]);
        let mut scratch = vec![0.0; linear::scratch_len::<f32>(d, act)];
        Box::new(move || {
            let (gx, gw, gb) = (Some(GradMut::overwrite(&mut dx)), Some(&mut dw[..]), Some(&mut db[..]));
            linear::backward(isa, d, act, &x, &w, &[], &y, &saved, &dy, gx, gw, gb, &mut scratch);
        })
    };
    let name = format!("linear backward {m}x{k}->{n} {}", act_name(act));
    entry(name, 4 * m * n * k, 2 * (m * k + k * n + m * n), kernel, None)
}

fn conv_sizes(d: conv1d::Dims) -> (usize, usize, usize, usize) {
    let out = d.out_length().unwrap_or(0);
    let w = d.in_channels * d.out_channels * d.kernel;
    let (x, y) = (d.batch * d.length * d.in_channels, d.batch * out * d.out_channels);
    (x, w, y, 2 * d.batch * out * w)
}

/// How a convolution is called: as its sizes choose, the same with weights prepared before, or by the implicit product.
#[derive(Clone, Copy, PartialEq)]
enum Path {
    Chosen,
    Prepared,
    Direct,
}

impl Path {
    fn name(self) -> &'static str {
        match self {
            Path::Chosen => "",
            Path::Prepared => " prepared",
            Path::Direct => " direct",
        }
    }

    fn prepared(self, isa: Isa, d: conv1d::Dims, w: &[f32]) -> Vec<f32> {
        if self != Path::Prepared {
            return vec![];
        }
        let mut to = vec![0.0; conv1d::prepared_len::<f32>(d, true)];
        conv1d::prepare(isa, d, w, true, &mut to);
        to
    }

    fn scratch(self, d: conv1d::Dims, act: Option<Activation>) -> Vec<f32> {
        let direct = self == Path::Direct;
        let len = if direct { conv1d::scratch_len_direct::<f32> } else { conv1d::scratch_len::<f32> };
        vec![0.0; len(d, act)]
    }
}

fn conv_forward(d: conv1d::Dims, path: Path) -> Entry {
    let (x_len, w_len, y_len, flops) = conv_sizes(d);
    let act = Some(Activation::Relu);
    let kernel = move |isa| -> Run {
        let (x, w, b, mut y) = (numbers(x_len), numbers(w_len), numbers(d.out_channels), vec![0.0; y_len]);
        let (mut scratch, prepared) = (path.scratch(d, act), path.prepared(isa, d, &w));
        Box::new(move || {
            let (y, scratch) = (&mut y[..], &mut scratch[..]);
            if path == Path::Direct {
                conv1d::forward_direct(isa, d, act, &x, &w, Some(&b), y, &mut [], scratch);
            } else {
                conv1d::forward(isa, d, act, &x, &w, &prepared, Some(&b), y, &mut [], scratch);
            }
            black_box(&y);
        })
    };
    let reference = move || -> Run {
        let (x, w, b, mut y) = (numbers(x_len), numbers(w_len), numbers(d.out_channels), vec![0.0; y_len]);
        Box::new(move || {
            conv1d::forward_reference(d, act, &x, &w, Some(&b), &mut y, &mut []);
            black_box(&y);
        })
    };
    let name = format!("conv1d forward {}->{} k{}{}", d.in_channels, d.out_channels, d.kernel, path.name());
    let reference = (path == Path::Chosen).then(|| Box::new(reference) as _);
    entry(name, flops, x_len + w_len + y_len, kernel, reference)
}

fn conv_backward(d: conv1d::Dims, path: Path, what: &str, want_dx: bool, want_dw: bool) -> Entry {
    let (x_len, w_len, y_len, flops) = conv_sizes(d);
    let act = Some(Activation::Relu);
    let kernel = move |isa| -> Run {
        let (x, w, y, dy) = (numbers(x_len), numbers(w_len), numbers(y_len), numbers(y_len));
        let (mut dx, mut dw, mut db) = (vec![0.0; x_len], vec![0.0; w_len], vec![0.0; d.out_channels]);
        let (mut scratch, prepared) = (path.scratch(d, act), path.prepared(isa, d, &w));
        Box::new(move || {
            let scratch = &mut scratch[..];
            let gx = want_dx.then(|| GradMut::overwrite(&mut dx));
            let (gw, gb) = (want_dw.then_some(&mut dw[..]), want_dw.then_some(&mut db[..]));
            if path == Path::Direct {
                conv1d::backward_direct(isa, d, act, &x, &w, &y, &[], &dy, gx, gw, gb, scratch);
            } else {
                conv1d::backward(isa, d, act, &x, &w, &prepared, &y, &[], &dy, gx, gw, gb, scratch);
            }
        })
    };
    let name = format!("conv1d {what} {}->{} k{}{}", d.in_channels, d.out_channels, d.kernel, path.name());
    let flops = flops * (usize::from(want_dx) + usize::from(want_dw));
    entry(name, flops, x_len + w_len + y_len, kernel, None)
}

fn ff_name(what: &str, d: feed_forward::Dims, act: Activation, dropout: Dropout) -> String {
    let drop = if dropout.is_none() { "" } else { " dropout" };
    format!("feed_forward {what} {}x{}->{} {act:?}{drop}", d.samples * d.rows, d.width, d.hidden)
}

fn ff_forward(d: feed_forward::Dims, act: Activation, dropout: Dropout) -> Entry {
    let (n, w) = (d.samples * d.rows * d.width, d.width * d.hidden);
    let kernel = move |isa| -> Run {
        let (x, w1, w2) = (numbers(n), numbers(w), numbers(w));
        let (b1, b2, mut y) = (numbers(d.hidden), numbers(d.width), vec![0.0; n]);
        let mut saved = vec![0.0; feed_forward::saved_len(d)];
        let (mut scratch, key) = (vec![0.0; feed_forward::scratch_len::<f32>(d)], Key::default());
        Box::new(move || {
            let (y, saved, scratch) = (&mut y[..], &mut saved[..], &mut scratch[..]);
            feed_forward::forward(isa, d, act, dropout, key, &x, &w1, &b1, &w2, &b2, &[], y, saved, scratch);
        })
    };
    let flops = 4 * d.samples * d.rows * w;
    entry(ff_name("forward", d, act, dropout), flops, 2 * n + 2 * w, kernel, None)
}

fn ff_backward(d: feed_forward::Dims, act: Activation, dropout: Dropout) -> Entry {
    let (n, w) = (d.samples * d.rows * d.width, d.width * d.hidden);
    let kernel = move |isa| -> Run {
        let (x, w1, w2, b1, dy) = (numbers(n), numbers(w), numbers(w), numbers(d.hidden), numbers(n));
        let saved = numbers(feed_forward::saved_len(d));
        let (mut dx, mut dw1, mut dw2) = (vec![0.0; n], vec![0.0; w], vec![0.0; w]);
        let (mut db1, mut db2) = (vec![0.0; d.hidden], vec![0.0; d.width]);
        let (mut scratch, key) = (vec![0.0; feed_forward::scratch_len::<f32>(d)], Key::default());
        Box::new(move || {
            let (gx, g1, g2) = (Some(GradMut::overwrite(&mut dx)), Some(&mut dw1[..]), Some(&mut dw2[..]));
            let (h1, h2, s) = (Some(&mut db1[..]), Some(&mut db2[..]), &mut scratch[..]);
            feed_forward::backward(
                isa,
                d,
                act,
                dropout,
                key,
                &x,
                &w1,
                &b1,
                &w2,
                &[],
                &saved,
                &dy,
                gx,
                g1,
                h1,
                g2,
                h2,
                s,
            );
        })
    };
    let flops = 8 * d.samples * d.rows * w;
    entry(ff_name("backward", d, act, dropout), flops, 3 * n + 4 * w, kernel, None)
}

/// q, k and v as column blocks of one `[t, 3 width]` buffer.
const BLOCKS: [usize; 3] = [0, 1, 2];

fn attention_name(what: &str, d: attention::Dims, dropout: Dropout) -> String {
    let drop = if dropout.is_none() { "" } else { " dropout" };
    let bf16 = if d.precision == MatmulPrecision::Bf16 { "bf16 " } else { "" };
    format!("{bf16}attention {what} {}x{} heads {}x{}{drop}", d.tq, d.tk, d.heads, d.head_dim)
}

fn attention_forward(d: attention::Dims, dropout: Dropout) -> Entry {
    let (w, t, scale) = (d.width(), d.tq.max(d.tk), 1.0 / (d.head_dim as f64).sqrt());
    let set_up = move || (numbers(t * 3 * w), vec![0.0f32; d.tq * w], vec![0.0f32; attention::saved_len(d)]);
    let kernel = move |isa| -> Run {
        let (qkv, mut y, mut saved) = set_up();
        let mut scratch = vec![0.0; attention::scratch_len::<f32>(d)];
        Box::new(move || {
            let [q, k, v] = BLOCKS.map(|i| attention::Rows { data: &qkv, stride: 3 * w, offset: i * w });
            let (y, saved, key) = (&mut y[..], &mut saved[..], Key::default());
            attention::forward(isa, d, scale, q, k, v, None, dropout, key, y, saved, &mut scratch);
        })
    };
    let reference = move || -> Run {
        let (qkv, mut y, mut saved) = set_up();
        let mut scratch = vec![0.0; 2 * d.tk];
        Box::new(move || {
            let [q, k, v] = BLOCKS.map(|i| attention::Rows { data: &qkv, stride: 3 * w, offset: i * w });
            let (y, saved, key) = (&mut y[..], &mut saved[..], Key::default());
            attention::forward_reference(d, scale, q, k, v, None, dropout, key, y, saved, &mut scratch);
        })
    };
    let name = attention_name("forward", d, dropout);
    let floats = 2 * d.tq * w + 2 * d.tk * w;
    entry(name, 4 * d.tq * d.tk * w, floats, kernel, dropout.is_none().then(|| Box::new(reference) as _))
}

fn attention_backward(d: attention::Dims, dropout: Dropout) -> Entry {
    let (w, t, scale) = (d.width(), d.tq.max(d.tk), 1.0 / (d.head_dim as f64).sqrt());
    let kernel = move |isa| -> Run {
        let (qkv, y, dy) = (numbers(t * 3 * w), numbers(d.tq * w), numbers(d.tq * w));
        // A plausible log-sum-exp keeps every probability finite.
        let saved = vec![(d.tk as f32).ln(); attention::saved_len(d)];
        let mut scratch = vec![0.0; attention::scratch_len::<f32>(d)];
        let mut grad = vec![0.0f32; t * 3 * w];
        Box::new(move || {
            let [q, k, v] = BLOCKS.map(|i| attention::Rows { data: &qkv, stride: 3 * w, offset: i * w });
            let [dq, dk, dv] =
                BLOCKS.map(|i| Some(GradRows { buffer: 0, stride: 3 * w, offset: i * w, beta: Beta::Zero }));
            let (buffers, key): (&mut [&mut [f32]], _) = (&mut [&mut grad], Key::default());
            let s = &mut scratch[..];
            attention::backward(
                isa, d, scale, q, k, v, None, dropout, key, &y, &saved, &dy, buffers, dq, dk, dv, s,
            );
        })
    };
    let floats = 4 * d.tq * w + 4 * d.tk * w;
    entry(attention_name("backward", d, dropout), 10 * d.tq * d.tk * w, floats, kernel, None)
}

fn few_queries(
    d: absorbed_attention::Dims,
    what: &str,
    dropout: Dropout,
    absorbed: bool,
    kernel: impl Fn(Isa) -> Run + 'static,
    passes: usize,
) -> Entry {
    let attended = 2 * d.tq * d.inner() * d.tk;
    let flops = if absorbed {
        2 * passes * d.tq * d.heads * d.width * (d.tk + d.head_dim)
    } else {
        passes * attended + 2 * passes.min(4) * d.tk * d.width * d.inner()
    };
    let (path, drop) =
        (if absorbed { "absorbed" } else { "projected" }, if dropout.is_none() { "" } else { " dropout" });
    let name = format!(
        "{path} attention {what} {}x{} heads {}x{} of {}{drop}",
        d.tq, d.tk, d.heads, d.head_dim, d.width
    );
    entry(name, flops, d.tk * d.width + 2 * d.inner() * d.width, kernel, None)
}

/// The sizes of projecting first: the layer and the attention.
fn projected(d: absorbed_attention::Dims) -> (linear::Dims, attention::Dims) {
    let (rows, outputs, precision) = (d.batch * d.tk, 2 * d.inner(), MatmulPrecision::F32);
    let absorbed_attention::Dims { batch, tq, tk, heads, head_dim, width } = d;
    let layer = linear::Dims { rows, inputs: width, outputs, precision };
    (layer, attention::Dims { batch, tq, tk, heads, head_dim, precision: MatmulPrecision::F32 })
}

fn few_queries_forward(d: absorbed_attention::Dims, dropout: Dropout, absorbed: bool) -> Entry {
    let (scale, n) = (1.0 / (d.head_dim as f64).sqrt(), d.batch * d.tq * d.inner());
    let kernel = move |isa| -> Run {
        let (q, x, w) = (numbers(n), numbers(d.batch * d.tk * d.width), numbers(2 * d.inner() * d.width));
        let (b, key, mut y) = (numbers(2 * d.inner()), Key::default(), vec![0.0; n]);
        if absorbed {
            let mut saved = vec![0.0; absorbed_attention::saved_len(d)];
            let mut scratch = vec![0.0; absorbed_attention::scratch_len::<f32>(d)];
            return Box::new(move || {
                let (b, y, saved, s) = (Some(&b[..]), &mut y[..], &mut saved[..], &mut scratch[..]);
                absorbed_attention::forward(isa, d, scale, &q, &x, &w, b, None, dropout, key, y, saved, s);
            });
        }
        let (l, a) = projected(d);
        let (mut kv, mut saved) = (vec![0.0; l.rows * l.outputs], vec![0.0; attention::saved_len(a)]);
        let mut scratch =
            vec![0.0; linear::scratch_len::<f32>(l, None).max(attention::scratch_len::<f32>(a))];
        let mut prepared = vec![0.0; linear::prepared_len::<f32>(l, true)];
        linear::prepare(isa, l, &w, true, &mut prepared);
        Box::new(move || {
            let s = &mut scratch[..];
            linear::forward(isa, l, None, &x, &w, &prepared, Some(&b), &mut kv, &mut [], s);
            let rows = |data, stride, offset| attention::Rows { data, stride, offset };
            let (q, k) = (rows(&q, d.inner(), 0), rows(&kv, l.outputs, 0));
            let (v, y, saved) = (rows(&kv, l.outputs, d.inner()), &mut y[..], &mut saved[..]);
            attention::forward(isa, a, scale, q, k, v, None, dropout, key, y, saved, s);
        })
    };
    let reference = move || -> Run {
        let (q, x, w) = (numbers(n), numbers(d.batch * d.tk * d.width), numbers(2 * d.inner() * d.width));
        let (b, key, mut y) = (numbers(2 * d.inner()), Key::default(), vec![0.0f32; n]);
        let mut scratch = vec![0.0; d.tk + 3 * d.width];
        Box::new(move || {
            let (b, y, s) = (Some(&b[..]), &mut y[..], &mut scratch[..]);
            let saved = &mut [];
            absorbed_attention::forward_reference(d, scale, &q, &x, &w, b, None, dropout, key, y, saved, s);
        })
    };
    let alone = absorbed && dropout.is_none() && d.tq == 1;
    let reference = alone.then(|| Box::new(reference) as _);
    Entry { reference, ..few_queries(d, "forward", dropout, absorbed, kernel, 2) }
}

fn few_queries_backward(d: absorbed_attention::Dims, dropout: Dropout, absorbed: bool) -> Entry {
    let (scale, n) = (1.0 / (d.head_dim as f64).sqrt(), d.batch * d.tq * d.inner());
    let kernel = move |isa| -> Run {
        let (q, x, w) = (numbers(n), numbers(d.batch * d.tk * d.width), numbers(2 * d.inner() * d.width));
        let (b, key, y, dy) = (numbers(2 * d.inner()), Key::default(), numbers(n), numbers(n));
        let (mut dq, mut dx, mut dw) = (vec![0.0; n], vec![0.0; x.len()], vec![0.0; w.len()]);
        let mut db = vec![0.0; b.len()];
        // A plausible log-sum-exp keeps every probability finite.
        let mut saved = vec![(d.tk as f32).ln(); absorbed_attention::saved_len(d)];
        if absorbed {
            let mut scratch = vec![0.0; absorbed_attention::scratch_len::<f32>(d)];
            return Box::new(move || {
                let (gq, gx) = (Some(GradMut::overwrite(&mut dq)), Some(GradMut::overwrite(&mut dx)));
                let (gw, gb, b, s) = (Some(&mut dw[..]), Some(&mut db[..]), Some(&b[..]), &mut scratch[..]);
                absorbed_attention::backward(
                    isa, d, scale, &q, &x, &w, b, None, dropout, key, &saved, &dy, gq, gx, gw, gb, s,
                );
            });
        }
        let (l, a) = projected(d);
        saved.truncate(attention::saved_len(a));
        let (kv, mut dkv) = (numbers(l.rows * l.outputs), vec![0.0; l.rows * l.outputs]);
        let mut scratch =
            vec![0.0; linear::scratch_len::<f32>(l, None).max(attention::scratch_len::<f32>(a))];
        let mut prepared = vec![0.0; linear::prepared_len::<f32>(l, true)];
        linear::prepare(isa, l, &w, true, &mut prepared);
        Box::new(move || {
            let s = &mut scratch[..];
            let rows = |data, stride, offset| attention::Rows { data, stride, offset };
            let (rq, k, v) =
                (rows(&q, d.inner(), 0), rows(&kv, l.outputs, 0), rows(&kv, l.outputs, d.inner()));
            let at = |buffer, stride, offset| Some(GradRows { buffer, stride, offset, beta: Beta::Zero });
            let (gq, gk, gv) = (at(0, d.inner(), 0), at(1, l.outputs, 0), at(1, l.outputs, d.inner()));
            let buffers: &mut [&mut [f32]] = &mut [&mut dq, &mut dkv];
            attention::backward(
                isa, a, scale, rq, k, v, None, dropout, key, &y, &saved, &dy, buffers, gq, gk, gv, s,
            );
            let (gx, gw, gb) = (Some(GradMut::overwrite(&mut dx)), Some(&mut dw[..]), Some(&mut db[..]));
            linear::backward(isa, l, None, &x, &w, &prepared, &kv, &[], &dkv, gx, gw, gb, s);
        })
    };
    few_queries(d, "backward", dropout, absorbed, kernel, 5)
}

fn layer_norm_name(what: &str, d: layer_norm::Dims, branch: Option<Dropout>) -> String {
    let branch = match branch {
        None => "",
        Some(drop) if drop.is_none() => " residual",
        Some(_) => " residual dropout",
    };
    format!("layer_norm {what} {}x{}{branch}", d.samples * d.rows, d.cols)
}

fn layer_norm_forward(d: layer_norm::Dims, branch: Option<Dropout>) -> Entry {
    let n = d.samples * d.rows * d.cols;
    let kernel = move |isa| -> Run {
        let (x, r, gamma, beta, mut y) =
            (numbers(n), numbers(n), numbers(d.cols), numbers(d.cols), vec![0.0; n]);
        let mut saved = vec![0.0; layer_norm::saved_len(d)];
        Box::new(move || {
            let key = Key::default();
            let residual = branch.map(|dropout| layer_norm::Residual { data: &r[..], dropout, key });
            layer_norm::forward(isa, d, 1e-5, &x, residual, &gamma, &beta, &mut y, &mut saved);
        })
    };
    let floats = if branch.is_some() { 3 * n } else { 2 * n };
    entry(layer_norm_name("forward", d, branch), 0, floats, kernel, None)
}

fn layer_norm_backward(d: layer_norm::Dims, branch: Option<Dropout>) -> Entry {
    let n = d.samples * d.rows * d.cols;
    let kernel = move |isa| -> Run {
        let (x, r, dy, gamma, saved) =
            (numbers(n), numbers(n), numbers(n), numbers(d.cols), numbers(layer_norm::saved_len(d)));
        let (mut dx, mut dr, mut dg, mut db) =
            (vec![0.0; n], vec![0.0; n], vec![0.0; d.cols], vec![0.0; d.cols]);
        let mut scratch = vec![0.0; layer_norm::scratch_len(d)];
        Box::new(move || {
            let key = Key::default();
            let residual = branch.map(|dropout| layer_norm::Residual { data: &r[..], dropout, key });
            let gr = branch.map(|_| GradMut::overwrite(&mut dr));
            let (gx, gg, gb) = (Some(GradMut::overwrite(&mut dx)), Some(&mut dg[..]), Some(&mut db[..]));
            layer_norm::backward(isa, d, &x, residual, &gamma, &saved, &dy, gx, gr, gg, gb, &mut scratch);
        })
    };
    let floats = if branch.is_some() { 5 * n } else { 3 * n };
    entry(layer_norm_name("backward", d, branch), 0, floats, kernel, None)
}

fn softmax_forward(d: softmax::Dims) -> Entry {
    let n = d.rows * d.cols;
    let kernel = move |isa| -> Run {
        let (x, mut y) = (numbers(n), vec![0.0; n]);
        Box::new(move || softmax::forward(isa, d, &x, &mut y))
    };
    let reference = move || -> Run {
        let (x, mut y) = (numbers(n), vec![0.0f32; n]);
        Box::new(move || softmax::forward_reference(d, &x, &mut y))
    };
    entry(format!("softmax forward {}x{}", d.rows, d.cols), 0, 2 * n, kernel, Some(Box::new(reference)))
}

fn softmax_backward(d: softmax::Dims) -> Entry {
    let n = d.rows * d.cols;
    let kernel = move |isa| -> Run {
        let (y, dy, mut dx) = (numbers(n), numbers(n), vec![0.0; n]);
        Box::new(move || softmax::backward(isa, d, &y, &dy, GradMut::overwrite(&mut dx)))
    };
    entry(format!("softmax backward {}x{}", d.rows, d.cols), 0, 3 * n, kernel, None)
}

fn activation_forward(act: Activation, n: usize) -> Entry {
    let kernel = move |isa| -> Run {
        let (x, mut y) = (numbers(n), vec![0.0; n]);
        Box::new(move || activation::forward(isa, act, &x, &mut y))
    };
    let reference = move || -> Run {
        let (x, mut y) = (numbers(n), vec![0.0f32; n]);
        Box::new(move || {
            for (y, &x) in y.iter_mut().zip(&x) {
                *y = activation::value_and_slope(act, x).0;
            }
            black_box(&y);
        })
    };
    entry(format!("activation forward {act:?} {n}"), 0, 2 * n, kernel, Some(Box::new(reference)))
}

fn activation_backward(act: Activation, n: usize) -> Entry {
    let kernel = move |isa| -> Run {
        let (x, dy, mut dx) = (numbers(n), numbers(n), vec![0.0; n]);
        Box::new(move || activation::backward(isa, act, &x, &dy, GradMut::overwrite(&mut dx)))
    };
    entry(format!("activation backward {act:?} {n}"), 0, 3 * n, kernel, None)
}

struct Options {
    filters: Vec<String>,
    isas: Vec<Isa>,
    json: bool,
    reference: bool,
    limit: Duration,
}

fn options() -> Result<Options, String> {
    let (isas, limit) = (vec![Isa::best()], Duration::from_secs(2));
    let mut o = Options { filters: Vec::new(), isas, json: false, reference: true, limit };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // cargo bench adds it.
            "--bench" => {}
            "--json" => o.json = true,
            "--no-reference" => o.reference = false,
            "--isa" => {
                let name = args.next().ok_or("--isa needs a name, or 'all'")?;
                o.isas = if name == "all" {
                    Isa::available()
                } else {
                    let known = Isa::available();
                    vec![Isa::by_name(&name).ok_or(format!("this CPU has {known:?}, not {name}"))?]
                };
            }
            "--seconds" => {
                let s = args.next().and_then(|s| s.parse().ok()).filter(|s: &f64| *s >= 0.0 && s.is_finite());
                o.limit = Duration::from_secs_f64(s.ok_or("--seconds needs a number")?);
            }
            flag if flag.starts_with("--") => return Err(format!("unknown flag {flag}")),
            word => o.filters.push(word.to_owned()),
        }
    }
    Ok(o)
}

fn main() {
    let o = match options() {
        Ok(o) => o,
        Err(message) => {
            eprintln!("{message}");
            std::process::exit(2);
        }
    };
    let bandwidth = measure::bandwidth(Isa::best(), o.limit);
    for &isa in &o.isas {
        let peak = measure::fma_peak(isa, o.limit);
        if !o.json {
            println!("\n{isa}: FMA peak {peak:.1} GFLOP/s, memory {bandwidth:.1} GB/s (triad), one thread");
            println!(
                "{:<48} {:>11} {:>9} {:>7} {:>7} {:>8} {:>7} {:>11} {:>7}",
                "kernel", "us", "GFLOP/s", "of peak", "best", "GB/s", "of mem", "x reference", "clean"
            );
        }
        for e in table() {
            if !o.filters.is_empty() && !o.filters.iter().any(|f| e.name.contains(f.as_str())) {
                continue;
            }
            let t = time(&mut *(e.kernel)(isa), o.limit, 9);
            let reference = e.reference.as_ref().filter(|_| o.reference);
            let ratio = reference
                .map(|r| time(&mut *r(), o.limit.min(Duration::from_secs(1)), 3).seconds / t.seconds);
            report(&o, isa, &e, &t, peak, bandwidth, ratio);
        }
    }
}

fn report(o: &Options, isa: Isa, e: &Entry, t: &Timing, peak: f64, bandwidth: f64, ratio: Option<f64>) {
    let (gflops, gbytes) = (e.flops / t.seconds / 1e9, e.bytes / t.seconds / 1e9);
    if o.json {
        println!(
            "{{\"kernel\":\"{}\",\"isa\":\"{isa}\",\"seconds\":{:e},\"best_seconds\":{:e},\"gflops\":{gflops:.3},\"peak_gflops\":{peak:.3},\
             \"gbytes\":{gbytes:.3},\"memory_gbytes\":{bandwidth:.3},\"reference_ratio\":{},\"clean\":{},\"total\":{}}}",
            e.name,
            t.seconds,
            t.best,
            ratio.map_or_else(|| "null".into(), |r| format!("{r:.3}")),
            t.clean,
            t.total
        );
    } else {
        println!(
            "{:<48} {:>11.2} {:>9.2} {:>6.1}% {:>6.1}% {:>8.2} {:>6.1}% {:>11} {:>4}/{}",
            e.name,
            t.seconds * 1e6,
            gflops,
            100.0 * gflops / peak,
            100.0 * e.flops / t.best / 1e9 / peak,
            gbytes,
            100.0 * gbytes / bandwidth,
            ratio.map_or_else(String::new, |r| format!("{r:.1}")),
            t.clean,
            t.total
        );
    }
}
