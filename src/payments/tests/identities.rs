//! Which rows are the same.

use std::sync::Arc;

use arrow::{
    array::ArrayRef,
    datatypes::{Field, Schema},
};

use super::*;
use crate::payments::identity::{Identity, identities};

fn of(rows: &[&str]) -> Vec<Identity> {
    identities(&decode(file(rows)).payments).unwrap()
}

#[test]
fn two_forms_of_one_payment_have_the_same_content() {
    let rows = of(&[
        GOOD,
        &with("TIMESTAMP", "2024-05-03T17:10:28"),
        &with("TIMESTAMP", "2024-05-03 20:10:28+03:00"),
        &with("PAYMENT_AMOUNT", "150"),
        &with("NOTES", "\"token resent\""),
    ]);
    assert!(rows.iter().all(|row| *row == rows[0]));
}

#[test]
fn a_change_in_any_column_is_another_content_of_the_same_id() {
    let first = of(&[GOOD])[0];
    for name in HEADER.split(',').filter(|name| *name != "ID") {
        let value = match name {
            "TIMESTAMP" => "2024-05-03 17:10:29",
            "PAYMENT_AMOUNT" | "TRANSACTION CHARGES" => "150.0001",
            _ => "changed",
        };
        let changed = of(&[&with(name, value)])[0];
        assert_eq!(changed.id, first.id, "{name}");
        assert_ne!(changed.content, first.content, "{name}");
    }
    let other = of(&[&with("ID", "TX2")])[0];
    assert!(other.id != first.id && other.content != first.content);
}

#[test]
fn neighbouring_values_do_not_run_into_each_other() {
    let row = |reference, account| format!("2024-05-03T17:10:28,TX1,00123,,C1,Rosa,,,{reference},5,{account},,,");
    let rows = of(&[&row("ab", "c"), &row("a", "bc"), &row("abc", ""), &row("", "abc")]);
    for (index, row) in rows.iter().enumerate() {
        assert!(rows[..index].iter().all(|other| other.content != row.content));
    }
}

#[test]
fn the_encoding_of_a_column_and_what_is_derived_do_not_matter() {
    let batch = decode(file(&[GOOD, &with("UTILITY_ID", "")])).payments;
    let mut columns: Vec<ArrayRef> = Vec::new();
    let mut fields = Vec::new();
    for field in FILE_SCHEMA.fields().iter().rev() {
        let column = batch.column_by_name(field.name()).unwrap();
        let other = match field.name().as_str() {
            "settlement" | "upload_id" | "site" | "customer_category" => continue,
            "source" | "status" | "utility_id" => {
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
            }
            _ if *field.data_type() == DataType::Utf8 => DataType::Utf8View,
            _ => field.data_type().clone(),
        };
        fields.push(Field::new(field.name(), other.clone(), true));
        columns.push(cast(column, &other).unwrap());
    }
    let encoded = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    assert_eq!(identities(&encoded).unwrap(), identities(&batch).unwrap());
    assert!(identities(&encoded.project(&[0, 1]).unwrap()).is_err());
}
