//! "Did you mean": the nearest of the names that would have been right.

/// The nearest name, if it is near enough to be a slip: a third of its characters, at least one.
pub(super) fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&wrong, &name.to_lowercase());
    let near = names.into_iter().map(|name| (distance(name), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    let limit = (name.chars().count() / 3).max(1);
    (distance <= limit).then_some(name)
}

/// The same as a sentence.
pub(super) fn did_you_mean<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(wrong, names).map(|name| format!("did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slip_is_corrected() {
        let names = ["port", "wrapper", "health_check_path", "tls"];
        assert_eq!(nearest("prot", names), Some("port"));
        assert_eq!(nearest("Wraper", names), Some("wrapper"));
        assert_eq!(nearest("healthcheck_path", names), Some("health_check_path"));
        assert_eq!(nearest("TLS", names), Some("tls"));
        assert_eq!(nearest("volumes", names), None);
        assert_eq!(nearest("x", []), None);
    }
}
