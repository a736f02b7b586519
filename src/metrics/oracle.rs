//! Against SciPy, scikit-learn and statsmodels: `tests/oracles/metrics/make.py` made the values and states versions.

use super::baseline::LogisticSettings;
use super::intervals::{bca_interval, percentile_interval};
use super::paired::{holm, mcnemar, nadeau_bengio, paired_t, permutation, wilcoxon};
use super::{special, *};
use crate::checkpoint::json::Value;

fn oracle(name: &str) -> Value {
    let text = include_bytes!("../../tests/oracles/metrics/oracle.json");
    Value::parse(text).unwrap().get(name).unwrap_or_else(|| panic!("no {name} in the oracle")).clone()
}

fn number(v: &Value, key: &str) -> f64 {
    v.get(key).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number {key}"))
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn list(v: &Value, key: &str) -> Vec<f64> {
    numbers(v.get(key).unwrap())
}

fn bools(v: &Value, key: &str) -> Vec<bool> {
    v.get(key).and_then(Value::as_array).unwrap().iter().map(|x| x.as_bool().unwrap()).collect()
}

/// Relative for large numbers, absolute below 1.
fn close(what: &str, got: f64, want: f64, tolerance: f64) {
    let error = (got - want).abs() / want.abs().max(1.0);
    assert!(error <= tolerance, "{what}: {got:e}, the oracle says {want:e}");
}

/// Relative, for tails.
fn relative(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!(
        got == want || ((got - want) / want).abs() <= tolerance,
        "{what}: {got:e}, the oracle says {want:e}"
    );
}

#[test]
fn comparator_can_fail() {
    for (got, want) in [(1.0 + 1e-8, 1.0), (f64::NAN, 1.0), (1e-20, 2e-20)] {
        assert!(std::panic::catch_unwind(|| relative("x", got, want, 1e-9)).is_err());
    }
    assert!(std::panic::catch_unwind(|| close("x", f64::NAN, 1.0, 1e-9)).is_err());
}

#[test]
fn two_classes() {
    for case in oracle("binary").as_array().unwrap() {
        let (y, p) = (bools(case, "y"), list(case, "p"));
        let c = Confusion::from_probabilities(&y, &p, 0.5).unwrap();
        let r = reliability(&y, &p, 10).unwrap().unwrap();
        for (key, got) in [
            ("accuracy", c.accuracy()),
            ("balanced", c.balanced_accuracy()),
            ("precision", c.precision(1)),
            ("recall", c.recall(1)),
            ("specificity", c.specificity(1)),
            ("f1", c.f1(1)),
            ("macro_f1", c.macro_f1()),
            ("mcc", c.matthews()),
            ("auc", auc(&y, &p).unwrap()),
            ("ap", average_precision(&y, &p).unwrap()),
            ("brier", brier(&y, &p).unwrap()),
            ("log_loss", log_loss(&y, &p).unwrap()),
            ("ece", Some(r.expected_error)),
            ("mce", Some(r.maximum_error)),
        ] {
            close(key, got.unwrap(), number(case, key), 1e-12);
        }
        let curve = roc_curve(&y, &p).unwrap().unwrap();
        let (fpr, tpr) = (list(case, "fpr"), list(case, "tpr"));
        assert_eq!(curve.len(), fpr.len());
        for (i, point) in curve.iter().enumerate() {
            close("fpr", point.false_positive_rate, fpr[i], 1e-12);
            close("tpr", point.true_positive_rate, tpr[i], 1e-12);
        }
    }
}

#[test]
fn four_classes() {
    let case = oracle("multi");
    let labels = |key| list(&case, key).iter().map(|x| *x as usize).collect::<Vec<_>>();
    let c = Confusion::from_labels(&labels("t"), &labels("p"), 4).unwrap();
    for (i, want) in list(&case, "confusion").iter().enumerate() {
        assert_eq!(c.count(i / 4, i % 4) as f64, *want);
    }
    for (i, want) in list(&case, "f1").iter().enumerate() {
        close("f1", c.f1(i).unwrap(), *want, 1e-12);
    }
    close("balanced", c.balanced_accuracy().unwrap(), number(&case, "balanced"), 1e-12);
    close("macro f1", c.macro_f1().unwrap(), number(&case, "macro_f1"), 1e-12);
    close("mcc", c.matthews().unwrap(), number(&case, "mcc"), 1e-12);
}

#[test]
fn distributions() {
    let each = |name: &str, f: &dyn Fn(&[f64]) -> f64, tolerance: f64| {
        for row in oracle(name).as_array().unwrap() {
            let row = numbers(row);
            let (want, arguments) = row.split_last().unwrap();
            let many_degrees = name.starts_with("t_") && arguments[1] > 1000.0;
            let tolerance = if many_degrees { 1e-10 } else { tolerance };
            let got = f(arguments);
            // A quantile near the median cannot be better than the spacing of probabilities near 1/2.
            if name.ends_with("quantile") && (got - want).abs() < 2.0 * f64::EPSILON {
                continue;
            }
            relative(&format!("{name}({arguments:?})"), got, *want, tolerance);
        }
    };
    each("t_quantile", &|a| special::t_quantile(a[0], a[1]), 1e-11);
    each("t_upper", &|a| special::t_upper(a[0], a[1]), 1e-11);
    each("normal_quantile", &|a| special::normal_quantile(a[0]), 1e-12);
    each("normal_cdf", &|a| special::normal_cdf(a[0]), 1e-12);
    each("ln_gamma", &|a| special::ln_gamma(a[0]), 1e-13);
    each("ln_beta", &|a| special::ln_beta(a[0], a[1]), 1e-12);
    each("beta_inc", &|a| special::incomplete_beta(a[0], a[1], a[2], 1.0 - a[2]), 1e-11);
}

#[test]
fn intervals() {
    let case = oracle("mean_interval");
    let got = mean_interval(&list(&case, "v"), 0.95).unwrap().unwrap();
    close("mean", got.estimate, number(&case, "mean"), 1e-12);
    close("low", got.low, number(&case, "low"), 1e-12);
    close("high", got.high, number(&case, "high"), 1e-12);
    for row in oracle("wilson").as_array().unwrap() {
        let row = numbers(row);
        let got = wilson(row[0] as u64, row[1] as u64, row[2]).unwrap().unwrap();
        close("wilson low", got.low, row[3], 1e-12);
        close("wilson high", got.high, row[4], 1e-12);
    }
    for case in oracle("bootstrap").as_array().unwrap() {
        let (estimate, replicates) = (number(case, "estimate"), list(case, "replicates"));
        let bca = bca_interval(estimate, &replicates, &list(case, "jackknife"), 0.9).unwrap().unwrap();
        let per = percentile_interval(estimate, &replicates, 0.9).unwrap().unwrap();
        for (got, want) in [(bca, list(case, "bca")), (per, list(case, "percentile"))] {
            close("low", got.low, want[0], 1e-9);
            close("high", got.high, want[1], 1e-9);
        }
    }
}

#[test]
fn paired_tests() {
    let (mut exact, mut normal) = (0, 0);
    for case in oracle("paired").as_array().unwrap() {
        let d = list(case, "d");
        let w = wilcoxon(&d).unwrap().unwrap();
        assert_eq!(w.exact, case.get("exact").and_then(Value::as_bool).unwrap());
        if w.exact {
            exact += 1
        } else {
            normal += 1
        }
        close("w", w.w_plus.min(w.w_minus), number(case, "w"), 1e-12);
        relative("wilcoxon p", w.p, number(case, "p"), 1e-9);
        let t = paired_t(&d).unwrap().unwrap();
        relative("t", t.t, number(case, "t"), 1e-9);
        relative("t p", t.p, number(case, "t_p"), 1e-9);
        let nb = nadeau_bengio(&d, 90, 10).unwrap().unwrap();
        relative("corrected t", nb.t, number(case, "nb_t"), 1e-9);
        relative("corrected p", nb.p, number(case, "nb_p"), 1e-9);
        if case.get("permutation").is_some() {
            relative(
                "permutation",
                permutation(&d, 0, 0).unwrap().unwrap().p,
                number(case, "permutation"),
                1e-12,
            );
        }
    }
    assert!(exact >= 3 && normal >= 2);
    for row in oracle("mcnemar").as_array().unwrap() {
        let row = numbers(row);
        let got = mcnemar(row[0] as u64, row[1] as u64);
        relative("mcnemar exact", got.exact, row[2], 1e-9);
        relative("mcnemar mid", got.mid, row[3], 1e-9);
    }
    let case = oracle("holm");
    let got = holm(&list(&case, "p")).unwrap();
    got.iter().zip(list(&case, "adjusted")).for_each(|(g, w)| close("holm", *g, w, 1e-12));
}

#[test]
fn logistic_regression() {
    for case in oracle("logistic").as_array().unwrap() {
        let (x, y, columns) = (list(case, "x"), bools(case, "y"), number(case, "columns") as usize);
        let scaler = Scaler::fit(&x, columns).unwrap();
        let all = |what: &str, got: &[f64], key: &str, tolerance: f64| {
            let want = list(case, key);
            assert_eq!(got.len(), want.len());
            got.iter().zip(want).for_each(|(g, w)| close(what, *g, w, tolerance));
        };
        all("mean", &scaler.mean, "mean", 1e-12);
        all("scale", &scaler.scale, "scale", 1e-12);
        let scaled = scaler.transform(&x).unwrap();
        let balanced = case.get("balanced").and_then(Value::as_bool).unwrap();
        let settings = LogisticSettings { c: number(case, "c"), balanced };
        let model = LogisticRegression::fit(&scaled, columns, &y, settings).unwrap();
        all("weights", &model.weights, "weights", 1e-6);
        close("intercept", model.intercept, number(case, "intercept"), 1e-6);
        all("probabilities", &model.probabilities(&scaled).unwrap(), "p", 1e-6);
    }
}
