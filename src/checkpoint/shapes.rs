//! Does a file hold the tensors a model expects? If not, which are missing, unexpected or of another shape.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// How many differences an error lists before it only counts.
const LISTED: usize = 10;

/// Compares the tensors a model `expected` with those `found` in a file; the order does not matter.
///
/// # Errors
/// [`crate::error::Kind::Shape`] that names the first ten missing, unexpected and differing tensors, in that order.
pub fn compare_shapes(expected: &[(String, Vec<usize>)], found: &[(String, Vec<usize>)]) -> Result<()> {
    let wanted: BTreeMap<&str, &[usize]> = expected.iter().map(|(n, s)| (&n[..], &s[..])).collect();
    let there: BTreeMap<&str, &[usize]> = found.iter().map(|(n, s)| (&n[..], &s[..])).collect();
    let mut missing = Vec::new();
    let mut unexpected = Vec::new();
    let mut differing = Vec::new();
    let mut first: Option<(&[usize], &[usize])> = None;
    for (name, shape) in &wanted {
        match there.get(name) {
            None => missing.push(format!("missing {name} {shape:?}")),
            Some(other) if other != shape => {
                differing.push(format!("{name} is {other:?} in the file, {shape:?} in the model"));
                first.get_or_insert((*shape, *other));
            }
            Some(_) => {}
        }
    }
    for (name, shape) in &there {
        if !wanted.contains_key(name) {
            unexpected.push(format!("unexpected {name} {shape:?}"));
        }
    }
    let counts = (missing.len(), unexpected.len(), differing.len());
    let all: Vec<String> = missing.into_iter().chain(unexpected).chain(differing).collect();
    if all.is_empty() {
        return Ok(());
    }
    let mut list = all.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join("; ");
    if all.len() > LISTED {
        list.push_str(&format!("; and {} more", all.len() - LISTED));
    }
    let error = Error::shape(format!(
        "the tensors do not fit the model ({} missing, {} unexpected, {} of another shape): {list}",
        counts.0, counts.1, counts.2
    ))
    .remedy("use the configuration that was saved with the file, or the file that belongs to this model");
    Err(match first {
        Some((expected, found)) => error.shapes(expected, found),
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn t(name: &str, shape: &[usize]) -> (String, Vec<usize>) {
        (name.into(), shape.to_vec())
    }

    #[test]
    fn equal_in_any_order() {
        compare_shapes(&[t("a", &[2, 3]), t("b", &[])], &[t("b", &[]), t("a", &[2, 3])]).unwrap();
        compare_shapes(&[], &[]).unwrap();
    }

    #[test]
    fn says_which_and_how() {
        let e =
            compare_shapes(&[t("a", &[2, 3]), t("b", &[4])], &[t("a", &[3, 2]), t("c", &[1])]).unwrap_err();
        assert_eq!(e.kind(), Kind::Shape);
        assert_eq!(e.fields().expected_shape.as_deref(), Some(&[2, 3][..]));
        assert_eq!(e.fields().found_shape.as_deref(), Some(&[3, 2][..]));
        let text = e.to_string();
        assert!(text.contains("1 missing, 1 unexpected, 1 of another shape"), "{text}");
        assert!(
            text.contains("missing b [4]; unexpected c [1]; a is [3, 2] in the file, [2, 3] in the model"),
            "{text}"
        );
    }

    #[test]
    fn lists_ten_and_counts_the_rest() {
        let expected: Vec<_> = (0..25).map(|i| t(&format!("layer.{i:02}"), &[i])).collect();
        let text = compare_shapes(&expected, &[]).unwrap_err().to_string();
        assert!(text.contains("25 missing") && text.contains("layer.09 [9]; and 15 more"), "{text}");
        assert!(!text.contains("layer.10"), "{text}");
    }
}
