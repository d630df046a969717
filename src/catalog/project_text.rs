//! From what a person wrote to a project: every field is checked, and every fault is reported, not the first alone.

use std::str::FromStr;

use chrono_tz::{TZ_VARIANTS, Tz};
use serde::Serialize;
use utoipa::ToSchema;

use super::{NewProject, ProjectChange};
use crate::nearest::nearest;

/// Of a name that people read.
pub const MAX_NAME_CHARS: usize = 200;

/// What is wrong with one field, for the person who sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

/// A project's fields as they came, unchecked.
#[derive(Clone, Debug, Default)]
pub struct ProjectText {
    pub slug: Option<String>,
    pub name: Option<String>,
    pub kind: Option<String>,
    pub currency: Option<String>,
    pub time_zone: Option<String>,
    pub country: Option<String>,
    /// Needed only where there are several.
    pub organisation: Option<String>,
}

impl ProjectText {
    pub const FIELDS: [&'static str; 7] =
        ["slug", "name", "kind", "currency", "time_zone", "country", Self::ORGANISATION];
    /// The one field that may be left out.
    pub const ORGANISATION: &'static str = "organisation";

    /// The place of a field by its name.
    pub fn field_mut(&mut self, name: &str) -> Option<&mut Option<String>> {
        match name {
            "slug" => Some(&mut self.slug),
            "name" => Some(&mut self.name),
            "kind" => Some(&mut self.kind),
            "currency" => Some(&mut self.currency),
            "time_zone" => Some(&mut self.time_zone),
            "country" => Some(&mut self.country),
            Self::ORGANISATION => Some(&mut self.organisation),
            _ => None,
        }
    }

    /// A project to be made: every field but the organisation is needed.
    ///
    /// # Errors
    /// One entry for each field that is missing or wrong.
    pub fn into_new(self) -> Result<NewProject, Vec<FieldError>> {
        let mut errors = Vec::new();
        for (field, value) in Self::FIELDS.into_iter().zip([
            &self.slug,
            &self.name,
            &self.kind,
            &self.currency,
            &self.time_zone,
            &self.country,
        ]) {
            if value.is_none() {
                errors.push(FieldError { field: field.to_owned(), message: format!("{field} is missing") });
            }
        }
        let slug = check(&mut errors, "slug", self.slug, parsed);
        let name = check(&mut errors, "name", self.name, checked_name);
        let kind = check(&mut errors, "kind", self.kind, parsed);
        let currency = check(&mut errors, "currency", self.currency, parsed);
        let time_zone = check(&mut errors, "time_zone", self.time_zone, checked_zone);
        let country = check(&mut errors, "country", self.country, parsed);
        let organisation = check(&mut errors, Self::ORGANISATION, self.organisation, parsed);
        match (slug, name, kind, currency, time_zone, country) {
            (Some(slug), Some(name), Some(kind), Some(currency), Some(time_zone), Some(country))
                if errors.is_empty() =>
            {
                Ok(NewProject { slug, name, kind, currency, time_zone, country, organisation })
            }
            _ => Err(errors),
        }
    }

    /// A change: the fields that are there. The slug and the organisation are never among them.
    ///
    /// # Errors
    /// One entry for each field that is wrong.
    pub fn into_change(self) -> Result<ProjectChange, Vec<FieldError>> {
        let mut errors = Vec::new();
        if self.slug.is_some() {
            let message = "a slug never changes, because the lake's folders and saved queries hold it".to_owned();
            errors.push(FieldError { field: "slug".to_owned(), message });
        }
        if self.organisation.is_some() {
            let message = "a project stays with its organisation, whose keys have seen its payments".to_owned();
            errors.push(FieldError { field: Self::ORGANISATION.to_owned(), message });
        }
        let change = ProjectChange {
            name: check(&mut errors, "name", self.name, checked_name),
            kind: check(&mut errors, "kind", self.kind, parsed),
            currency: check(&mut errors, "currency", self.currency, parsed),
            time_zone: check(&mut errors, "time_zone", self.time_zone, checked_zone),
            country: check(&mut errors, "country", self.country, parsed),
        };
        if errors.is_empty() { Ok(change) } else { Err(errors) }
    }
}

fn check<T>(
    errors: &mut Vec<FieldError>,
    field: &str,
    text: Option<String>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    match parse(&text?) {
        Ok(value) => Some(value),
        Err(message) => {
            errors.push(FieldError { field: field.to_owned(), message });
            None
        }
    }
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// A name that people read: of a project, of a key.
pub fn checked_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        return Err(format!("a name is 1 to {MAX_NAME_CHARS} characters, without line breaks or control characters"));
    }
    Ok(name.to_owned())
}

fn checked_zone(text: &str) -> Result<Tz, String> {
    text.parse().map_err(|_| {
        let meant = nearest(text, TZ_VARIANTS.iter().map(|zone| zone.name()));
        let meant = meant.map_or(String::new(), |name| format!("; did you mean {name}?"));
        format!("{text:?} is not an IANA time zone, such as Africa/Nairobi{meant}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_faulty_field_is_named_at_once() {
        let text = ProjectText {
            slug: Some("Kitobo!".into()),
            name: Some("  ".into()),
            currency: Some("KSH".into()),
            time_zone: Some("Nairobi".into()),
            ..ProjectText::default()
        };
        let errors = text.into_new().unwrap_err();
        let mut fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["country", "currency", "kind", "name", "slug", "time_zone"]);
    }

    #[test]
    fn a_zone_that_is_nearly_right_is_completed() {
        assert!(checked_zone("africa/nairobi").unwrap_err().ends_with("did you mean Africa/Nairobi?"));
    }

    #[test]
    fn a_change_never_holds_a_slug_or_an_organisation() {
        let text = ProjectText { slug: Some("new".into()), name: Some("New".into()), ..ProjectText::default() };
        assert_eq!(text.into_change().unwrap_err()[0].field, "slug");
        let text = ProjectText { organisation: Some("new".into()), ..ProjectText::default() };
        assert_eq!(text.into_change().unwrap_err()[0].field, "organisation");
    }
}
