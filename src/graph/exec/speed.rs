//! Which operations are worth cutting for several threads, and how much faster a pass then is.

use super::Exec;
use crate::graph::operation::{Precision, Site};
use crate::graph::parts::Cuts;

/// FLOPs of an operation worth handing out: some ten microseconds.
const WORTHWHILE: u64 = 1 << 18;
/// FLOPs in the time that a pool takes to wake: some forty microseconds. A window of `tiny` took 0.11 ms on two threads and
/// 0.07 on one before they were counted.
const WAKING: f64 = 8e6;

fn executed_flops(site: Site<'_>) -> u64 {
    site.node().op.spec().executed_flops(site.shapes()).0
}

/// How an operation is cut for `threads`; `None` if it runs whole.
pub(super) fn cuts<T: Precision>(site: Site<'_>, threads: usize) -> Option<Cuts> {
    // Of a single row, the time is that of reading the weights.
    let single = site.shapes().result().rows() == 1;
    let worthwhile = if single { WORTHWHILE / 4 } else { WORTHWHILE };
    if !site.step().saved.is_empty() || executed_flops(site) < worthwhile {
        return None;
    }
    site.node().op.rules::<T>().cuts_for(site, threads).filter(Cuts::is_profitable)
}

impl<T: Precision> Exec<T> {
    fn live_sites(&self) -> impl Iterator<Item = Site<'_>> {
        let live = self.graph.ids().filter(|id| self.plan.steps[id.index()].live);
        live.map(|id| self.settings.site(&self.graph, &self.plan, id.index()))
    }

    /// About how long a forward pass takes on `threads` threads, as a part of its time on one: 1 if its operations are too
    /// small to be shared. By FLOPs.
    pub fn parallel_fraction(&self, threads: usize) -> f64 {
        let (mut alone, mut together) = (0.0, 0.0);
        for site in self.live_sites() {
            let flops = executed_flops(site) as f64;
            alone += flops;
            together += cuts::<T>(site, threads).map_or(flops, |cuts| flops * cuts.longest());
        }
        if alone > 0.0 { together / alone } else { 1.0 }
    }

    /// The time that a thread pool takes to wake for a forward pass, as a part of that of the pass on one thread.
    pub fn wake_fraction(&self) -> f64 {
        WAKING / self.live_sites().map(|site| executed_flops(site) as f64).sum::<f64>()
    }
}
