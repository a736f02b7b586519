//! # Lesson 6: what the plan does with memory
//!
//! Run it: `cargo run --release --no-default-features --example 06_memory_plan`
//!
//! A recorded program is a list of operations whose shapes are known. So before anything runs it is known which values
//! exist, when each is written, and when it is read for the last time. A [`Plan`] uses that to give every buffer a place in
//! one block of memory, the arena, so that buffers that are never needed at the same time share a place. An executor
//! allocates the arena once; passes allocate nothing.
//!
//! **Time.** With n operations, the forward pass of operation i happens at time i and its backward pass at time 2n - i: the
//! last one forward is the first one back, like closing brackets. A value that the backward pass reads must survive from i
//! until its readers' turn; in between lies everything recorded later. So the values of the first layer live longest.
//! That is why training needs so much more memory than running.
//!
//! **Four kinds of buffers.** *Values*: results of operations. *Saved*: what an operation keeps beside its result for its
//! own backward pass (the statistics of a layer norm, one number per query of an attention). *Gradients*: dL/d(value).
//! *Scratch*: working memory inside one operation, for instance the tile of scores of lesson 4.
//!
//! **Placing** is like packing boxes whose length is their lifetime: two boxes must not overlap in time and address both.
//! Finding the best packing is NP-hard; "largest first, into the lowest gap" comes close to the bound below which nobody
//! can get, the largest sum of buffers alive at one moment. The table prints both.

use heartlore::graph::{
    AttentionSpec, Columns, Exec, FeedForwardParams, Graph, Id, OutputRequest, Plan, trace,
};
use heartlore::graph::{BufferKind, Lifetime};
use heartlore::kernels::activation::Activation;
use heartlore::kernels::losses::Reduction;
use heartlore::kernels::pool::Pool;
use heartlore::tensor::Init;
use std::error::Error;
use std::io::Write;
use std::sync::Arc;

const TOKENS: usize = 256;
const WIDTH: usize = 64;
const HEADS: usize = 2;
const HIDDEN: usize = 128;
/// Bytes of an f32.
const F32: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    lesson(&mut std::io::stdout().lock())
}

/// A transformer encoder over `tokens` rows with `layers` layers, two outputs and a squared error. Returns the program, the
/// prediction and the loss.
fn transformer(tokens: usize, layers: usize) -> heartlore::Result<(Graph, Id, Id)> {
    let mut g = Graph::new();
    let x = g.input("x", [1, tokens, WIDTH])?;
    let positions = g.sinusoid(tokens, WIDTH)?;
    g.scope("positions");
    let mut h = g.add_rows(x, positions)?;
    for layer in 0..layers {
        let name = |what: &str| format!("{layer}.{what}");
        g.scope(format!("layer {layer}"));
        let w = g.param(&name("qkv"), [3 * WIDTH, WIDTH], Init::FanIn(WIDTH))?;
        let qkv = g.linear(h, w, None, None)?;
        let block = |n: usize| Columns { id: qkv, offset: n * WIDTH };
        let spec = AttentionSpec { heads: HEADS, head_dim: WIDTH / HEADS, dropout: 0.0 };
        let mixed = g.attention(block(0), block(1), block(2), None, spec)?;
        let w = g.param(&name("out"), [WIDTH, WIDTH], Init::FanIn(WIDTH))?;
        let a = g.linear(mixed, w, None, None)?;
        let (gamma, beta) =
            (g.param(&name("g1"), [WIDTH], Init::Ones)?, g.param(&name("b1"), [WIDTH], Init::Zeros)?);
        h = g.residual_norm(h, a, 0.0, gamma, beta, 1e-5)?;
        let params = FeedForwardParams {
            w1: g.param(&name("w1"), [HIDDEN, WIDTH], Init::FanIn(WIDTH))?,
            b1: g.param(&name("c1"), [HIDDEN], Init::Zeros)?,
            w2: g.param(&name("w2"), [WIDTH, HIDDEN], Init::FanIn(HIDDEN))?,
            b2: g.param(&name("c2"), [WIDTH], Init::Zeros)?,
        };
        let f = g.feed_forward(h, params, Activation::Gelu, 0.0)?;
        let (gamma, beta) =
            (g.param(&name("g2"), [WIDTH], Init::Ones)?, g.param(&name("b2"), [WIDTH], Init::Zeros)?);
        h = g.residual_norm(h, f, 0.0, gamma, beta, 1e-5)?;
    }
    g.scope("head");
    let pooled = g.pool(h, Pool::Mean)?;
    let w = g.param("head", [2, WIDTH], Init::FanIn(WIDTH))?;
    let prediction = g.linear(pooled, w, None, None)?;
    let target = g.input("target", [1, 2])?;
    let loss = g.masked_mse(prediction, target, None, Reduction::Mean)?;
    Ok((g, prediction, loss))
}

/// Prints the lesson and checks every statement it makes.
pub(crate) fn lesson(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "LESSON 6: WHAT THE PLAN DOES WITH MEMORY\n")?;
    let (g, prediction, loss) = transformer(TOKENS, 1)?;
    let training = Plan::new(&g, OutputRequest::training(loss))?;
    let inference = Plan::new(&g, OutputRequest::values(&[prediction]))?;

    writeln!(
        out,
        "1. The program: one transformer layer, {TOKENS} tokens of width {WIDTH}, as planned for training\n"
    )?;
    writeln!(out, "{}", folded(&trace::program(&g, &training, F32)))?;
    writeln!(
        out,
        "   \"KiB\" is the result of the operation, \"saved KiB\" what it keeps beside it for its backward pass."
    )?;
    writeln!(
        out,
        "   By hand: %4 is 1 * {TOKENS} * {} numbers of 4 bytes = {} KiB, and its product takes",
        3 * WIDTH,
        3 * TOKENS * WIDTH * F32 / 1024
    )?;
    writeln!(
        out,
        "   2 * {TOKENS} * {WIDTH} * {} = {:.3} MFLOP (plus one per element for the rest).\n",
        3 * WIDTH,
        (6 * TOKENS * WIDTH * WIDTH) as f64 / 1e6
    )?;

    writeln!(out, "2. Training plan and inference plan of the same program\n")?;
    writeln!(out, "   {:<34} {:>12} {:>12}", "KiB in f32", "training", "inference")?;
    let (t, i) = (training.memory(), inference.memory());
    for (name, t, i) in [
        ("values", t.values, i.values),
        ("saved for the backward pass", t.saved, i.saved),
        ("gradients", t.gradients, i.gradients),
        ("scratch, summed over operations", t.scratch, i.scratch),
        ("all, if nothing were shared", t.unshared(), i.unshared()),
        ("arena, with sharing", t.arena, i.arena),
        ("lower bound for any sharing", t.bound, i.bound),
    ] {
        writeln!(out, "   {name:<34} {:>12.1} {:>12.1}", kib(t), kib(i))?;
    }
    writeln!(
        out,
        "\n   Scratch costs its largest, not its sum: it is free again as soon as the operation is done.\n"
    )?;
    assert!(t.bound <= t.arena && t.arena < t.unshared() && i.arena < t.arena);
    assert_eq!((i.saved, i.gradients), (0, 0));

    writeln!(out, "3. Who lives when, in training\n")?;
    let clock = Clock::new(&g, &training);
    lifetimes(out, &g, &training, &clock)?;
    writeln!(
        out,
        "   A value lives until the last reader of its backward pass is done: look at A and B, the first ones"
    )?;
    writeln!(
        out,
        "   written and the last ones freed. A gradient (dG) lives between its first contribution and its use.\n"
    )?;

    writeln!(out, "4. Where they lie: addresses downwards, time to the right\n")?;
    writeln!(out, "   training, {:.1} KiB:\n", kib(t.arena))?;
    addresses(out, &g, &training, &clock)?;
    writeln!(
        out,
        "   inference, {:.1} KiB, nothing kept; results take the place of what is no longer needed:\n",
        kib(i.arena)
    )?;
    addresses(out, &g, &inference, &Clock::new(&g, &inference))?;

    same_numbers(out, &g, prediction, training, inference)?;
    depth(out)?;
    work(out)?;

    writeln!(out, "To see more, change this file:")?;
    writeln!(out, "  - name another value in OutputRequest::values: until when must it live now?")?;
    writeln!(
        out,
        "  - pool with Pool::First: all rows but one of the last layer are computed for nothing. Put a"
    )?;
    writeln!(out, "    gather_rows before the last feed_forward and compare the MFLOP;")?;
    writeln!(out, "  - write the feed-forward block as two linear layers: what does the fused one save?")?;
    writeln!(
        out,
        "This was the last lesson about the machine. README.md says where each subject lives in the source."
    )?;
    Ok(())
}

fn kib(elements: usize) -> f64 {
    (elements * F32) as f64 / 1024.0
}

/// Breaks lines longer than 108 characters; continuations start under the last column.
fn folded(table: &str) -> String {
    let mut text = String::new();
    for line in table.lines() {
        let indent = if line.starts_with("memory") { 15 } else { 77 };
        let mut used = 0;
        for word in line.split_inclusive(' ') {
            if used + word.trim_end().len() > 108 {
                text = format!("{}\n{}", text.trim_end_matches(' '), " ".repeat(indent));
                used = indent;
            }
            text.push_str(word);
            used += word.len();
        }
        text.push('\n');
    }
    text
}

/// The moments at which something happens, and a letter for every operation.
///
/// Inputs and parameters take a number in the program but no time, so their moments are left out of the pictures.
struct Clock {
    /// (time of the plan, the operation's letter, whether backward), in order.
    moments: Vec<(usize, char, bool)>,
    letters: Vec<Option<char>>,
}

impl Clock {
    fn new(g: &Graph, plan: &Plan) -> Self {
        let n = g.nodes().len();
        let mut letters = vec![None; n];
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        let computed = g.ids().filter(|&id| plan.is_live(id) && !g.node(id).op.is_leaf());
        for (letter, id) in ('A'..='Z').zip(computed) {
            letters[id.index()] = Some(letter);
            forward.push((id.index(), letter, false));
            if plan.is_differentiated(id) {
                backward.push((2 * n - id.index(), letter, true));
            }
        }
        forward.extend(backward.into_iter().rev());
        Self { moments: forward, letters }
    }

    /// Two lines that say what happens in each column.
    fn header(&self, out: &mut dyn Write, indent: usize) -> std::io::Result<()> {
        let forward = self.moments.iter().filter(|m| !m.2).count();
        let first = format!("{:<width$}", "forward", width = 3 * forward);
        let second = if forward < self.moments.len() { "backward" } else { "" };
        writeln!(out, "{}{}", " ".repeat(indent), format!("{first}{second}").trim_end())?;
        let letters: String = self.moments.iter().map(|m| format!("{}  ", m.1)).collect();
        writeln!(out, "{}{}", " ".repeat(indent), letters.trim_end())
    }

    /// How a buffer is drawn: `B` a value, `B+` saved, `dB` a gradient, `~~` scratch, `in` an input or table.
    fn mark(&self, buffer: &Lifetime) -> String {
        let Some(letter) = self.letters[buffer.id.index()] else { return "in".into() };
        match buffer.purpose {
            BufferKind::Value => format!("{letter} "),
            BufferKind::Saved => format!("{letter}+"),
            BufferKind::Gradient => format!("d{letter}"),
            BufferKind::ScratchForward | BufferKind::ScratchBackward => "~~".into(),
        }
    }
}

fn alive(buffer: &Lifetime, time: usize) -> bool {
    buffer.span.0 <= time && time <= buffer.span.1
}

/// One line per buffer of at least 1 KiB, one column per moment.
fn lifetimes(out: &mut dyn Write, g: &Graph, plan: &Plan, clock: &Clock) -> std::io::Result<()> {
    clock.header(out, 29)?;
    let mut buffers: Vec<&Lifetime> =
        plan.lifetimes().iter().filter(|b| kib(b.range.len()) >= 1.0 && clock.mark(b) != "~~").collect();
    buffers.sort_by_key(|b| (b.span.0, b.id));
    for b in buffers {
        let what = match clock.letters[b.id.index()] {
            Some(_) => format!("{} {}", clock.mark(b), g.node(b.id).op.name()),
            None => format!("in {}", trace::describe(g, b.id).replace("input ", "")),
        };
        let bar: String = clock.moments.iter().map(|m| if alive(b, m.0) { "===" } else { " . " }).collect();
        writeln!(out, "   {what:<16} {:>5.0} KiB {}", kib(b.range.len()), bar.trim_end())?;
    }
    writeln!(out)
}

/// A map of the arena: one line per band of addresses, one column per moment.
fn addresses(out: &mut dyn Write, g: &Graph, plan: &Plan, clock: &Clock) -> std::io::Result<()> {
    const BAND: usize = 8 * 1024; // elements: 32 KiB
    clock.header(out, 14)?;
    for from in (0..plan.memory().arena).step_by(BAND) {
        let band = from..from + BAND;
        let mut line = format!("   {:>6.0} KiB ", kib(from));
        for &(time, _, _) in &clock.moments {
            // The buffer that fills most of the band at this moment.
            let shared =
                |b: &Lifetime| b.range.end.min(band.end).saturating_sub(b.range.start.max(band.start));
            let here = plan.lifetimes().iter().filter(|b| alive(b, time) && shared(b) > BAND / 4);
            let cell = here.max_by_key(|b| shared(b)).map_or(" .".into(), |b| clock.mark(b));
            line.push_str(&format!("{cell:<3}"));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    let name =
        |(i, letter): (usize, &Option<char>)| letter.map(|l| format!("{l} {}", g.nodes()[i].op.name()));
    let names: Vec<String> = clock.letters.iter().enumerate().filter_map(name).collect();
    writeln!(out)?;
    for line in names.chunks(7) {
        writeln!(out, "   {}", line.join(", "))?;
    }
    writeln!(
        out,
        "   B value of B   B+ saved by B   dB gradient of B   ~~ scratch   in input or table   . free\n"
    )
}

/// Where buffers lie changes no number: both plans give the same prediction, bit for bit.
fn same_numbers(
    out: &mut dyn Write,
    g: &Graph,
    prediction: Id,
    training: Plan,
    inference: Plan,
) -> Result<(), Box<dyn Error>> {
    let g = Arc::new(g.clone());
    let params: Vec<f32> = g.layout().init(1);
    let x: Vec<f32> = (0..TOKENS * WIDTH).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut results = Vec::new();
    let mut sizes = Vec::new();
    // The training plan keeps the loss, not the prediction; ask for both.
    let want = OutputRequest { keep: vec![prediction], ..training.want().clone() };
    for plan in [Plan::new(&g, want)?, inference] {
        let mut exec = Exec::<f32>::new(Arc::clone(&g), Arc::new(plan));
        for (name, values) in [("x", x.as_slice()), ("target", &[0.0, 1.0])] {
            let id = g.find(name).ok_or("no such input")?;
            // The inference plan leaves the target out: nothing that was asked for depends on it.
            if exec.plan().is_live(id) {
                exec.set_input(id, values)?;
            }
        }
        exec.forward(&params);
        results.push(exec.value(prediction).to_vec());
        sizes.push(exec.bytes());
    }
    writeln!(out, "5. The same numbers\n")?;
    writeln!(out, "   prediction, training plan:  {:?}   from an arena of {} bytes", results[0], sizes[0])?;
    writeln!(out, "   prediction, inference plan: {:?}   from an arena of {} bytes\n", results[1], sizes[1])?;
    assert_eq!(results[0], results[1]);
    assert!(results[0].iter().all(|v| v.is_finite()));
    Ok(())
}

/// How both plans grow with the number of layers.
fn depth(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "6. More layers ({TOKENS} tokens, KiB)\n")?;
    writeln!(out, "   {:>6}   {:<32}   inference", "", "training")?;
    writeln!(
        out,
        "   {:>6}   {:>10} {:>10} {:>10}   {:>10} {:>10} {:>10}",
        "layers", "unshared", "arena", "bound", "unshared", "arena", "bound"
    )?;
    let mut arenas = Vec::new();
    for layers in [1, 2, 4, 8] {
        let (g, prediction, loss) = transformer(TOKENS, layers)?;
        let t = Plan::new(&g, OutputRequest::training(loss))?.memory();
        let i = Plan::new(&g, OutputRequest::values(&[prediction]))?.memory();
        writeln!(
            out,
            "   {layers:>6}   {:>10.0} {:>10.0} {:>10.0}   {:>10.0} {:>10.0} {:>10.0}",
            kib(t.unshared()),
            kib(t.arena),
            kib(t.bound),
            kib(i.unshared()),
            kib(i.arena),
            kib(i.bound)
        )?;
        arenas.push((t.arena, i.arena));
    }
    let step = kib(arenas[3].0 - arenas[2].0) / 4.0;
    writeln!(
        out,
        "\n   Training: every layer adds {step:.0} KiB that must wait for the backward pass. Inference: a layer needs"
    )?;
    writeln!(out, "   only its predecessor; from two layers on, the arena does not grow at all.\n")?;
    assert!(arenas[3].0 > 3 * arenas[0].0);
    assert_eq!(arenas[1].1, arenas[3].1);
    Ok(())
}

/// FLOPs by kind of operation, for growing sequences.
fn work(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "7. Work: MFLOP forward of one layer's program, and where it goes\n")?;
    writeln!(
        out,
        "   {:>7} {:>10} {:>12} {:>14} {:>8}   {:>16} {:>18}",
        "tokens", "linear", "attention", "feed_forward", "rest", "attention share", "backward/forward"
    )?;
    let mut shares = Vec::new();
    for tokens in [64, 256, 1024, 4096] {
        let (g, _, loss) = transformer(tokens, 1)?;
        let plan = Plan::new(&g, OutputRequest::training(loss))?;
        let (mut by_kind, mut forward, mut backward) = ([0u64; 4], 0, 0);
        for row in trace::rows(&g, &plan) {
            let kind = ["linear", "attention", "feed_forward"];
            let at = kind.iter().position(|k| *k == g.node(row.id).op.name()).unwrap_or(3);
            by_kind[at] += row.forward;
            forward += row.forward;
            backward += row.backward;
        }
        let m = by_kind.map(|f| f as f64 / 1e6);
        let share = by_kind[1] as f64 / forward as f64;
        writeln!(
            out,
            "   {tokens:>7} {:>10.2} {:>12.2} {:>14.2} {:>8.2}   {:>14.0} % {:>18.2}",
            m[0],
            m[1],
            m[2],
            m[3],
            100.0 * share,
            backward as f64 / forward as f64
        )?;
        shares.push(share);
    }
    writeln!(
        out,
        "\n   Attention grows with the square of the tokens, everything else in proportion to them. Backward costs"
    )?;
    writeln!(
        out,
        "   twice forward for products (lesson 2) and 2.5 times for attention, which computes its probabilities"
    )?;
    writeln!(out, "   a second time instead of having kept them: more work, less memory.\n")?;
    assert!(shares.windows(2).all(|w| w[0] < w[1]) && shares[3] > 0.5);
    Ok(())
}
