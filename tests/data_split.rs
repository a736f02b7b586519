//! Splits: no group on two sides, whatever the keys; the same seed the same split; classes as even as groups allow.

use std::collections::BTreeSet;

use heartlore::data::split::{Group, Keys, Protocol, Split};
use proptest::prelude::*;

/// Keys of up to 12 people with up to 4 trials each, classes and stimuli at random.
fn keys() -> impl Strategy<Value = Keys> {
    let window = (0u32..12, 0u32..4, 0u32..5, 0u32..3);
    prop::collection::vec(window, 1..200).prop_map(|rows| Keys {
        subject: rows.iter().map(|r| r.0).collect(),
        trial: rows.iter().map(|r| r.0 * 10 + r.1).collect(),
        stimulus: rows.iter().map(|r| r.2).collect(),
        class: rows.iter().map(|r| r.3).collect(),
    })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    let group = prop_oneof![Just(Group::Subject), Just(Group::Trial), Just(Group::Stimulus)];
    (group, 2usize..6, 2usize..4, 0.1f64..0.6, 0..5).prop_map(|(group, k, stimuli, test_fraction, which)| {
        match which {
            0 => Protocol::KFold { group, k },
            1 => Protocol::LeaveOneOut { group },
            2 => Protocol::SubjectAndStimulus { subjects: k, stimuli },
            3 => Protocol::Single { group, test_fraction },
            _ => Protocol::LeakingWindows { k },
        }
    })
}

fn set(list: &[u32], at: &[usize]) -> BTreeSet<u32> {
    at.iter().map(|&i| list[i]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn no_group_is_on_two_sides(keys in keys(), protocol in protocol(), part in prop_oneof![Just(0.0), 0.05f64..0.5], seed: u64) {
        // Too few groups for the folds is an honest error; everything else must hold.
        let Ok(split) = Split::new(&keys, protocol.clone(), part, seed) else { return Ok(()) };
        prop_assert_eq!(&split, &Split::new(&keys, protocol.clone(), part, seed).unwrap());
        split.assert_disjoint(&keys).unwrap();
        let n = keys.subject.len();
        let mut tested = vec![0; n];
        for fold in &split.folds {
            prop_assert_eq!(fold.train.len() + fold.validation.len() + fold.test.len() + fold.unused.len(), n);
            // Written out again, without the code under test.
            let lists: &[&Vec<u32>] = match &protocol {
                Protocol::SubjectAndStimulus { .. } => &[&keys.subject, &keys.stimulus],
                Protocol::LeakingWindows { .. } => &[],
                Protocol::KFold { group, .. } | Protocol::LeaveOneOut { group } | Protocol::Single { group, .. } => match group {
                    Group::Subject => &[&keys.subject],
                    Group::Trial => &[&keys.trial],
                    Group::Stimulus => &[&keys.stimulus],
                },
            };
            for list in lists {
                prop_assert!(set(list, &fold.test).is_disjoint(&set(list, &fold.train)));
                prop_assert!(set(list, &fold.test).is_disjoint(&set(list, &fold.validation)));
            }
            if let Some(list) = lists.first() {
                prop_assert!(set(list, &fold.validation).is_disjoint(&set(list, &fold.train)));
            }
            prop_assert!(!fold.train.is_empty());
            fold.test.iter().for_each(|&i| tested[i] += 1);
        }
        if !matches!(protocol, Protocol::Single { .. }) {
            // Every window is tested exactly once (a grid cell tests each window once as well).
            prop_assert!(tested.iter().all(|&t| t == 1));
        }
    }
}

/// A label column `elicitor` groups stimuli: leaving one out holds out every stimulus of that kind.
#[cfg(feature = "formats")]
#[test]
fn a_kind_of_stimulus_can_be_held_out() {
    use heartlore::data::index::{Index, Row};
    let mut index = Index::new(&["stimulus".to_string(), "elicitor".to_string()]).unwrap();
    for i in 0..24 {
        let film = i % 4;
        let labels = vec![Some(format!("film{film}")), Some(["fear", "joy"][film / 2].to_string())];
        let (subject, trial) = (format!("s{}", i / 4), film.to_string());
        index.push(&Row { subject, trial, labels, ..Row::default() }).unwrap();
    }
    let keys = index.split_keys_of("elicitor");
    let split = Split::new(&keys, Protocol::LeaveOneOut { group: Group::Stimulus }, 0.0, 0).unwrap();
    assert_eq!(split.folds.len(), 2);
    let films = index.split_keys().stimulus;
    for fold in &split.folds {
        assert!(fold.test.iter().all(|t| fold.train.iter().all(|r| films[*t] != films[*r])));
    }
    assert!(index.split_keys_of("nothing").stimulus.is_empty());
}

fn people(n: u32, windows: u32) -> Keys {
    let each = |f: &dyn Fn(u32, u32) -> u32| {
        (0..n).flat_map(|s| (0..windows).map(move |w| (s, w))).map(|(s, w)| f(s, w)).collect()
    };
    Keys {
        subject: each(&|s, _| s),
        trial: each(&|s, w| s * 2 + w % 2),
        stimulus: each(&|_, w| w % 4),
        class: each(&|s, _| u32::from(s % 4 == 0)),
    }
}

#[test]
fn folds_are_even_and_stratified() {
    let keys = people(40, 8);
    let split = Split::new(&keys, Protocol::KFold { group: Group::Subject, k: 5 }, 0.2, 3).unwrap();
    for fold in &split.folds {
        assert_eq!(fold.test.len(), 64);
        assert_eq!(fold.test.iter().filter(|&&i| keys.class[i] == 1).count(), 16, "a quarter of the people");
        assert!((40..=64).contains(&fold.validation.len()), "{}", fold.validation.len());
    }
    assert!(split.warnings.is_empty(), "{:?}", split.warnings);
    let other = Split::new(&keys, Protocol::KFold { group: Group::Subject, k: 5 }, 0.2, 4).unwrap();
    assert_ne!(split.folds, other.folds, "the seed matters");
}

#[test]
fn a_leaking_protocol_says_so() {
    let split = Split::new(&people(4, 8), Protocol::LeakingWindows { k: 2 }, 0.0, 0).unwrap();
    assert!(split.protocol.leaks() && split.protocol.to_string().contains("LEAKS"));
    assert!(split.warnings.iter().any(|w| w.contains("LEAKS")));
    assert!(Protocol::KFold { group: Group::Trial, k: 5 }.to_string().contains("subject-dependent"));
    assert!(!Protocol::LeaveOneOut { group: Group::Subject }.leaks());
}

#[test]
fn one_class_parts_are_reported() {
    let keys = Keys {
        subject: vec![0, 0, 1, 1, 2, 2],
        trial: vec![0; 6],
        stimulus: vec![],
        class: vec![0, 1, 0, 1, 1, 1],
    };
    let split = Split::new(&keys, Protocol::LeaveOneOut { group: Group::Subject }, 0.0, 0).unwrap();
    assert_eq!(split.warnings, ["fold subject 2: the test part holds class 1 only"]);
}

#[test]
fn a_broken_split_is_caught() {
    let keys = people(6, 4);
    let good = Split::new(&keys, Protocol::KFold { group: Group::Subject, k: 3 }, 0.0, 1).unwrap();
    let mut moved = good.clone();
    let window = moved.folds[0].test.pop().unwrap();
    moved.folds[0].train.push(window);
    let error = moved.assert_disjoint(&keys).unwrap_err().to_string();
    assert!(error.contains("is in the training and in the test part"), "{error}");
    let mut twice = good.clone();
    let again = twice.folds[1].train[0];
    twice.folds[1].train.push(again);
    assert!(twice.assert_disjoint(&keys).unwrap_err().to_string().contains("two parts"));
    let mut lost = good.clone();
    lost.folds[2].train.pop();
    assert!(lost.assert_disjoint(&keys).unwrap_err().to_string().contains("in no part"));
    let mut beyond = good;
    beyond.folds[2].train.push(1000);
    assert!(beyond.assert_disjoint(&keys).is_err());
}

#[test]
fn what_cannot_be_split_is_an_error() {
    let keys = people(3, 4);
    let fold = |group, k| Split::new(&keys, Protocol::KFold { group, k }, 0.0, 0);
    assert!(fold(Group::Subject, 4).unwrap_err().to_string().contains("3 subjects"));
    assert!(fold(Group::Subject, 1).is_err());
    assert!(Split::new(&Keys::default(), Protocol::LeakingWindows { k: 2 }, 0.0, 0).is_err());
    let unknown = Keys { stimulus: vec![], ..keys.clone() };
    let error = Split::new(&unknown, Protocol::LeaveOneOut { group: Group::Stimulus }, 0.0, 0).unwrap_err();
    assert!(error.to_string().contains("stimulus"), "{error}");
    let short = Keys { class: vec![0], ..keys.clone() };
    assert!(Split::new(&short, Protocol::LeakingWindows { k: 2 }, 0.0, 0).is_err());
    for bad in [0.0, 1.0, f64::NAN] {
        let single = Protocol::Single { group: Group::Subject, test_fraction: bad };
        assert!(Split::new(&keys, single, 0.0, 0).is_err());
    }
    assert!(Split::new(&keys, Protocol::LeakingWindows { k: 2 }, 1.0, 0).is_err());
}
