//! Attention of a few queries on rows whose projection is absorbed into the queries.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::{Formula, dot};
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Needs, Operation, Reads, Rules, Shapes, Site, Team,
    scratch,
};
use crate::graph::ops::attention::AttentionSpec;
use crate::graph::parts::{Cuts, rows_of};
use crate::graph::step::zero_unless_accumulating;
use crate::tensor::Shape;
use heartlore_kernels::{Real, absorbed_attention};

const NAME: &str = "absorbed_attention";

/// Attention on the projected rows of x, whose projection is absorbed into the queries.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AbsorbedAttention {
    /// `[batch, tq, heads * head_dim]`, projected
    pub q: Id,
    /// `[batch, tk, width]`: a key and a value each
    pub x: Id,
    /// `[outputs, width]`
    pub w: Id,
    /// `[outputs]`
    pub b: Option<Id>,
    /// `[batch, tk]`: 1 keeps a key, 0 drops it.
    pub mask: Option<Id>,
    /// First row of `w` and `b` that is used: `heads * head_dim` rows of the keys, then as many of the values.
    pub first: usize,
    /// Number of heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on the scores, usually 1 / sqrt(head_dim).
    pub scale: f64,
    /// Dropout probability on the attention weights.
    pub dropout: f64,
}

impl AbsorbedAttention {
    fn dims(&self, s: Shapes<'_>) -> absorbed_attention::Dims {
        let Self { heads, head_dim, .. } = *self;
        let ([batch, tq, _], [_, tk, width]) = (s.result_rank3(), s.rank3(self.x));
        absorbed_attention::Dims { batch, tq, tk, heads, head_dim, width }
    }

    fn inputs(&self) -> [Option<Id>; 5] {
        [Some(self.q), Some(self.x), Some(self.w), self.b, self.mask]
    }
}

impl Graph {
    /// Attention of projected queries q `[batch, tq, heads * head_dim]` on keys and values that are projections of x
    /// `[batch, tk, width]`: the result of [`Graph::attention`] on the columns of [`Graph::linear_rows`] of x with w
    /// `[outputs, width]`, b `[outputs]` and the rows from `first` on, heads * head_dim of them for the keys and as many for
    /// the values, which are not computed. It pays for few queries (`heartlore_kernels::absorbed_attention::pays`).
    /// mask `[batch, tk]`, 1 keeps a key, 0 drops it -> `[batch, tq, heads * head_dim]`.
    ///
    /// # Errors
    /// If the shapes do not fit or the rows are outside w.
    pub fn absorbed_attention(
        &mut self,
        q: Id,
        x: Id,
        w: Id,
        b: Option<Id>,
        first: usize,
        mask: Option<Id>,
        spec: AttentionSpec,
    ) -> Result<Id> {
        let AttentionSpec { heads, head_dim, dropout } = spec;
        let inner = match heads.checked_mul(head_dim) {
            Some(n) if n > 0 => n,
            _ => return self.misfit(NAME, format_args!("{heads} heads of width {head_dim}")),
        };
        let ([batch, tq, columns], [bx, tk, width]) = (self.rank3(NAME, "q", q)?, self.rank3(NAME, "x", x)?);
        let (qs, xs, ws) = (self.shape(q), self.shape(x), self.valid(w)?);
        if columns != inner || bx != batch {
            return self.misfit(
                NAME,
                format_args!("q has shape {qs}, x {xs}; q must be [{bx}, queries, {heads} * {head_dim}]"),
            );
        }
        if ws.rank() != 2 || ws.last() != width {
            return self.misfit(NAME, format_args!("x has shape {xs}, w {ws}; w must be [outputs, {width}]"));
        }
        let total = ws.dims()[0];
        if inner.checked_mul(2).and_then(|n| n.checked_add(first)).is_none_or(|end| end > total) {
            return self.misfit(
                NAME,
                format_args!("w has shape {ws}: no 2 * {heads} * {head_dim} rows from row {first}"),
            );
        }
        if let Some(b) = b {
            self.expect(NAME, "b", b, &Shape::from([total]), &format!("as w has shape {ws}"))?;
        }
        if let Some(m) = mask {
            self.expect(NAME, "mask", m, &Shape::from([batch, tk]), "[batch, keys]")?;
        }
        self.probability(NAME, dropout)?;
        let scale = 1.0 / (head_dim as f64).sqrt();
        let op = AbsorbedAttention { q, x, w, b, mask, first, heads, head_dim, scale, dropout };
        self.push(op, Shape::from([batch, tq, inner]))
    }
}

impl Operation for AbsorbedAttention {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.q), Some(&mut self.x), Some(&mut self.w), self.b.as_mut(), self.mask.as_mut()])
    }
    fn settings(&self) -> String {
        let Self { first, heads, head_dim, dropout, .. } = self;
        format!(" rows from {first} heads {heads} x {head_dim} dropout {dropout}")
    }
    fn differentiable(&self, slot: usize) -> bool {
        slot < 4
    }
    fn needs(&self, s: Shapes<'_>) -> Needs {
        let d = self.dims(s);
        Needs {
            saved: absorbed_attention::saved_len(d),
            scratch: scratch!(absorbed_attention::scratch_len, d),
        }
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        let b = self.b.map_or("None".into(), |id| format!("Some({})", v(id)));
        let mask = self.mask.map_or("None".into(), |id| format!("Some({})", v(id)));
        let Self { heads, head_dim, dropout, first, .. } = self;
        let spec = format!("AttentionSpec {{ heads: {heads}, head_dim: {head_dim}, dropout: {dropout:?} }}");
        let [q, x, w] = [self.q, self.x, self.w].map(v);
        format!("g.absorbed_attention({q}, {x}, {w}, {b}, {first}, {mask}, {spec})?")
    }
    fn backward_reads(&self) -> Reads {
        Reads::ALL_INPUTS
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        // Forward: scores and sum over x, into and out of its width. Backward: all but the output again, and as many for the
        // gradients.
        let d = self.dims(s);
        let product = 2 * (d.batch * d.heads * d.tq * d.width * (d.tk + d.head_dim)) as u64;
        (2 * product, 5 * product)
    }
}

impl Rules for AbsorbedAttention {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let (site, d, scale) = (run.site, self.dims(run.site.shapes()), self.scale);
        let ForwardSlices { y, saved, scratch, inputs: [q, x, w, bias, mask] } = run.open(self.inputs());
        let w = &w[self.first * d.width..][..2 * d.inner() * d.width];
        let bias = self.b.map(|_| &bias[self.first..][..2 * d.inner()]);
        let (mask, dropout, key) = (self.mask.map(|_| mask), site.dropout_of(self.dropout), site.key);
        absorbed_attention::forward(site.isa, d, scale, q, x, w, bias, mask, dropout, key, y, saved, scratch);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let d = self.dims(s);
        let (q, x, w, inner) = (at.x(self.q), at.x(self.x), at.x(self.w), d.inner());
        let projected = |first: usize, row: usize, h: usize| -> Vec<N> {
            let rows = first + h * d.head_dim..first + (h + 1) * d.head_dim;
            let x = &x[row * d.width..][..d.width];
            rows.map(|r| {
                let z = dot(&w[r * d.width..][..d.width], x);
                self.b.map_or(z, |b| z + at.x(b)[r])
            })
            .collect()
        };
        at.attention(
            [d.batch, d.heads, d.tq, d.tk, d.head_dim],
            [self.scale, self.dropout],
            self.mask,
            |n, h, i| q[(n * d.tq + i) * inner + h * d.head_dim..][..d.head_dim].to_vec(),
            |n, h, j| projected(self.first, n * d.tk + j, h),
            |n, h, j| projected(self.first + inner, n * d.tk + j, h),
        )
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let (site, d, scale) = (run.site, self.dims(run.site.shapes()), self.scale);
        let BackwardSlices { to, scratch, saved, dy, inputs: [q, x, w, bias, mask], .. } =
            run.open(self.inputs());
        let rows = self.first..self.first + 2 * d.inner();
        let of_w = rows.start * d.width..rows.end * d.width;
        let [dq, dx, dw, db, _] = to;
        let dw = zero_unless_accumulating(dw).map(|g| &mut g[of_w.clone()]);
        let db = zero_unless_accumulating(db).map(|g| &mut g[rows.clone()]);
        let (w, bias, mask) = (&w[of_w], self.b.map(|_| &bias[rows]), self.mask.map(|_| mask));
        let (isa, dropout, key) = (site.isa, site.dropout_of(self.dropout), site.key);
        absorbed_attention::backward(
            isa, d, scale, q, x, w, bias, mask, dropout, key, saved, dy, dq, dx, dw, db, scratch,
        );
    }

    fn cuts<T: Real>(&self, site: Site<'_>, threads: usize) -> Option<Cuts> {
        let sections = absorbed_attention::sections::<T>(self.dims(site.shapes()));
        Some(Cuts::new(sections, 1, threads, true))
    }
    fn forward_parts<T: Real>(&self, run: Forward<'_, T>, team: Team<'_, T>) -> bool {
        let (site, d, scale) = (run.site, self.dims(run.site.shapes()), self.scale);
        if site.drops(self.dropout) {
            return false;
        }
        let (isa, workers) = (site.isa, team.workers);
        let ForwardSlices { y, inputs: [q, x, w, bias, mask], .. } = run.open(self.inputs());
        let rows = self.first..self.first + 2 * d.inner();
        let w = rows_of(w, &rows, d.width);
        let (bias, mask) = (self.b.map(|_| &bias[rows.clone()]), self.mask.map(|_| mask));
        let (sections, len) = (absorbed_attention::sections::<T>(d), absorbed_attention::sums_len(d));
        team.shared.grow(d.heads * d.width + sections * len);
        let (u, rest) = team.shared.split_at_mut(d.heads * d.width);
        let sums = &mut rest[..sections * len];
        let heads = workers.cuts(d.heads, 1);
        workers.by_rows(heads, u, |heads, u, _| {
            absorbed_attention::absorb_query(isa, d, scale, q, x, w, heads, u);
        });
        let u = &*u;
        workers.by_rows(team.cuts, sums, |range, sums, scratch| {
            for (section, sums) in range.zip(sums.chunks_exact_mut(len)) {
                absorbed_attention::attend_section(isa, d, q, x, w, mask, u, section, sums, scratch);
            }
        });
        let sums = &*sums;
        workers.by_rows(heads, y, |heads, y, scratch| {
            absorbed_attention::values_of_sections(isa, d, q, x, w, bias, sums, heads, y, scratch);
        });
        true
    }
}
