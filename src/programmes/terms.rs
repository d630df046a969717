//! The terms of a programme beside its rule: what it asks of files, and what it is shown of the projects that take part.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    nearest::nearest,
    payments::definition::{COLUMNS, Column},
};

/// What a project that takes part in a programme shares with the organisation that administers it. It is shown before anybody
/// consents, and nothing else of the project is ever shown to that organisation by way of the programme.
pub const DISCLOSES: &[Disclosure] = &[
    Disclosure {
        of: "project",
        fields: &["slug", "name", "time_zone"],
        about: "Of the project that takes part, as long as it does, and whose it is.",
    },
    Disclosure {
        of: "connection",
        fields: &["external_id", "serial_number", "connected_on", "site", "category"],
        about: "Of each connection that is submitted to the programme; of the others nothing, not that they are there.",
    },
    Disclosure {
        of: "verdict",
        fields: &[
            "outcome",
            "detail",
            "payments",
            "months",
            "amount",
            "currency",
            "refunded",
            "first_paid_at",
            "last_paid_at",
            "reversed_payments",
            "payments_of_meter",
            "window_from",
            "window_to",
            "duplicate_of",
            "near_misses",
            "uploads",
            "submitted_serial_number",
            "is_connected",
            "turn",
            "would_be",
            "reopened_at",
        ],
        about: "Of each connection that is submitted: what it comes to by the programme's rule, and by which figures; where no \
                payment has its id, the ids of meters that were likely meant; and what it would come to now, where that is something \
                else. The same by another rule, which the programme tries out, without the payments.",
    },
    Disclosure {
        of: "payment",
        fields: &["payment_id", "paid_at", "amount", "currency", "status", "part", "upload_id"],
        about: "Of the payments that are evidence for a verdict by the rule of these terms, and no others. No customer's name or phone, and no notes.",
    },
    Disclosure {
        of: "upload",
        fields: &["id", "sha256", "status"],
        about: "Of the uploads that the payments came with which were looked at, so that a verdict can be shown to be right; nothing \
                of what else is in them.",
    },
];

/// A kind of thing of which a programme is shown fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Disclosure {
    #[schema(example = "connection")]
    pub of: &'static str,
    #[schema(value_type = Vec<String>)]
    pub fields: &'static [&'static str],
    /// Of which of them, in words.
    pub about: &'static str,
}

/// The columns that a programme asks for, each once and in the order of the definition.
///
/// # Errors
/// One of them is no column of a payment file, or one that every file needs anyway, so that to ask for it says nothing.
pub fn checked_columns(names: &[String]) -> Result<Vec<String>, String> {
    let mut asked = [false; COLUMNS.len()];
    for name in names {
        let Some(column) = Column::ALL.into_iter().find(|column| column.name() == name) else {
            return Err(unknown(name));
        };
        if column.definition().required {
            return Err(format!("every file needs {name:?} anyway; leave it out"));
        }
        asked[column.index()] = true;
    }
    let asked = Column::ALL.into_iter().filter(|column| asked[column.index()]);
    Ok(asked.map(|column| column.name().to_owned()).collect())
}

fn unknown(name: &str) -> String {
    let name: String = name.chars().take(100).collect();
    let meant = nearest(&name, COLUMNS.iter().map(|column| column.name));
    let optional: Vec<&str> = COLUMNS.iter().filter(|column| !column.required).map(|column| column.name).collect();
    match meant {
        Some(meant) => format!("{name:?} is no column of a payment file; did you mean {meant:?}?"),
        None => {
            format!("{name:?} is no column of a payment file; those that can be asked for are {}", optional.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(names: &[&str]) -> Result<Vec<String>, String> {
        checked_columns(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn columns_are_asked_for_once_and_in_order_and_only_those_that_a_file_may_leave_out() {
        assert_eq!(checked(&["external_id", "STATUS", "STATUS"]).unwrap(), ["STATUS", "external_id"]);
        assert_eq!(checked(&[]).unwrap(), [""; 0]);
        assert!(checked(&["ACCOUNT_TIPE"]).unwrap_err().ends_with(r#"did you mean "ACCOUNT_TYPE"?"#));
        assert!(checked(&["status"]).unwrap_err().ends_with(r#"did you mean "STATUS"?"#));
        assert!(checked(&["qqqq"]).unwrap_err().contains("are UTILITY_ID, TRANSACTION CHARGES, PAYMENT_SOURCE"));
        assert_eq!(checked(&["METER_ID"]).unwrap_err(), r#"every file needs "METER_ID" anyway; leave it out"#);
    }

    #[test]
    fn nothing_that_says_who_a_customer_is_is_disclosed() {
        let fields = || DISCLOSES.iter().flat_map(|disclosed| disclosed.fields);
        for private in ["customer_name", "customer_id", "phone", "gender", "address", "latitude", "longitude", "notes"]
        {
            assert!(fields().all(|field| *field != private), "{private}");
        }
        assert!(DISCLOSES.iter().all(|disclosed| !disclosed.fields.is_empty() && !disclosed.about.is_empty()));
    }
}
