//! [`Steps`]: the forward pass of one sample in the frequency domain, for several threads.

use super::{Dims, activate, overlap_save, spectral};
use crate::activation::Activation;
use crate::contract::{at_least, len, product, require};
use crate::{Isa, Real, real};
use std::ops::Range;

/// A forward pass in three steps, each of parts that may be computed in any order and at once, with the bits that
/// [`super::forward`] gives: [`Steps::analyse`] for every group of tiles, then [`Steps::multiply`] for all frequencies, then
/// [`Steps::synthesise`] for all rows.
///
/// In place of [`super::forward_rows`], because of the weights: they are the most there is to read (4 and 8 MB of spectra in
/// the paper's kernels, for 0.3 and 0.9 MB of x), and threads that cut the rows read all of them each. Of the cuts that do
/// not, frequencies keep each thread's stream of weights in one piece, and let the fewest numbers go from one core's cache
/// to the other's: half of x's and of the products' spectra, where threads that cut the output channels exchange all of
/// x's. On two cores of an AMD EPYC (Zen 5) VM the paper's kernels of 33 and 17 taps take 0.20 and 0.51 ms in a prediction,
/// in place of 0.28 and 0.52 by rows (0.33 and 0.93 on one thread; clocks after the operations of a pass).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    d: Dims,
    shared: overlap_save::Shared,
}

impl Steps {
    /// Of a convolution of one sample that the frequency domain serves in `T`, with x's spectra made in at most `groups`
    /// parts; `None` of others, and of samples of more than 56 tiles, where threads have rows enough to share.
    ///
    /// # Panics
    /// If the kernel does not fit.
    #[track_caller]
    pub fn of<T: Real>(d: Dims, groups: usize) -> Option<Self> {
        d.sizes("conv1d steps");
        let shared = overlap_save::Shared::of(spectral::<T>(d)?, groups)?;
        Some(Self { d, shared })
    }

    /// Parts of the first step.
    pub fn groups(&self) -> usize {
        self.shared.groups()
    }

    /// Elements of a group's spectra.
    pub fn group_len(&self) -> usize {
        self.shared.group_len()
    }

    /// Parts of the second step.
    pub fn frequencies(&self) -> usize {
        self.shared.frequencies()
    }

    /// Elements of the products of a frequency.
    pub fn frequency_len(&self) -> usize {
        self.shared.frequency_len()
    }

    /// Spectra of one group of x's tiles: `out`, [`Steps::group_len`] elements.
    ///
    /// # Panics
    /// If a size does not fit.
    #[track_caller]
    pub fn analyse<T: Real>(&self, isa: Isa, x: &[T], group: usize, out: &mut [T]) {
        let op = "conv1d analyse";
        len(op, "x", self.d.sizes(op).0, x.len());
        require(op, "there are fewer groups", group, group < self.groups());
        len(op, "out", self.group_len(), out.len());
        self.shared.analyse(isa, real::same(x), group, real::same_mut(out));
    }

    /// Products at some frequencies: `spectra` of all groups in order, `prepared` as [`super::prepare`] leaves it, `out`
    /// [`Steps::frequency_len`] elements for each frequency.
    ///
    /// # Panics
    /// If a size does not fit.
    #[track_caller]
    pub fn multiply<T: Real>(
        &self,
        isa: Isa,
        spectra: &[T],
        prepared: &[T],
        frequencies: Range<usize>,
        out: &mut [T],
    ) {
        let (op, all) = ("conv1d multiply", self.frequencies());
        require(op, "frequencies must end within the transform", frequencies.end, frequencies.end <= all);
        len(op, "spectra", self.groups() * self.group_len(), spectra.len());
        at_least(op, "prepared", super::prepared_len::<T>(self.d, false), prepared.len());
        len(op, "out", frequencies.len() * self.frequency_len(), out.len());
        let (spectra, prepared) = (real::same(spectra), real::same(prepared));
        self.shared.multiply(isa, spectra, prepared, frequencies, real::same_mut(out));
    }

    /// y at the output positions `rows`, which may be cut anywhere (at multiples of [`super::row_grain`] no transform is
    /// done twice): `products` of all frequencies in order, `y_rows` `[rows, out]`; `scratch` as for [`super::forward`].
    ///
    /// # Panics
    /// If a size does not fit.
    #[track_caller]
    pub fn synthesise<T: Real>(
        &self,
        isa: Isa,
        act: Option<Activation>,
        products: &[T],
        b: Option<&[T]>,
        rows: Range<usize>,
        y_rows: &mut [T],
        scratch: &mut [T],
    ) {
        let op = "conv1d synthesise";
        let (_, _, _, out) = self.d.sizes(op);
        require(op, "rows must end within the output", rows.end, rows.end <= out);
        len(op, "products", self.frequencies() * self.frequency_len(), products.len());
        len(op, "y_rows", product(op, &[rows.len(), self.d.out_channels]), y_rows.len());
        if let Some(b) = b {
            len(op, "b", self.d.out_channels, b.len());
        }
        at_least(op, "scratch", super::scratch_len::<T>(self.d, act), scratch.len());
        let relu = act == Some(Activation::Relu);
        let (products, b) = (real::same(products), b.map(real::same));
        self.shared.synthesise(isa, products, b, relu, rows, real::same_mut(&mut *y_rows));
        activate(isa, act, y_rows, scratch);
    }
}
