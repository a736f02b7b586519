//! Where training takes its windows from: anything that can hand out window `i` to any thread.

use crate::error::{Error, Result};

/// A set of windows of equal length that can be read in any order from any thread.
pub trait WindowSource: Sync {
    /// Number of windows.
    fn len(&self) -> usize;
    /// Samples per window.
    fn samples(&self) -> usize;
    /// Copies window `i` into `out`.
    ///
    /// # Errors
    /// `i` outside `0..len()`, `out` of another length than `samples()`, or a failing disk.
    fn read(&self, i: usize, out: &mut [f32]) -> Result<()>;
    /// Whether there are no windows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Checks the arguments of [`WindowSource::read`]; every implementation calls it first.
pub(crate) fn check_read(i: usize, out_len: usize, len: usize, samples: usize) -> Result<()> {
    if i >= len {
        return Err(Error::shape(format!("window {i} of {len} asked for")));
    }
    if out_len != samples {
        return Err(Error::shape(format!("a window has {samples} samples, the buffer {out_len}")));
    }
    Ok(())
}

/// Windows held in memory, row-major `[len, samples]`.
#[derive(Clone, Debug)]
pub struct MemoryWindows {
    samples: usize,
    data: Vec<f32>,
}

impl MemoryWindows {
    /// Takes `data` as rows of `samples` values.
    ///
    /// # Errors
    /// `samples` is 0 or does not divide the number of values.
    pub fn new(data: Vec<f32>, samples: usize) -> Result<Self> {
        if samples == 0 || !data.len().is_multiple_of(samples) {
            return Err(Error::shape(format!(
                "{} values are no whole windows of {samples} samples",
                data.len()
            )));
        }
        Ok(Self { samples, data })
    }

    /// Window `i`, or None outside the set.
    pub fn window(&self, i: usize) -> Option<&[f32]> {
        let start = i.checked_mul(self.samples)?;
        self.data.get(start..start.checked_add(self.samples)?)
    }
}

impl WindowSource for MemoryWindows {
    fn len(&self) -> usize {
        self.data.len() / self.samples
    }
    fn samples(&self) -> usize {
        self.samples
    }
    fn read(&self, i: usize, out: &mut [f32]) -> Result<()> {
        check_read(i, out.len(), self.len(), self.samples)?;
        out.copy_from_slice(&self.data[i * self.samples..(i + 1) * self.samples]);
        Ok(())
    }
}
