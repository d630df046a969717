//! The nearest right name, for the errors that say "did you mean".

/// The candidate that `wrong` most likely meant, if one is near enough to be worth saying. Case does not matter, and the last
/// part of a name is as good as the name: `nairobi` is `Africa/Nairobi`.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let name = candidate.to_ascii_lowercase();
            let is_end = name.rsplit('/').next().is_some_and(|end| end == wrong);
            (if is_end { 1.0 } else { strsim::jaro_winkler(&wrong, &name) }, candidate)
        })
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
        assert_eq!(nearest("Lagos", ["Africa/Lagos", "Africa/Lome"]), Some("Africa/Lagos"));
    }
}
