//! One operation on several threads: the forward pass of an inference plan, cut into ranges of rows.
//!
//! Rows of a result are computed apart from each other by every kernel named here, so the cuts leave no trace in the
//! numbers as long as no part is so short that its product takes another path ([`gemm::row_grain`]). What has a single row
//! is cut by columns or, in absorbed attention, by keys; a convolution in the frequency domain by frequencies
//! ([`conv1d::Steps`]).
//!
//! Each thread has a share, the same rows from operation to operation as far as shapes allow, so that it finds them in its
//! own cache, and brings the scratch. A share is cut in parts, long ones first ([`TAPER`]), because threads never take the
//! same time: with four equal parts the first to end its share waited 0.13 ms at the end of a feed-forward block's 2.93 and
//! 0.07 at the end of the 1.09 of the projection to queries, keys and values.
//!
//! Of the paper's model on two cores of an AMD EPYC (Zen 5) VM, one window, f32, by turns, ms (`heartlore bench --what
//! predict --batch 1 --threads 2`): 9.59 with convolutions cut by rows, four equal parts a share and single rows whole, 9.33
//! now; in bf16 5.79 and 5.53. With a clock after each operation, on one thread and on two, two before in brackets:
//! convolutions of 33 and 17 taps 0.33 and 0.20 (0.28), 0.93 and 0.51 (0.52); absorbed attention 0.060 and 0.042 (0.060),
//! the last feed-forward block 0.080 and 0.064 (0.083).
//!
//! What is not here runs whole: operations too small to be worth handing out, passes that keep something for a backward
//! pass, and products whose weights are not prepared, because every part would pack them anew.

use super::aligned::Aligned;
use super::builder::Graph;
use super::cost;
use super::exec::{Exec, ExecContext, Precision, arena_range, panels};
use super::op::{Columns, Id, Op};
use super::plan::Plan;
use super::pool::ThreadPool;
use super::views::{Location, views};
use heartlore_kernels::activation::Activation;
use heartlore_kernels::attention::Rows;
use heartlore_kernels::layer_norm::Residual;
use heartlore_kernels::rng::Dropout;
use heartlore_kernels::{
    Isa, Real, absorbed_attention, activation, attention, conv1d, elementwise, embed, feed_forward, gemm,
    layer_norm, linear,
};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// FLOPs of an operation worth handing out: some ten microseconds.
const WORTHWHILE: u64 = 1 << 18;
/// FLOPs in the time that a team takes to wake: some forty microseconds. A window of `tiny` took 0.11 ms on two threads and 0.07
/// on one before they were counted.
const WAKING: f64 = 8e6;
/// Most parts of an operation.
const MOST: usize = 128;
/// A part is one of so many that are left of a thread's share: long ones first, short ones for the end, where a thread that
/// has done its own share takes what is left of another's. With 3 a pass is 0.5 (f32) to 1 % (bf16) slower.
const TAPER: usize = 2;
/// Rows, or elements, by multiples of which operations are cut that treat each alone.
const EACH: usize = 16;

/// `rows` cut at multiples of a grain into one share for each thread, and those into parts.
#[derive(Clone, Copy, Debug)]
struct Cuts {
    rows: usize,
    grain: usize,
    blocks: usize,
    shares: usize,
    /// Most parts of a share.
    most: usize,
}

impl Cuts {
    /// For `threads`. `short`: the last part may be shorter than the grain; else it takes what is left.
    fn new(rows: usize, grain: usize, threads: usize, short: bool) -> Self {
        let blocks = if short { rows.div_ceil(grain) } else { rows / grain };
        let shares = threads.min(blocks).clamp(1, ThreadPool::SHARES);
        Self { rows, grain, blocks, shares, most: MOST / shares }
    }

    /// The same in one part for each thread.
    fn whole_shares(self) -> Self {
        Self { most: 1, ..self }
    }

    /// Whether there is something to share.
    fn pay(&self) -> bool {
        self.blocks > 1 && self.shares > 1
    }

    /// Blocks before a share.
    fn before(&self, share: usize) -> usize {
        self.blocks * share / self.shares
    }

    /// The longest share, as a part of the whole.
    fn longest(&self) -> f64 {
        self.blocks.div_ceil(self.shares) as f64 / self.blocks as f64
    }

    /// The rows of the parts of a share, in order.
    fn parts(self, share: usize) -> impl Iterator<Item = Range<usize>> {
        let (mut block, end) = (self.before(share), self.before(share + 1));
        let row = move |block| if block == self.blocks { self.rows } else { self.grain * block };
        let left = (1..=self.most).rev();
        left.map_while(move |parts| {
            let first = block;
            block += (end - block).div_ceil(parts.min(TAPER));
            (first < block).then(|| row(first)..row(block))
        })
    }
}

/// How an operation is cut for a team of `threads`; `None` if it runs whole.
fn cuts<T: Real>(graph: &Graph, plan: &Plan, isa: Isa, id: Id, threads: usize) -> Option<Cuts> {
    // Of a single row, the time is that of reading the weights.
    let single = graph.shape(id).rows() == 1;
    let worthwhile = if single { WORTHWHILE / 4 } else { WORTHWHILE };
    if !plan.steps[id.index()].saved.is_empty() || cost::executed_flops(graph, id).0 < worthwhile {
        return None;
    }
    let products = gemm::row_grain::<T>(isa);
    let (rows, grain, short) = match graph.node(id).op {
        Op::Linear { act, .. } => {
            let d = cost::linear_dims(graph, id, plan.precision());
            if outputs_apart(d, act) { (d.outputs, EACH, true) } else { (d.rows, products, false) }
        }
        Op::Conv1d { .. } => {
            let d = cost::conv1d_dims(graph, id);
            let rows = if d.batch == 1 { graph.shape(id).rows() } else { 0 };
            (rows, conv1d::row_grain::<T>(d), true)
        }
        Op::FeedForward { .. } => {
            let d = cost::feed_forward_dims(graph, id, plan.precision());
            let rows = d.samples * d.rows;
            if rows == 1 { (d.hidden, gemm::column_grain(), true) } else { (rows, products, false) }
        }
        Op::LayerNorm { .. } => (graph.shape(id).rows(), EACH, true),
        Op::Attention { .. } => {
            let d = cost::attention_dims(graph, id, plan.precision());
            (if d.batch == 1 { d.tq } else { 0 }, attention::row_grain(), true)
        }
        Op::AbsorbedAttention { .. } => {
            (absorbed_attention::sections::<T>(cost::absorbed_attention_dims(graph, id)), 1, true)
        }
        Op::Activate { .. } | Op::Add { .. } => (graph.shape(id).elements(), EACH, true),
        Op::AddRows { .. } | Op::PrependRow { .. } => {
            let d = cost::rows_dims(graph, id);
            (if d.batch == 1 { graph.shape(id).rows() } else { 0 }, EACH, true)
        }
        _ => return None,
    };
    let mut cuts = Cuts::new(rows, grain, threads, short);
    if let Op::Conv1d { .. } = graph.node(id).op
        && conv1d::Steps::of::<T>(cost::conv1d_dims(graph, id), 1).is_none()
    {
        // Every part reads the spectra of all weights.
        cuts = cuts.whole_shares();
    }
    cuts.pay().then_some(cuts)
}

/// Whether a layer is cut along its outputs: a single row, as in a classification head, where each output is a sum of
/// its own that reads its own row of weights.
fn outputs_apart(d: linear::Dims, act: Option<Activation>) -> bool {
    d.rows == 1 && matches!(act, None | Some(Activation::Relu))
}

/// About how long a forward pass takes on a team, as a part of its time on one thread: by FLOPs.
pub(super) fn share_of_time<T: Real>(graph: &Graph, plan: &Plan, isa: Isa, threads: usize) -> f64 {
    let (mut alone, mut together) = (0.0, 0.0);
    for id in graph.ids().filter(|id| plan.steps[id.index()].live) {
        let flops = cost::executed_flops(graph, id).0 as f64;
        alone += flops;
        together += match cuts::<T>(graph, plan, isa, id, threads) {
            Some(cuts) => flops * cuts.longest(),
            None => flops,
        };
    }
    if alone > 0.0 { together / alone } else { 1.0 }
}

/// The time a team takes to wake as a part of that of the forward pass on one thread.
pub(super) fn waking_time(graph: &Graph, plan: &Plan) -> f64 {
    let live = graph.ids().filter(|id| plan.steps[id.index()].live);
    WAKING / live.map(|id| cost::executed_flops(graph, id).0 as f64).sum::<f64>()
}

/// Scratch of each thread of a team.
pub(super) type Benches<T> = Vec<Mutex<Aligned<T>>>;

/// Runs `task(rows, y of these rows, scratch)` for all parts.
fn by_rows<T: Real>(
    team: &ThreadPool,
    benches: &Benches<T>,
    cuts: Cuts,
    y: &mut [T],
    task: impl Fn(Range<usize>, &mut [T], &mut [T]) + Sync,
) {
    let width = y.len() / cuts.rows;
    let mut parts: [Mutex<(Range<usize>, &mut [T])>; MOST] =
        std::array::from_fn(|_| Mutex::new((0..0, &mut [][..])));
    let (mut count, mut ends, mut rest) = (0, [0; ThreadPool::SHARES], y);
    for (share, end) in ends[..cuts.shares].iter_mut().enumerate() {
        for rows in cuts.parts(share) {
            let (mine, tail) = rest.split_at_mut(rows.len() * width);
            parts[count] = Mutex::new((rows, mine));
            (count, rest) = (count + 1, tail);
        }
        *end = count;
    }
    team.share(&parts[..count], &ends[..cuts.shares], |thread, (rows, y)| {
        // A thread's scratch is poisoned only if a part panicked, and then the panic is already on its way up.
        let mut scratch = benches[thread].lock().unwrap_or_else(PoisonError::into_inner);
        task(rows.clone(), y, &mut scratch);
    });
}

/// Elements `rows` of a matrix with rows of `width`.
fn of<'a, T>(x: &'a [T], rows: &Range<usize>, width: usize) -> &'a [T] {
    &x[rows.start * width..rows.end * width]
}

/// Runs operation `i` forward on a team; false, and nothing done, if it is none to be cut.
pub(super) fn forward<T: Precision>(
    exec: &mut Exec<T>,
    i: usize,
    params: &[T],
    aids: ExecContext<'_, T>,
    team: &ThreadPool,
) -> bool {
    let (graph, plan, isa) = (Arc::clone(&exec.graph), Arc::clone(&exec.plan), exec.isa);
    let (step, id, node) = (&plan.steps[i], Id(i as u32), &graph.nodes()[i]);
    let Some(cuts) = cuts::<T>(&graph, &plan, isa, id, team.threads()) else { return false };
    let at = |id: Id| &plan.steps[id.index()].value;
    let opt = |id: Option<Id>| id.map_or(&Location::Absent, at);
    let out = arena_range(&step.value);
    let key = exec.key_of(i);
    let whole = |p: f64| exec.dropout && p > 0.0;
    let (arena, benches, shared) = (&mut exec.arena, &exec.benches, &mut exec.shared);
    match node.op {
        Op::Linear { x, w, b, first, act } => {
            let d = cost::linear_dims(&graph, id, plan.precision());
            let apart = outputs_apart(d, act);
            let prepared = panels(aids, &graph, &plan, isa, id, false, params);
            if prepared.is_empty() && !apart {
                return false;
            }
            let ([y], [x, w, bias]) = views(arena, params, [out], [at(x), at(w), opt(b)]);
            let w = &w[first * d.inputs..][..d.outputs * d.inputs];
            let bias = b.map(|_| &bias[first..][..d.outputs]);
            if apart {
                by_rows(team, benches, cuts, y, |outputs, y, scratch| {
                    let (w, bias) = (of(w, &outputs, d.inputs), bias.map(|b| &b[outputs.clone()]));
                    let d = linear::Dims { outputs: outputs.len(), ..d };
                    linear::forward(isa, d, act, x, w, &[], bias, y, &mut [], scratch);
                });
                return true;
            }
            by_rows(team, benches, cuts, y, |rows, y, scratch| {
                let (d, x) = (linear::Dims { rows: rows.len(), ..d }, of(x, &rows, d.inputs));
                linear::forward(isa, d, act, x, w, prepared, bias, y, &mut [], scratch);
            })
        }
        Op::Conv1d { x, w, b, act, .. } => {
            let d = cost::conv1d_dims(&graph, id);
            let prepared = panels(aids, &graph, &plan, isa, id, false, params);
            if prepared.is_empty() {
                return false;
            }
            let ([y], [x, w, bias]) = views(arena, params, [out], [at(x), at(w), opt(b)]);
            let bias = b.map(|_| bias);
            if let Some(steps) = conv1d::Steps::of::<T>(d, team.threads()) {
                let (groups, group) = (steps.groups(), steps.group_len());
                let (frequencies, frequency) = (steps.frequencies(), steps.frequency_len());
                shared.grow(groups * group + frequencies * frequency);
                let (spectra, products) = shared.split_at_mut(groups * group);
                let products = &mut products[..frequencies * frequency];
                by_rows(
                    team,
                    benches,
                    Cuts::new(groups, 1, team.threads(), true),
                    spectra,
                    |range, out, _| {
                        for (i, out) in range.zip(out.chunks_exact_mut(group)) {
                            steps.analyse(isa, x, i, out);
                        }
                    },
                );
                let spectra = &*spectra;
                let parts = Cuts::new(frequencies, 1, team.threads(), true);
                by_rows(team, benches, parts, products, |range, out, _| {
                    steps.multiply(isa, spectra, prepared, range, out);
                });
                let products = &*products;
                by_rows(team, benches, cuts, y, |rows, y, scratch| {
                    steps.synthesise(isa, act, products, bias, rows, y, scratch);
                });
                return true;
            }
            by_rows(team, benches, cuts, y, |rows, y, scratch| {
                conv1d::forward_rows(isa, d, act, x, w, prepared, bias, rows, y, scratch);
            });
        }
        Op::FeedForward { x, w1, b1, w2, b2, act, dropout } => {
            let d = cost::feed_forward_dims(&graph, id, plan.precision());
            let prepared = panels(aids, &graph, &plan, isa, id, false, params);
            if prepared.is_empty() || whole(dropout) {
                return false;
            }
            let places = [at(x), at(w1), at(b1), at(w2), at(b2)];
            let ([y], [x, w1, b1, w2, b2]) = views(arena, params, [out], places);
            if d.samples * d.rows == 1 {
                shared.grow(d.hidden);
                let hidden = &mut shared[..d.hidden];
                by_rows(team, benches, cuts, hidden, |columns, g, scratch| {
                    feed_forward::hidden_of_row(isa, d, act, x, b1, prepared, columns, g, scratch);
                });
                let (hidden, cuts) =
                    (&*hidden, Cuts::new(d.width, gemm::column_grain(), team.threads(), true));
                by_rows(team, benches, cuts, y, |columns, y, scratch| {
                    feed_forward::row_of_hidden(isa, d, hidden, b2, prepared, columns, y, scratch);
                });
                return true;
            }
            by_rows(team, benches, cuts, y, |rows, y, scratch| {
                let d = feed_forward::Dims { samples: 1, rows: rows.len(), ..d };
                let (none, x) = (Dropout::NONE, of(x, &rows, d.width));
                feed_forward::forward(
                    isa,
                    d,
                    act,
                    none,
                    key,
                    x,
                    w1,
                    b1,
                    w2,
                    b2,
                    prepared,
                    y,
                    &mut [],
                    scratch,
                );
            })
        }
        Op::LayerNorm { x, residual, dropout, gamma, beta, eps } => {
            let d = cost::layer_norm_dims(&graph, id);
            if residual.is_some() && whole(dropout) {
                return false;
            }
            let places = [at(x), opt(residual), at(gamma), at(beta)];
            let ([y], [x, r, gamma, beta]) = views(arena, params, [out], places);
            if residual.is_some() && r.len() < x.len() {
                return false;
            }
            by_rows(team, benches, cuts, y, |rows, y, _| {
                let (d, x) = (layer_norm::Dims { samples: 1, rows: rows.len(), ..d }, of(x, &rows, d.cols));
                let data = |_| Residual { data: of(r, &rows, d.cols), dropout: Dropout::NONE, key };
                layer_norm::forward(isa, d, eps, x, residual.map(data), gamma, beta, y, &mut []);
            })
        }
        Op::Attention { q, k, v, mask, scale, dropout, .. } => {
            let d = cost::attention_dims(&graph, id, plan.precision());
            if whole(dropout) {
                return false;
            }
            let places = [at(q.id), at(k.id), at(v.id), opt(mask)];
            let ([y], [qs, ks, vs, m]) = views(arena, params, [out], places);
            let rows_of = |c: Columns, data, first: usize| {
                let stride = graph.shape(c.id).last();
                Rows { data, stride, offset: c.offset + first * stride }
            };
            let (k, v, mask) = (rows_of(k, ks, 0), rows_of(v, vs, 0), mask.map(|_| m));
            // Packed once, not for every part.
            let (pieces, len) = (attention::key_pieces::<T>(d), attention::key_piece_len(d));
            shared.grow(pieces * len);
            let packed = &mut shared[..pieces * len];
            if pieces > 0 {
                by_rows(
                    team,
                    benches,
                    Cuts::new(pieces, 1, team.threads(), true),
                    packed,
                    |range, out, _| {
                        for (piece, out) in range.zip(out.chunks_exact_mut(len)) {
                            attention::pack_keys(isa, d, k, v, mask, piece, out);
                        }
                    },
                );
            }
            let packed = &*packed;
            by_rows(team, benches, cuts, y, |rows, y, scratch| {
                let d = attention::Dims { tq: rows.len(), ..d };
                let (q, none) = (rows_of(q, qs, rows.start), Dropout::NONE);
                let y_only = &mut [][..];
                attention::forward_packed(
                    isa, d, scale, q, k, v, mask, none, key, packed, y, y_only, scratch,
                );
            })
        }
        Op::AbsorbedAttention { q, x, w, b, mask, first, scale, dropout, .. } => {
            let d = cost::absorbed_attention_dims(&graph, id);
            if whole(dropout) {
                return false;
            }
            let places = [at(q), at(x), at(w), opt(b), opt(mask)];
            let ([y], [q, x, w, bias, m]) = views(arena, params, [out], places);
            let rows = first..first + 2 * d.inner();
            let (w, bias, mask) = (of(w, &rows, d.width), b.map(|_| &bias[rows.clone()]), mask.map(|_| m));
            let (sections, len) = (absorbed_attention::sections::<T>(d), absorbed_attention::sums_len(d));
            shared.grow(d.heads * d.width + sections * len);
            let (u, rest) = shared.split_at_mut(d.heads * d.width);
            let sums = &mut rest[..sections * len];
            let heads = Cuts::new(d.heads, 1, team.threads(), true);
            by_rows(team, benches, heads, u, |heads, u, _| {
                absorbed_attention::absorb_query(isa, d, scale, q, x, w, heads, u);
            });
            let u = &*u;
            by_rows(team, benches, cuts, sums, |range, sums, scratch| {
                for (section, sums) in range.zip(sums.chunks_exact_mut(len)) {
                    absorbed_attention::attend_section(isa, d, q, x, w, mask, u, section, sums, scratch);
                }
            });
            let sums = &*sums;
            by_rows(team, benches, heads, y, |heads, y, scratch| {
                absorbed_attention::values_of_sections(isa, d, q, x, w, bias, sums, heads, y, scratch);
            });
        }
        Op::Activate { x, kind } => {
            let ([y], [x]) = views(arena, params, [out], [at(x)]);
            by_rows(team, benches, cuts, y, |part, y, _| {
                activation::forward(isa, kind, &x[part], y);
            })
        }
        Op::Add { a, b } => {
            let ([y], [a, b]) = views(arena, params, [out], [at(a), at(b)]);
            by_rows(team, benches, cuts, y, |part, y, _| {
                elementwise::add(isa, &a[part.clone()], &b[part], y);
            })
        }
        Op::AddRows { x, table } => {
            let d = cost::rows_dims(&graph, id);
            let ([y], [x, table]) = views(arena, params, [out], [at(x), at(table)]);
            by_rows(team, benches, cuts, y, |rows, y, _| {
                let (x, table) = (of(x, &rows, d.cols), of(table, &rows, d.cols));
                embed::add_rows::forward(embed::Dims { rows: rows.len(), ..d }, x, table, y);
            })
        }
        Op::PrependRow { x, row } => {
            let cols = cost::rows_dims(&graph, id).cols;
            let ([y], [x, row]) = views(arena, params, [out], [at(x), at(row)]);
            by_rows(team, benches, cuts, y, |rows, y, _| match rows.start {
                0 => {
                    let d = embed::Dims { batch: 1, rows: rows.len() - 1, cols };
                    embed::prepend_row::forward(d, of(x, &(0..d.rows), cols), row, y);
                }
                start => y.copy_from_slice(of(x, &(start - 1..rows.end - 1), cols)),
            })
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_cover_every_row_once_and_none_is_short() {
        for rows in [0, 1, 13, 14, 27, 28, 29, 1281] {
            for (grain, threads, short) in [(1, 4, false), (14, 2, true), (14, 12, false), (64, 200, true)] {
                let cuts = Cuts::new(rows, grain, threads, short);
                for cuts in [cuts, cuts.whole_shares()] {
                    let parts: Vec<_> = (0..cuts.shares).flat_map(|share| cuts.parts(share)).collect();
                    let all: Vec<usize> = parts.iter().cloned().flatten().collect();
                    if cuts.blocks > 0 {
                        assert_eq!(all, (0..rows).collect::<Vec<_>>(), "{cuts:?}");
                    }
                    assert!(parts.len() <= MOST, "{cuts:?}");
                    for range in parts {
                        assert!(range.start % grain == 0 && !range.is_empty(), "{cuts:?} {range:?}");
                        assert!(range.len() >= grain || (short && range.end == rows), "{cuts:?} {range:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_share_begins_with_long_parts_and_ends_with_short_ones() {
        let cuts = Cuts::new(92, 1, 2, true);
        let lengths = |share| cuts.parts(share).map(|range| range.len()).collect::<Vec<_>>();
        assert_eq!(lengths(0), [23, 12, 6, 3, 1, 1]);
        assert_eq!(lengths(1), lengths(0));
    }
}
