//! The nearest right name, for the errors that say "did you mean".

/// The candidate that `wrong` most likely meant, if one is near enough to be worth saying. Case does not matter.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&wrong, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let names = ["time_zone", "currency", "country"];
        assert_eq!(nearest("timezone", names), Some("time_zone"));
        assert_eq!(nearest("Currancy", names), Some("currency"));
        assert_eq!(nearest("qqq", names), None);
    }
}
