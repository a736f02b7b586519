//! Splits that cannot leak: whole groups go to one side, and the result says which kind of promise it keeps.
//!
//! Two windows of one recording resemble each other far more than two people do. A split by windows therefore measures
//! recognition of a recording, and its figures look excellent and mean nothing. The protocols here are, from the
//! strictest down:
//!
//! | protocol | what the test part shows |
//! |---|---|
//! | subject and stimulus held out | a new person *and* a new stimulus |
//! | by subject (k-fold, leave-one-out, single) | a new person |
//! | by stimulus | a new stimulus, known people |
//! | by trial | a new recording of a known person: subject-dependent |
//! | [`Protocol::LeakingWindows`] | nothing: windows of one recording lie on both sides |
//!
//! Groups are dealt out greedily, as in scikit-learn's `StratifiedGroupKFold`: the most lopsided groups first, each to
//! the fold that leaves the classes most even. Everything is a function of the keys and the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::data::rng::SplitMix64;
use crate::error::{Error, Result};

/// What a split knows of each window: one entry per window in every list.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// The person. Must differ between data sets: person 1 of one set is not person 1 of another.
    pub subject: Vec<u32>,
    /// The recording or trial. Must differ between subjects.
    pub trial: Vec<u32>,
    /// The stimulus (film, task), or empty when unknown.
    pub stimulus: Vec<u32>,
    /// The class, for stratification and for the check of one-class parts; or empty when there are no labels.
    pub class: Vec<u32>,
}

/// What is never divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// All windows of a person.
    Subject,
    /// All windows of a recording.
    Trial,
    /// All windows of a stimulus.
    Stimulus,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Group::Subject => "subject",
            Group::Trial => "trial",
            Group::Stimulus => "stimulus",
        })
    }
}

/// How windows are divided into training and test parts.
#[derive(Clone, Debug, PartialEq)]
pub enum Protocol {
    /// `k` folds; each group is in the test part of exactly one.
    KFold {
        /// What is never divided.
        group: Group,
        /// Number of folds, at least 2.
        k: usize,
    },
    /// One fold per group.
    LeaveOneOut {
        /// What is left out.
        group: Group,
    },
    /// A grid of `subjects` x `stimuli` folds. Test windows belong to held-out people *and* held-out stimuli; windows
    /// of held-out people with other stimuli, and the reverse, are in neither part.
    SubjectAndStimulus {
        /// Folds over people.
        subjects: usize,
        /// Folds over stimuli.
        stimuli: usize,
    },
    /// One split.
    Single {
        /// What is never divided.
        group: Group,
        /// Share of the windows that goes to the test part, in (0, 1).
        test_fraction: f64,
    },
    /// `k` folds over single windows. **Leaks**: neighbouring windows of one recording lie on both sides, so the
    /// figures say nothing about new recordings or people. Only for comparison with published numbers made this way.
    LeakingWindows {
        /// Number of folds, at least 2.
        k: usize,
    },
}

impl Protocol {
    /// Whether windows of one recording may lie on both sides.
    pub fn leaks(&self) -> bool {
        matches!(self, Protocol::LeakingWindows { .. })
    }

    /// The groups that never lie on both sides of a fold.
    pub fn kept_apart(&self) -> &'static [Group] {
        match self {
            Protocol::KFold { group, .. }
            | Protocol::LeaveOneOut { group }
            | Protocol::Single { group, .. } => match group {
                Group::Subject => &[Group::Subject],
                Group::Trial => &[Group::Trial],
                Group::Stimulus => &[Group::Stimulus],
            },
            Protocol::SubjectAndStimulus { .. } => &[Group::Subject, Group::Stimulus],
            Protocol::LeakingWindows { .. } => &[],
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known =
            |g: &Group| if *g == Group::Subject { "" } else { " (subject-dependent: people are known)" };
        match self {
            Protocol::KFold { group, k } => write!(f, "{k}-fold by {group}{}", known(group)),
            Protocol::LeaveOneOut { group } => write!(f, "leave one {group} out{}", known(group)),
            Protocol::SubjectAndStimulus { subjects, stimuli } => {
                write!(f, "{subjects} x {stimuli} folds, subject and stimulus both held out")
            }
            Protocol::Single { group, test_fraction } => {
                write!(f, "single split by {group}, {:.0} % test{}", test_fraction * 100.0, known(group))
            }
            Protocol::LeakingWindows { k } => write!(
                f,
                "{k}-fold by window (LEAKS: windows of one recording on both sides; no measure of generalisation)"
            ),
        }
    }
}

/// One division of the windows. Indices are positions in [`Keys`], ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Number, or the group left out.
    pub name: String,
    /// Windows to train on.
    pub train: Vec<usize>,
    /// Windows to choose the best epoch on; empty if none were asked for. Kept apart as the test part is.
    pub validation: Vec<usize>,
    /// Windows to report on.
    pub test: Vec<usize>,
    /// Windows in no part (only with [`Protocol::SubjectAndStimulus`]).
    pub unused: Vec<usize>,
}

/// The folds, with the name of what they promise.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// How it was made.
    pub protocol: Protocol,
    /// Seed it was made with.
    pub seed: u64,
    /// The folds.
    pub folds: Vec<Fold>,
    /// What a reader of the results must know: parts with one class only, groups that mix everything, and the like.
    pub warnings: Vec<String>,
}

impl Split {
    /// Divides the windows.
    ///
    /// `validation_fraction` of the training windows (0 for none) are set aside, whole groups at a time.
    ///
    /// # Errors
    /// Lists of different lengths, no windows, fewer groups than folds, a missing stimulus list, a fraction outside
    /// the allowed range, or a training part left empty.
    pub fn new(keys: &Keys, protocol: Protocol, validation_fraction: f64, seed: u64) -> Result<Self> {
        let n = keys.check(&protocol)?;
        if !(0.0..1.0).contains(&validation_fraction) {
            return Err(Error::usage(format!("validation fraction {validation_fraction} is not in 0..1")));
        }
        let mut rng = SplitMix64::keyed(seed, 0);
        let mut folds = Vec::new();
        match &protocol {
            Protocol::KFold { group, k } => {
                let bins = deal_k(keys, *group, *k, &mut rng)?;
                folds.extend((0..*k).map(|f| Fold::of((f + 1).to_string(), n, |i| bins[i] == f)));
            }
            Protocol::LeaveOneOut { group } => {
                let ids: BTreeSet<u32> = keys.of(*group).iter().copied().collect();
                if ids.len() < 2 {
                    return Err(too_few(*group, ids.len(), 2));
                }
                let list = keys.of(*group);
                folds.extend(ids.iter().map(|id| Fold::of(format!("{group} {id}"), n, |i| list[i] == *id)));
            }
            Protocol::SubjectAndStimulus { subjects, stimuli } => {
                let people = deal_k(keys, Group::Subject, *subjects, &mut rng)?;
                let films = deal_k(keys, Group::Stimulus, *stimuli, &mut rng)?;
                for a in 0..*subjects {
                    for b in 0..*stimuli {
                        let mut fold =
                            Fold::of(format!("{}.{}", a + 1, b + 1), n, |i| people[i] == a && films[i] == b);
                        let half = |i: &usize| people[*i] == a || films[*i] == b;
                        fold.unused = fold.train.iter().copied().filter(half).collect();
                        fold.train.retain(|i| !half(i));
                        folds.push(fold);
                    }
                }
            }
            Protocol::Single { group, test_fraction } => {
                if !(*test_fraction > 0.0 && *test_fraction < 1.0) {
                    return Err(Error::usage(format!(
                        "test fraction {test_fraction} is not between 0 and 1"
                    )));
                }
                let all: Vec<usize> = (0..n).collect();
                let test = set_aside(keys, *group, &all, *test_fraction, &mut rng)?;
                folds.push(Fold::of("1".into(), n, |i| test.contains(&i)));
            }
            Protocol::LeakingWindows { k } => {
                if *k < 2 || *k > n {
                    return Err(Error::usage(format!("{k} folds over {n} windows")));
                }
                let each: Vec<u32> = (0..n as u32).collect();
                let bins = deal(&each, &keys.class, &vec![1.0; *k], &mut rng);
                folds.extend((0..*k).map(|f| Fold::of((f + 1).to_string(), n, |i| bins[i] == f)));
            }
        }
        if validation_fraction > 0.0 {
            for (f, fold) in folds.iter_mut().enumerate() {
                let mut rng = SplitMix64::keyed(seed, 1 + f as u64);
                fold.hold_out_validation(keys, &protocol, validation_fraction, &mut rng)?;
            }
        }
        let mut split = Self { protocol, seed, folds, warnings: Vec::new() };
        split.inspect(keys)?;
        split.assert_disjoint(keys)?;
        Ok(split)
    }

    /// Notes folds that cannot be trained on or judged.
    fn inspect(&mut self, keys: &Keys) -> Result<()> {
        if self.protocol.leaks() {
            self.warnings.push(format!("{}", self.protocol));
        }
        for fold in &self.folds {
            if fold.train.is_empty() || fold.test.is_empty() {
                let part = if fold.train.is_empty() { "training" } else { "test" };
                let text = format!("fold {}: the {part} part is empty", fold.name);
                if part == "training" {
                    return Err(Error::data(text).remedy("use fewer folds or a smaller validation part"));
                }
                self.warnings.push(text);
            }
            for (part, list) in
                [("training", &fold.train), ("validation", &fold.validation), ("test", &fold.test)]
            {
                let classes: BTreeSet<u32> =
                    list.iter().filter_map(|&i| keys.class.get(i)).copied().collect();
                if let (1, Some(class)) = (classes.len(), classes.first()) {
                    self.warnings
                        .push(format!("fold {}: the {part} part holds class {class} only", fold.name));
                }
            }
        }
        Ok(())
    }

    /// Checks every fold again from scratch: no window twice, none lost, and no protected group on two sides.
    /// [`Split::new`] calls it; call it again after changing or loading a split.
    ///
    /// # Errors
    /// Names the fold and the group or window that lies on both sides.
    pub fn assert_disjoint(&self, keys: &Keys) -> Result<()> {
        let n = keys.subject.len();
        for fold in &self.folds {
            let fail = |what: String| Err(Error::data(format!("fold {}: {what}", fold.name)));
            let mut seen = vec![false; n];
            for &i in fold.train.iter().chain(&fold.validation).chain(&fold.test).chain(&fold.unused) {
                match seen.get_mut(i) {
                    None => return fail(format!("window {i} of {n} does not exist")),
                    Some(true) => return fail(format!("window {i} is in two parts")),
                    Some(slot) => *slot = true,
                }
            }
            if let Some(i) = seen.iter().position(|s| !s) {
                return fail(format!("window {i} is in no part"));
            }
            let parts = [("training", &fold.train), ("validation", &fold.validation), ("test", &fold.test)];
            for (a, b) in [(0, 2), (1, 2), (0, 1)] {
                // Training and validation share no group of the first kind; the test part shares none of any kind.
                let groups = self.protocol.kept_apart();
                let groups = if (a, b) == (0, 1) { &groups[..groups.len().min(1)] } else { groups };
                for group in groups {
                    let list = keys.of(*group);
                    let left: BTreeSet<u32> = parts[a].1.iter().map(|&i| list[i]).collect();
                    if let Some(&i) = parts[b].1.iter().find(|&&i| left.contains(&list[i])) {
                        return fail(format!(
                            "{group} {} is in the {} and in the {} part",
                            list[i], parts[a].0, parts[b].0
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Fold {
    fn of(name: String, n: usize, is_test: impl Fn(usize) -> bool) -> Self {
        let (test, train) = (0..n).partition(|&i| is_test(i));
        Self { name, train, validation: Vec::new(), test, unused: Vec::new() }
    }

    /// Moves whole groups from the training to the validation part.
    fn hold_out_validation(
        &mut self,
        keys: &Keys,
        protocol: &Protocol,
        fraction: f64,
        rng: &mut SplitMix64,
    ) -> Result<()> {
        let chosen = match protocol.kept_apart().first() {
            Some(group) => {
                let groups: BTreeSet<u32> = self.train.iter().map(|&i| keys.of(*group)[i]).collect();
                if groups.len() < 2 {
                    return Err(Error::data(format!(
                        "fold {}: the training part has one {group} only; none can be set aside for validation",
                        self.name
                    ))
                    .remedy("leave out --validation, or divide into more folds or other groups"));
                }
                set_aside(keys, *group, &self.train, fraction, rng)?
            }
            None => {
                let each: Vec<u32> = (0..self.train.len() as u32).collect();
                let class: Vec<u32> = self.train.iter().filter_map(|&i| keys.class.get(i)).copied().collect();
                let bins = deal(&each, &class, &[1.0 - fraction, fraction], rng);
                (0..each.len()).filter(|&p| bins[p] == 1).map(|p| self.train[p]).collect()
            }
        };
        self.train.retain(|i| !chosen.contains(i));
        self.validation = chosen.into_iter().collect();
        Ok(())
    }
}

impl Keys {
    fn of(&self, group: Group) -> &[u32] {
        match group {
            Group::Subject => &self.subject,
            Group::Trial => &self.trial,
            Group::Stimulus => &self.stimulus,
        }
    }

    fn check(&self, protocol: &Protocol) -> Result<usize> {
        let n = self.subject.len();
        if n == 0 {
            return Err(Error::data("there are no windows to split"));
        }
        if u32::try_from(n).is_err() {
            return Err(Error::data(format!("{n} windows are too many to split")));
        }
        for (name, list, may_lack) in
            [("trial", &self.trial, false), ("stimulus", &self.stimulus, true), ("class", &self.class, true)]
        {
            if list.len() != n && !(may_lack && list.is_empty()) {
                return Err(Error::shape(format!("{} {name} keys for {n} windows", list.len())));
            }
        }
        if protocol.kept_apart().contains(&Group::Stimulus) && self.stimulus.is_empty() {
            return Err(Error::data("the data do not say which stimulus a window belongs to")
                .remedy("add a column 'stimulus' to the table, or split by subject"));
        }
        Ok(n)
    }
}

fn too_few(group: Group, have: usize, need: usize) -> Error {
    if have == 1 {
        return match group {
            Group::Subject => Error::data("one person: folds by person are impossible")
                .remedy("--by trial gives a subject-dependent score (with --protocol kfold, loo or single)"),
            Group::Trial => Error::data("one trial: folds by trial are impossible").remedy("add recordings"),
            Group::Stimulus => Error::data("one stimulus: folds by stimulus are impossible")
                .remedy("divide by subject or by trial: --by subject or --by trial"),
        };
    }
    let plural = match group {
        Group::Subject => "subjects",
        Group::Trial => "trials",
        Group::Stimulus => "stimuli",
    };
    Error::data(format!("{have} {plural} cannot be divided {need} ways"))
        .remedy(format!("use at most {have} folds, or more {plural}"))
}

/// Bin of each window for `k` even bins.
fn deal_k(keys: &Keys, group: Group, k: usize, rng: &mut SplitMix64) -> Result<Vec<usize>> {
    let list = keys.of(group);
    let have = list.iter().collect::<BTreeSet<_>>().len();
    if k < 2 && have > 1 {
        let folds = if k == 1 { "1 fold" } else { "0 folds" };
        return Err(Error::usage(format!("{folds} cannot hold a training and a test part"))
            .remedy(format!("use 2 to {have} folds")));
    }
    if have < k.max(2) {
        return Err(too_few(group, have, k));
    }
    Ok(deal(list, &keys.class, &vec![1.0; k], rng))
}

/// About `fraction` of `windows`, whole groups, at least one group on either side.
fn set_aside(
    keys: &Keys,
    group: Group,
    windows: &[usize],
    fraction: f64,
    rng: &mut SplitMix64,
) -> Result<BTreeSet<usize>> {
    let list: Vec<u32> = windows.iter().map(|&i| keys.of(group)[i]).collect();
    let class: Vec<u32> = windows.iter().filter_map(|&i| keys.class.get(i)).copied().collect();
    let have = list.iter().collect::<BTreeSet<_>>().len();
    if have < 2 {
        return Err(too_few(group, have, 2));
    }
    let bins = deal(&list, &class, &[1.0 - fraction, fraction], rng);
    Ok((0..windows.len()).filter(|&p| bins[p] == 1).map(|p| windows[p]).collect())
}

/// Deals groups into bins of the given relative sizes, keeping the classes as even as the groups allow.
///
/// The cost of a state is the sum over bins and classes of count^2 / share, which is least when every bin holds its
/// share of every class; each group goes where it raises the cost least. A bin is never left empty while another has
/// two groups to spare: the last groups go to empty bins.
fn deal(group: &[u32], class: &[u32], shares: &[f64], rng: &mut SplitMix64) -> Vec<usize> {
    let class_of = |i: usize| class.get(i).copied().unwrap_or(0);
    let classes: BTreeSet<u32> = (0..group.len()).map(class_of).collect();
    let slot: BTreeMap<u32, usize> = classes.iter().enumerate().map(|(s, c)| (*c, s)).collect();
    let mut counts: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let mut totals = vec![0.0f64; slot.len()];
    for (i, g) in group.iter().enumerate() {
        let s = slot[&class_of(i)];
        counts.entry(*g).or_insert_with(|| vec![0.0; slot.len()])[s] += 1.0;
        totals[s] += 1.0;
    }
    let mut order: Vec<u32> = counts.keys().copied().collect();
    rng.shuffle(&mut order);
    // Large groups first: the small ones that follow can even things out. A stable sort keeps the shuffled order of ties.
    let size = |g: &u32| counts[g].iter().zip(&totals).map(|(c, t)| c / t).sum::<f64>();
    order.sort_by(|a, b| size(b).total_cmp(&size(a)));

    let mut bins = vec![vec![0.0f64; slot.len()]; shares.len()];
    let mut used = vec![false; shares.len()];
    let mut place = BTreeMap::new();
    for (done, g) in order.iter().enumerate() {
        let empty = used.iter().filter(|u| !**u).count();
        let must_fill = empty > 0 && order.len() - done <= empty;
        let cost = |b: usize| -> f64 {
            let added = counts[g].iter().zip(&bins[b]).zip(&totals);
            added.map(|((c, have), t)| ((have + c).powi(2) - have.powi(2)) / (t * t)).sum::<f64>() / shares[b]
        };
        let best = (0..shares.len())
            .filter(|&b| !(must_fill && used[b]))
            .min_by(|&a, &b| cost(a).total_cmp(&cost(b)))
            .unwrap_or(0);
        for (have, c) in bins[best].iter_mut().zip(&counts[g]) {
            *have += c;
        }
        used[best] = true;
        place.insert(*g, best);
    }
    group.iter().map(|g| place[g]).collect()
}
