//! `metrics.json`.

use serde_json::{Value, json};

use super::calibration;
use super::comparison::{Comparison, PairedTest};
use super::evaluation::{Evaluation, Method};
use super::predictions::Scope;
use super::scores::Score;
use super::statements::Weight;
use crate::metrics::Interval;

fn ends(i: Option<&Interval>) -> Value {
    i.map_or(Value::Null, |i| json!({ "low": i.low, "high": i.high }))
}

fn score(s: &Score, marks: &[String]) -> Value {
    let mut value = json!({
        "estimate": s.estimate,
        "low": s.interval.map(|i| i.low),
        "high": s.interval.map(|i| i.high),
        "computed": s.scope.map(Scope::name),
        "pooled": s.pooled,
        "percentile": ends(s.percentile.as_ref()),
        "bca": ends(s.bca.as_ref()),
    });
    if !marks.is_empty() {
        value["marks"] = json!(marks);
    }
    value
}

fn method(m: &Method, marks: &[String]) -> Value {
    let mut out = serde_json::Map::new();
    for s in &m.scores {
        out.insert(s.metric.name().into(), score(s, marks));
    }
    let c = m.confusion;
    out.insert("confusion".into(), json!([[c[0], c[1]], [c[2], c[3]]]));
    let people: serde_json::Map<_, _> = m.by_subject.iter().map(|(s, v)| (s.clone(), json!(v))).collect();
    out.insert("balanced accuracy by person".into(), people.into());
    out.insert("calibration".into(), m.calibration.as_ref().map_or(Value::Null, calibration::json));
    out.insert("constant_folds".into(), json!(m.constant_folds.0));
    out.insert("unmeasured_windows".into(), json!(m.unmeasured));
    Value::Object(out)
}

fn comparison(c: &Comparison) -> Value {
    let mut out = serde_json::Map::new();
    out.insert("against".into(), json!(c.against));
    for d in &c.differences {
        out.insert(
            format!("{} difference", d.metric.name()),
            json!({
                "estimate": d.estimate,
                "low": d.interval.map(|i| i.low),
                "high": d.interval.map(|i| i.high),
                "computed": d.scope.map(Scope::name),
                "percentile": ends(d.percentile.as_ref()),
                "bca": ends(d.bca.as_ref()),
            }),
        );
    }
    let (people, tested) = match c.test {
        PairedTest::TooFewPeople { people } | PairedTest::AllZero { people } => (people, None),
        PairedTest::Tested { people, mean, wilcoxon, sign_flip } => {
            (people, Some((mean, wilcoxon, sign_flip)))
        }
    };
    out.insert("people_with_both_states".into(), json!(people));
    out.insert("all_differences_zero".into(), json!(matches!(c.test, PairedTest::AllZero { .. })));
    out.insert("mean_difference".into(), json!(tested.map(|t| t.0)));
    out.insert("wilcoxon_p".into(), json!(tested.map(|t| t.1)));
    out.insert("sign_flip_p".into(), json!(tested.map(|t| t.2)));
    out.insert("sign_flip_p_holm".into(), json!(c.holm));
    Value::Object(out)
}

impl Evaluation {
    /// As `metrics.json`: what is not defined is null.
    pub fn json(&self) -> Value {
        let marks: Vec<String> = self.marks.iter().map(|m| m.short.clone()).collect();
        let methods: serde_json::Map<_, _> =
            self.methods.iter().map(|m| (m.name.clone(), method(m, &marks))).collect();
        let comparisons: Vec<Value> = self.comparisons.iter().map(comparison).collect();
        let first = self.comparisons.iter().position(|c| c.against == "heart rate");
        let sentences: Vec<String> = self.marks.iter().map(|m| m.sentence.clone()).collect();
        let warnings: Vec<String> =
            sentences.iter().cloned().chain(self.sentences(Weight::Warning)).collect();
        json!({
            "protocol": self.protocol,
            "leaks": self.leaks,
            "marks": sentences,
            "classes": [self.negative, self.positive],
            "windows": self.windows,
            "positives": self.positives,
            "people": self.subjects,
            "people_with_both_states": self.people_with_both,
            "folds": self.folds,
            "folds_with_both_states": self.folds_with_both,
            "computed": self.scope.map(Scope::name),
            "intervals": "low and high: Student's t over people with the jackknife (logit scale for scores from 0 to 1); percentile and bca: bootstrap over people",
            "interval_level": self.level,
            "resamples": self.resamples,
            "methods": methods,
            "comparisons": comparisons,
            "against_heart_rate": first.map_or(Value::Null, |i| comparison(&self.comparisons[i])),
            "results": self.sentences(Weight::Result).collect::<Vec<_>>(),
            "notes": self.sentences(Weight::Note).collect::<Vec<_>>(),
            "warnings": warnings,
        })
    }
}
