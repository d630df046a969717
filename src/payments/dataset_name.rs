//! Dataset names: `01_2024_Site Name` names its site (seed: Integration Set-Up); other names are allowed, and name none.

/// Characters of a dataset name at most.
pub const MAX_CHARACTERS: usize = 200;

/// The site that a dataset name of the form `MM_YYYY_Site Name` names.
#[must_use]
pub fn site(dataset_name: &str) -> Option<&str> {
    let (month, rest) = dataset_name.split_once('_')?;
    let (year, site) = rest.split_once('_')?;
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let month_is_real = digits(month, 2) && (1..=12).contains(&month.parse().unwrap_or(0));
    let site = site.trim();
    (month_is_real && digits(year, 4) && !site.is_empty()).then_some(site)
}

#[cfg(test)]
mod tests {
    use super::site;

    #[test]
    fn a_dataset_name_of_the_seeds_form_names_its_site() {
        assert_eq!(site("01_2024_Site Name"), Some("Site Name"));
        assert_eq!(site("12_2024_Kitobo_East"), Some("Kitobo_East"));
        for other in ["13_2024_X", "1_2024_X", "01_24_X", "01_2024_", "01_2024_ ", "Kitobo", "a_2024_X", ""] {
            assert_eq!(site(other), None, "{other}");
        }
    }
}
