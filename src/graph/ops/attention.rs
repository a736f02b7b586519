//! Multi-head attention on column blocks of queries, keys and values.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Columns, Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Needs, Operation, Reads, Rules, Shapes, Site, Team,
    scratch,
};
use crate::graph::parts::Cuts;
use crate::graph::step::{Gradients, Pass};
use crate::tensor::Shape;
use heartlore_kernels::attention::{GradRows, Rows};
use heartlore_kernels::gemm::MatmulPrecision;
use heartlore_kernels::{Beta, Real, attention, rng};

const NAME: &str = "attention";

/// Settings of [`Graph::attention`] and [`Graph::absorbed_attention`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AttentionSpec {
    /// Number of heads.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Dropout probability on the attention weights.
    pub dropout: f64,
}

/// Multi-head attention.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Attention {
    /// `[batch, tq, heads * head_dim]`
    pub q: Columns,
    /// `[batch, tk, heads * head_dim]`
    pub k: Columns,
    /// `[batch, tk, heads * head_dim]`
    pub v: Columns,
    /// `[batch, tk]`: 1 keeps a key, 0 drops it.
    pub mask: Option<Id>,
    /// Number of heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on the scores, usually 1 / sqrt(head_dim).
    pub scale: f64,
    /// Dropout probability on the attention weights.
    pub dropout: f64,
}

impl Attention {
    fn dims(&self, s: Shapes<'_>, precision: MatmulPrecision) -> attention::Dims {
        let Self { heads, head_dim, .. } = *self;
        let ([batch, tq, _], [_, tk, _]) = (s.result_rank3(), s.rank3(self.k.id));
        attention::Dims { batch, tq, tk, heads, head_dim, precision }
    }

    fn inputs(&self) -> [Option<Id>; 4] {
        [Some(self.q.id), Some(self.k.id), Some(self.v.id), self.mask]
    }
}

/// A column block of the rows from `first` on.
fn rows<'a, T>(s: Shapes<'_>, c: Columns, data: &'a [T], first: usize) -> Rows<'a, T> {
    let stride = s.of(c.id).last();
    Rows { data, stride, offset: c.offset + first * stride }
}

impl Graph {
    /// Multi-head attention: queries `[batch, tq, ..]`, keys and values `[batch, tk, ..]`, each a block of
    /// heads * head_dim columns; mask `[batch, tk]`, 1 keeps a key, 0 drops it -> `[batch, tq, heads * head_dim]`.
    /// Scores are scaled by 1 / sqrt(head_dim).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn attention(
        &mut self,
        q: impl Into<Columns>,
        k: impl Into<Columns>,
        v: impl Into<Columns>,
        mask: Option<Id>,
        spec: AttentionSpec,
    ) -> Result<Id> {
        let (q, k, v) = (q.into(), k.into(), v.into());
        let AttentionSpec { heads, head_dim, dropout } = spec;
        let width = match heads.checked_mul(head_dim) {
            Some(w) if w > 0 => w,
            _ => return self.misfit(NAME, format_args!("{heads} heads of width {head_dim}")),
        };
        let [batch, tq, _] = self.rank3(NAME, "q", q.id)?;
        let [bk, tk, _] = self.rank3(NAME, "k", k.id)?;
        let [bv, tv, _] = self.rank3(NAME, "v", v.id)?;
        if (bk, bv, tv) != (batch, batch, tk) {
            let (qs, ks, vs) = (self.shape(q.id), self.shape(k.id), self.shape(v.id));
            return self.misfit(
                NAME,
                format_args!("q has shape {qs}, k {ks}, v {vs}: batch and key lengths must agree"),
            );
        }
        for (name, c) in [("q", q), ("k", k), ("v", v)] {
            let s = self.shape(c.id);
            if c.offset.checked_add(width).is_none_or(|end| end > s.last()) {
                let from = c.offset;
                return self.misfit(
                    NAME,
                    format_args!("{name} has shape {s}: no {width} columns from column {from}"),
                );
            }
        }
        if let Some(m) = mask {
            self.expect(NAME, "mask", m, &Shape::from([batch, tk]), "[batch, keys]")?;
        }
        self.probability(NAME, dropout)?;
        let scale = 1.0 / (head_dim as f64).sqrt();
        self.push(
            Attention { q, k, v, mask, heads, head_dim, scale, dropout },
            Shape::from([batch, tq, width]),
        )
    }
}

impl Operation for Attention {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.q.id), Some(&mut self.k.id), Some(&mut self.v.id), self.mask.as_mut()])
    }
    fn settings(&self) -> String {
        let Self { q, k, v, heads, head_dim, dropout, .. } = self;
        let (q, k, v) = (q.offset, k.offset, v.offset);
        format!(" columns {q}/{k}/{v} heads {heads} x {head_dim} dropout {dropout}")
    }
    fn differentiable(&self, slot: usize) -> bool {
        slot < 3
    }
    fn shares_gradient_buffers(&self) -> bool {
        true
    }
    fn needs(&self, s: Shapes<'_>) -> Needs {
        let d = self.dims(s, MatmulPrecision::F32);
        Needs { saved: attention::saved_len(d), scratch: scratch!(attention::scratch_len, d) }
    }
    fn rounds_to(&self, precision: MatmulPrecision) -> bool {
        precision == MatmulPrecision::Bf16
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        let mask = self.mask.map_or("None".into(), |id| format!("Some({})", v(id)));
        let of = |c: Columns| format!("Columns {{ id: {}, offset: {} }}", v(c.id), c.offset);
        let Self { heads, head_dim, dropout, .. } = self;
        let spec = format!("AttentionSpec {{ heads: {heads}, head_dim: {head_dim}, dropout: {dropout:?} }}");
        format!("g.attention({}, {}, {}, {mask}, {spec})?", of(self.q), of(self.k), of(self.v))
    }
    fn backward_reads(&self) -> Reads {
        Reads::ALL_INPUTS.and_output(true)
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        // Forward: q k^T and p v. Backward: both recomputed or undone: s, dp, dv, dq, dk.
        let d = self.dims(s, MatmulPrecision::F32);
        let product = 2 * (d.batch * d.heads * d.tq * d.tk * d.head_dim) as u64;
        (2 * product, 5 * product)
    }
}

impl Rules for Attention {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let (site, s) = (run.site, run.site.shapes());
        let ForwardSlices { y, saved, scratch, inputs: [q, k, v, mask] } = run.open(self.inputs());
        let (q, k, v) = (rows(s, self.q, q, 0), rows(s, self.k, k, 0), rows(s, self.v, v, 0));
        let (d, mask) = (self.dims(s, site.precision), self.mask.map(|_| mask));
        let dropout = site.dropout_of(self.dropout);
        attention::forward(site.isa, d, self.scale, q, k, v, mask, dropout, site.key, y, saved, scratch);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let d = self.dims(s, MatmulPrecision::F32);
        let head = |c: Columns, row: usize, h: usize| {
            &at.x(c.id)[row * s.of(c.id).last() + c.offset + h * d.head_dim..][..d.head_dim]
        };
        at.attention(
            [d.batch, d.heads, d.tq, d.tk, d.head_dim],
            [self.scale, self.dropout],
            self.mask,
            |n, h, i| head(self.q, n * d.tq + i, h).to_vec(),
            |n, h, j| head(self.k, n * d.tk + j, h).to_vec(),
            |n, h, j| head(self.v, n * d.tk + j, h).to_vec(),
        )
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let (site, s, pass) = (run.site, run.site.shapes(), run.pass);
        let BackwardSlices { to, scratch, saved, y, dy, inputs: [q, k, v, mask] } = run.open(self.inputs());
        let (d, columns) = (self.dims(s, site.precision), [self.q, self.k, self.v]);
        let stride = columns.map(|c| s.of(c.id).last());
        let (mut buffers, places) = gradient_blocks(to, &pass, columns.map(|c| c.offset), stride, d.width());
        let (q, k, v) = (rows(s, self.q, q, 0), rows(s, self.k, k, 0), rows(s, self.v, v, 0));
        let ([dq, dk, dv], mask, scale) = (places, self.mask.map(|_| mask), self.scale);
        let (isa, dropout, key, to) = (site.isa, site.dropout_of(self.dropout), site.key, &mut buffers);
        attention::backward(
            isa, d, scale, q, k, v, mask, dropout, key, y, saved, dy, to, dq, dk, dv, scratch,
        );
    }

    fn cuts<T: Real>(&self, site: Site<'_>, threads: usize) -> Option<Cuts> {
        let d = self.dims(site.shapes(), site.precision);
        Some(Cuts::new(if d.batch == 1 { d.tq } else { 0 }, attention::row_grain(), threads, true))
    }
    fn forward_parts<T: Real>(&self, run: Forward<'_, T>, team: Team<'_, T>) -> bool {
        let (site, s) = (run.site, run.site.shapes());
        if site.drops(self.dropout) {
            return false;
        }
        let (isa, d, scale, key) = (site.isa, self.dims(s, site.precision), self.scale, site.key);
        let ForwardSlices { y, inputs: [q, k, v, mask], .. } = run.open(self.inputs());
        let (k, v, mask) = (rows(s, self.k, k, 0), rows(s, self.v, v, 0), self.mask.map(|_| mask));
        // Packed once, not for every part.
        let (pieces, len, workers) =
            (attention::key_pieces::<T>(d), attention::key_piece_len(d), team.workers);
        team.shared.grow(pieces * len);
        let packed = &mut team.shared[..pieces * len];
        if pieces > 0 {
            workers.by_rows(workers.cuts(pieces, 1), packed, |range, out, _| {
                for (piece, out) in range.zip(out.chunks_exact_mut(len)) {
                    attention::pack_keys(isa, d, k, v, mask, piece, out);
                }
            });
        }
        let packed = &*packed;
        workers.by_rows(team.cuts, y, |part, y, scratch| {
            let d = attention::Dims { tq: part.len(), ..d };
            let (q, none) = (rows(s, self.q, q, part.start), rng::Dropout::NONE);
            let unsaved = &mut [][..];
            attention::forward_packed(isa, d, scale, q, k, v, mask, none, key, packed, y, unsaved, scratch);
        });
        true
    }
}

/// Buffers and column blocks for the backward rule. Blocks that fill a fresh buffer exactly overwrite it; otherwise the
/// buffer is cleared and everything accumulates.
fn gradient_blocks<'a, T: Real>(
    to: Gradients<'a, T>,
    pass: &Pass,
    offset: [usize; 3],
    stride: [usize; 3],
    width: usize,
) -> ([&'a mut [T]; 3], [Option<GradRows>; 3]) {
    let mut betas = [Beta::One; 3];
    let mut buffers: [&'a mut [T]; 3] = std::array::from_fn(|_| &mut [][..]);
    for (slot, gradient) in to.into_iter().take(3).enumerate() {
        let Some(mut g) = gradient else { continue };
        let mine = |s: &usize| pass.takes_part[*s] && pass.buffer[*s] == slot;
        let blocks = (0..3).filter(mine).count();
        let disjoint =
            (0..3).filter(mine).all(|s| (0..s).filter(mine).all(|o| offset[s].abs_diff(offset[o]) >= width));
        if !(disjoint && blocks * width == stride[slot]) {
            g.zero_unless_accumulating();
        }
        betas[slot] = g.beta;
        buffers[slot] = g.data;
    }
    let places = std::array::from_fn(|s| {
        let buffer = pass.buffer[s];
        pass.takes_part[s].then(|| GradRows {
            buffer,
            stride: stride[s],
            offset: offset[s],
            beta: betas[buffer],
        })
    });
    (buffers, places)
}
