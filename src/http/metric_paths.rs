//! The metrics in the description of the API: one path each, with the parameters that it takes and the columns that it
//! answers. Metrics are files of `queries/`, so all of this is made when the server starts.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::{
    IntoParams, IntoResponses,
    openapi::{
        ContentBuilder, Object, Ref, RefOr, Response, ResponseBuilder, Type,
        header::HeaderBuilder,
        path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle},
        schema::{AdditionalProperties, ObjectBuilder, Schema},
    },
};

use super::{
    middleware::{LEFT_OUT, TRUNCATED, WITHHELD},
    openapi::type_name,
    problem_types,
};
use crate::query::{
    ColumnInfo, ColumnType, Format, MAX_LENGTH, MAX_VALUES, Metric, Metrics, ParameterInfo, ParameterType,
};

/// The path that answers for all metrics.
pub(super) const PATH: &str = "/v1/metrics/{name}";

/// The parameters of a metric, whichever it is.
pub(super) struct MetricParameters;

impl IntoParams for MetricParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let query = |name: &str, about: &str, schema: Schema| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .description(Some(about))
                .schema(Some(schema))
        };
        let names = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(Format::ALL.map(Format::name)));
        let format = names.default(Some(json!(Format::Json.name()))).build();
        let text = AdditionalProperties::RefOr(RefOr::T(Object::with_type(Type::String).into()));
        let own = ObjectBuilder::new().additional_properties(Some(text)).build();
        vec![
            query("format", "The form of the answer; it goes before the Accept header.", format.into()).build(),
            query("parameters", "Those of the metric, as its own path describes them.", own.into())
                .style(Some(ParameterStyle::Form))
                .explode(Some(true))
                .build(),
        ]
    }
}

/// The figures, in every form that there is.
pub(super) struct Figures;

impl IntoResponses for Figures {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let text = |about: &str| {
            HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(about)).build()
        };
        let mut response = ResponseBuilder::new()
            .description("The figures.")
            .header("ETag", text("A tag of the answer, for If-None-Match."))
            .header("Vary", text("What an answer depends on beside its URL."))
            .header(TRUNCATED.as_str(), text("`true` where the limit on rows left some out; else it is not there."))
            .header(
                WITHHELD.as_str(),
                text("`withheld_cells` of the JSON, where it is a number; else it is not there."),
            )
            .header(
                LEFT_OUT.as_str(),
                text(
                    "How many projects are left out, because the question, which names none, asks more of them than is shared: \
                     single customers of aggregates, connections, or what was earlier; `warnings` of the JSON says which. Else it is not there.",
                ),
            );
        for format in Format::ALL {
            let content = ContentBuilder::new();
            let content = match format {
                Format::Json => content.schema(Some(Ref::from_schema_name("MetricAnswer"))),
                Format::Ndjson => content.schema(Some(described("A row a line, as they are in `rows` of the JSON."))),
                Format::Csv => content.schema(Some(described("A header, and a row a line."))),
                // Bytes have no schema (OpenAPI 3.1, 4.8.14).
                Format::Arrow | Format::Parquet => content,
            };
            response = response.content(format.media_type(), content.build());
        }
        BTreeMap::from([("200".to_owned(), response.into())])
    }
}

fn described(about: &str) -> Object {
    ObjectBuilder::new().schema_type(Type::String).description(Some(about)).build()
}

/// Adds the path of each metric, beside the one that answers for all of them.
pub(super) fn add(document: &mut Value, metrics: &Metrics) {
    let general = document["paths"][PATH]["get"].clone();
    document["components"]["schemas"]["MetricAnswer"] = answer(
        json!({"type": "string"}),
        json!({"type": "object", "description": "The parameters that took effect."}),
        &json!({"type": "object", "description": "A value for each column."}),
    );
    for metric in metrics.iter() {
        let name = type_name(metric.name());
        let schemas = &mut document["components"]["schemas"];
        let row = format!("{name}Row");
        schemas[&row] = object(metric.info.columns.iter().map(|column| (column.name.clone(), cell(column))));
        let row = json!({"$ref": format!("#/components/schemas/{row}")});
        schemas[format!("{name}Answer")] = answer(json!({"const": metric.name()}), in_effect(metric), &row);
        document["paths"][PATH.replace("{name}", metric.name())] = json!({"get": operation(&general, metric, &name)});
    }
}

fn operation(general: &Value, metric: &Metric, type_name: &str) -> Value {
    let mut operation = general.clone();
    let names: Vec<&str> = metric.info.columns.iter().map(|column| column.name.as_str()).collect();
    operation["operationId"] = json!(format!("get_{}", metric.name()));
    operation["summary"] = json!(metric.info.title);
    operation["description"] = json!(metric.info.definition);
    if let Some(parameters) = operation["parameters"].as_array_mut() {
        // What stands for any metric gives way to what this one takes.
        parameters.retain(|parameter| parameter["name"] != "name" && parameter["name"] != "parameters");
        parameters.extend(metric.info.parameters.iter().map(parameter));
    }
    let content = &mut operation["responses"]["200"]["content"];
    content["application/json"]["schema"] = json!({"$ref": format!("#/components/schemas/{type_name}Answer")});
    content["text/csv"]["schema"]["description"] = json!(format!("{}, and a row a line.", names.join(",")));
    let unknown = json!({"$ref": format!("#/components/schemas/{}", problem_types::schema_name("unknown_metric"))});
    let absent = &mut operation["responses"]["404"]["content"][problem_types::MEDIA_TYPE]["schema"]["oneOf"];
    if let Some(problems) = absent.as_array_mut() {
        problems.retain(|problem| *problem != unknown);
    }
    operation
}

/// The answer in JSON.
fn answer(metric: Value, parameters: Value, row: &Value) -> Value {
    let list = |name: &str| json!({"type": "array", "items": {"$ref": format!("#/components/schemas/{name}")}});
    let members = [
        ("metric", metric),
        ("title", json!({"type": "string"})),
        ("definition", json!({"type": "string"})),
        (
            "lake_version",
            json!({"type": "integer", "minimum": 0, "description": "The version that the figures are of."}),
        ),
        ("parameters", parameters),
        ("columns", list("AnswerColumn")),
        ("rows", json!({"type": "array", "items": row})),
        (
            "withheld_cells",
            json!({
                "type": ["integer", "null"], "minimum": 0,
                "description": "Of what is shared as aggregates in the period, cells (a site in a month and a currency) that are \
                                left out because a customer could be made out in them; null where nothing is.",
            }),
        ),
        ("warnings", list("AnswerWarning")),
    ];
    object(members.map(|(name, schema)| (name.to_owned(), schema)))
}

/// An object that has all of its properties.
fn object(properties: impl IntoIterator<Item = (String, Value)>) -> Value {
    let properties: Map<String, Value> = properties.into_iter().collect();
    let names: Vec<&String> = properties.keys().collect();
    json!({"type": "object", "required": names, "properties": properties})
}

/// A parameter in the query.
fn parameter(info: &ParameterInfo) -> Value {
    let text = || json!({"type": "string", "minLength": 1, "maxLength": MAX_LENGTH});
    let mut schema = match info.kind {
        ParameterType::Slug => json!({"$ref": "#/components/schemas/ProjectSlug"}),
        ParameterType::Date | ParameterType::Text | ParameterType::TimeZone => text(),
        ParameterType::Choice => json!({"type": "string", "enum": info.allowed}),
        ParameterType::Currency => json!({"type": "string", "pattern": "^[A-Za-z]{3}$"}),
        ParameterType::Integer => json!({"type": "integer", "minimum": info.min, "maximum": info.max}),
        ParameterType::Columns => {
            let column = format!("-?({})", info.allowed.join("|"));
            json!({"type": "string", "pattern": format!("^{column}(,{column})*$")})
        }
    };
    if let Some(members) = schema.as_object_mut() {
        members.retain(|_, value| !value.is_null());
        members.extend(info.default.clone().map(|default| ("default".to_owned(), default)));
    }
    if info.repeatable {
        schema = json!({"type": "array", "maxItems": MAX_VALUES, "items": schema});
    }
    json!({
        "name": info.name, "in": "query", "required": false, "description": info.description,
        "style": "form", "explode": true, "schema": schema,
    })
}

/// The parameters of an answer: those that took effect.
fn in_effect(metric: &Metric) -> Value {
    let mut parameters = object(metric.info.parameters.iter().map(|info| {
        let schema = match (info.kind, info.name.as_str()) {
            (ParameterType::Slug, _) => json!({"type": "array", "items": {"$ref": "#/components/schemas/ProjectSlug"}}),
            (_, "limit") => json!({"type": "integer", "minimum": 1}),
            (ParameterType::Choice, _) => json!({"type": "string", "enum": info.allowed}),
            (ParameterType::Columns, _) => json!({"type": "string"}),
            _ if info.repeatable => json!({"type": "array", "items": {"type": "string"}}),
            (ParameterType::Integer, _) => json!({"type": ["integer", "null"]}),
            (ParameterType::Date | ParameterType::Text | ParameterType::TimeZone | ParameterType::Currency, _) => {
                json!({"type": ["string", "null"]})
            }
        };
        (info.name.clone(), schema)
    }));
    if metric.counts_back() {
        for end in ["from", "to"] {
            parameters["properties"][end] = json!({"type": ["string", "null"]});
        }
    }
    parameters["description"] = json!("The parameters that took effect.");
    parameters
}

/// A value of a column in JSON.
fn cell(column: &ColumnInfo) -> Value {
    let kinds: &[&str] = match column.kind {
        ColumnType::Text | ColumnType::Date | ColumnType::Timestamp => &["string"],
        ColumnType::Integer => &["integer", "string"],
        ColumnType::Decimal => &["number"],
        ColumnType::Boolean => &["boolean"],
        // None of these is a column of a metric.
        ColumnType::Float | ColumnType::LocalTimestamp | ColumnType::Time => &["number", "string"],
    };
    let kinds: Vec<&str> = kinds.iter().copied().chain(column.nullable.then_some("null")).collect();
    let unit = column.unit.as_ref().map_or(String::new(), |unit| format!(" Unit: {unit}."));
    let mut schema = json!({"type": kinds, "description": format!("{}{unit}", column.description)});
    match column.kind {
        ColumnType::Date => schema["format"] = json!("date"),
        ColumnType::Timestamp => schema["format"] = json!("date-time"),
        ColumnType::Integer => schema["pattern"] = json!("^-?[0-9]+$"),
        // No format of OpenAPI's own: readers that know nothing of it have a number.
        ColumnType::Decimal => schema["format"] = json!("decimal"),
        ColumnType::Text | ColumnType::Boolean | ColumnType::Float | ColumnType::LocalTimestamp | ColumnType::Time => {}
    }
    schema
}
