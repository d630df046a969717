//! `POST /v1/uploads` as a form or as a plain body, and `PUT /v1/uploads`, which is what `curl -T` sends.

use std::{
    collections::BTreeSet,
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::{FromRequest, Multipart, Request, State, multipart::Field},
    http::header,
    response::Response,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::{
    AppState, Parameters, Problem, Uploader,
    answers::Received,
    declared::Declared,
    extract::Flag,
    idempotency::{self, IdempotencyHeader},
    invalid_parameter,
    outcome::answer,
    problem_types::{Raises, Refused},
    requests::{ContentEncoding, UploadForm, UploadQuery, UploadQueryOrForm},
    rights::Rights,
    unreadable_body,
};
use crate::{
    access::Scope,
    audit::note,
    catalog::{OnError, Project},
    error::ErrorKind,
    ids::{IdempotencyKey, ProjectSlug},
    ingest::{IngestError, Outcome, UploadRequest},
    payments::{dataset_name, definition},
};

/// Bytes of a form's field, the file aside, at most.
const MAX_FIELD_BYTES: usize = 4 << 10;
/// Bytes of a form before its file at most.
const MAX_PREAMBLE_BYTES: usize = 256 << 10;
/// Bytes of a form after its last boundary at most.
const MAX_EPILOGUE_BYTES: usize = 64 << 10;
/// Fields of a form at most, the file aside.
const MAX_FIELDS: usize = 100;
/// The one provider of files that people upload (seed: Integration Set-Up, 4).
const DATA_PROVIDER: &str = "user";

/// What receiving a file can come to.
struct Reception;

impl Raises for Reception {
    fn codes() -> Vec<&'static str> {
        let request = ["not_found", "body_broken", "broken_form", "body_timeout", "form_too_large", "file_too_large"];
        let file = ["unsupported_type", "wrong_file_name", "upload_rejected", "currency_changed"];
        [&request[..], &file, &["too_many_uploads", "storage_full"]].concat()
    }
}

/// Upload a file
///
/// As a form whose last part is the file, or as a plain body. With `dry_run`, it is checked and nothing is kept.
#[utoipa::path(
    post, path = "/v1/uploads", tag = "uploads",
    params(UploadQueryOrForm, IdempotencyHeader, ContentEncoding),
    request_body(content(
        (UploadForm = "multipart/form-data"), (String = "text/csv"), ("application/gzip"), ("application/zstd"),
        ("application/octet-stream")
    )),
    responses(Received, Refused<(Uploader, Parameters, IdempotencyHeader, Reception)>)
)]
pub(super) async fn create_upload(
    uploader: Uploader,
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(request.uri().query().unwrap_or_default())?;
    let sender = Sender { uploader, idempotency_key: idempotency::key_of(request.headers())? };
    let declared = Declared::of(request.headers())?;
    if declared != Declared::Form {
        refuse_too_large(&request, state.config.upload.max_bytes)?;
        let upload = read_request(&state, &sender, parameters, declared).await?;
        let body = request.into_body().into_data_stream().map_err(io::Error::other);
        return receive(&state, &sender, upload, body).await;
    }
    let file_begun = Arc::new(AtomicBool::new(false));
    let (parts, body) = request.into_parts();
    let body = FormBody::new(body);
    let request = Request::from_parts(parts, limit_preamble(body.clone(), file_begun.clone()));
    let form = Multipart::from_request(request, &state).await.map_err(|error| broken_form(&error))?;
    let (fields, announced) = oneshot::channel::<Vec<_>>();
    let (chunks, mut queue) = mpsc::channel(1);
    let (state, sender) = (&state, &sender);
    // It owns the queue, which closes when it fails: `read_form` would else wait for ever for room in it.
    let upload = async move {
        // Where the form breaks off before its file, `read_form` says why.
        let Ok(fields) = announced.await else { return Ok(None) };
        file_begun.store(true, Ordering::Relaxed);
        // What the URL says counts for a form too: a parameter is never silently without effect.
        let fields = [parameters.rest(), fields.as_slice()].concat();
        let upload = read_request(state, sender, Parameters::of(fields), declared).await?;
        receive(state, sender, upload, stream::poll_fn(move |context| queue.poll_recv(context))).await.map(Some)
    };
    // When one of the two fails, the other one's answer would only say that it was stopped.
    let (form, answer) = tokio::join!(read_form(form, body, fields, chunks), upload);
    match answer? {
        Some(answer) => Ok(answer),
        None => Err(form.err().unwrap_or_else(Problem::unexplained)),
    }
}

/// Upload a file as a plain body
///
/// What `curl -T` sends. The same as POST.
#[utoipa::path(
    put, path = "/v1/uploads", tag = "uploads",
    params(UploadQuery, IdempotencyHeader, ContentEncoding),
    request_body(content(
        (String = "text/csv"), ("application/gzip"), ("application/zstd"), ("application/octet-stream")
    )),
    responses(Received, Refused<(Uploader, Parameters, IdempotencyHeader, Reception)>)
)]
pub(super) async fn put_upload(
    uploader: Uploader,
    state: State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    create_upload(uploader, state, request).await
}

/// Who sends a file, and what they call the request.
struct Sender {
    uploader: Uploader,
    idempotency_key: Option<IdempotencyKey>,
}

/// A file that says beforehand that it is too large need not be sent.
fn refuse_too_large(request: &Request, limit: u64) -> Result<(), Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > limit) { Err(IngestError::TooLarge { limit }.into()) } else { Ok(()) }
}

/// Reads a form to its end: announces its fields when the file begins, because they say what to do with it, and passes the
/// file on.
async fn read_form(
    mut form: Multipart,
    body: FormBody,
    announce: oneshot::Sender<Vec<(String, String)>>,
    chunks: mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), Problem> {
    let mut fields = Vec::new();
    loop {
        let field = form.next_field().await.map_err(|error| broken_form(&error))?;
        let Some(mut field) = field else {
            let detail = "the form has no part named file; it comes last, with the file name ELECTRICITY_PAYMENT.csv";
            return Err(invalid_parameter("file", detail));
        };
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            fields.push(("file_name".to_owned(), field.file_name().unwrap_or_default().to_owned()));
            // Whoever waited for it may have gone; then sending fails, and that ends this.
            let _ = announce.send(fields);
            while let Some(chunk) = field.chunk().await.transpose() {
                let broken = chunk.is_err();
                if chunks.send(chunk.map_err(io::Error::other)).await.is_err() || broken {
                    return Ok(());
                }
            }
            break;
        }
        if fields.len() == MAX_FIELDS {
            let detail = format!("a form has at most {MAX_FIELDS} fields");
            return Err(Problem::new(ErrorKind::Invalid, "too_many_parameters", detail));
        }
        let text = field_text(&name, &mut field).await?;
        fields.push((name, text));
    }
    // A part after the file came too late to be heard; to take the file without it would be to guess.
    let late = match form.next_field().await {
        Ok(None) => match body.end().await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        },
        Ok(Some(late)) => io::Error::other(AfterFile::Part(late.name().unwrap_or_default().to_owned())),
        Err(error) => io::Error::other(error),
    };
    let _ = chunks.send(Err(late)).await;
    Ok(())
}

/// The bytes of a form, which the form's reader takes as far as the last boundary, and [`Self::end`] beyond it.
#[derive(Clone)]
struct FormBody(Arc<Mutex<BodyDataStream>>);

impl FormBody {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(body.into_data_stream())))
    }

    /// Reads to the end of the body what follows a form and means nothing (RFC 2046, 5.1.1). A body that is cut off there is
    /// no whole request either, and must not become an upload whose sender cannot be told.
    async fn end(mut self) -> io::Result<()> {
        let mut bytes = 0;
        while let Some(chunk) = self.next().await {
            bytes += chunk.map_err(io::Error::other)?.len();
            if bytes > MAX_EPILOGUE_BYTES {
                return Err(io::Error::other(AfterFile::TooLong));
            }
        }
        Ok(())
    }
}

impl Stream for FormBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    }
}

/// Bounds what comes before the file: the form's reader looks for a boundary in all that it has, and would take any amount.
fn limit_preamble(body: FormBody, file_begun: Arc<AtomicBool>) -> Body {
    let mut bytes = 0;
    Body::from_stream(body.map(move |chunk| {
        let chunk = chunk?;
        bytes += chunk.len();
        if bytes > MAX_PREAMBLE_BYTES && !file_begun.load(Ordering::Relaxed) {
            return Err(axum::Error::new(PreambleTooLong));
        }
        Ok(chunk)
    }))
}

#[derive(Debug, thiserror::Error)]
#[error("the form has more than {MAX_PREAMBLE_BYTES} bytes before its file")]
struct PreambleTooLong;

/// What a form has behind its file, where there is to be nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum AfterFile {
    #[error("the part {0:?} comes after the file; the file is the last part of the form")]
    Part(String),
    #[error("the form has more than {MAX_EPILOGUE_BYTES} bytes after its end")]
    TooLong,
}

async fn field_text(name: &str, field: &mut Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| broken_form(&error))? {
        if bytes.len() + chunk.len() > MAX_FIELD_BYTES {
            return Err(invalid_parameter(name, format!("{name} has more than {MAX_FIELD_BYTES} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| invalid_parameter(name, format!("{name} is not UTF-8")))
}

fn broken_form(error: &(dyn Error + 'static)) -> Problem {
    if super::slow_body_in(error).is_some() {
        return unreadable_body(error);
    }
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(too_long) = error.downcast_ref::<PreambleTooLong>() {
            return Problem::new(ErrorKind::TooLarge, "form_too_large", too_long.to_string());
        }
        source = error.source();
    }
    let detail = "the body is not a whole multipart/form-data form; `curl -F project=… -F file=@ELECTRICITY_PAYMENT.csv` sends one";
    Problem::new(ErrorKind::Invalid, "broken_form", detail)
}

/// Checks what an upload says about itself, before a byte of its file is read.
async fn read_request(
    state: &AppState,
    sender: &Sender,
    mut parameters: Parameters,
    declared: Declared,
) -> Result<UploadRequest, Problem> {
    let slugs = parameters.take_all("project");
    let dataset_name = parameters.take("dataset_name")?;
    let dataset_type = parameters.take("dataset_type")?.unwrap_or_else(|| definition::DATASET_TYPE.to_owned());
    let data_provider = parameters.take("data_provider")?.unwrap_or_else(|| DATA_PROVIDER.to_owned());
    let on_error = parameters.take_as::<OnError>("on_error")?.unwrap_or_default();
    let dry_run = parameters.take_as::<Flag>("dry_run")?.is_some_and(|flag| flag.0);
    let file_name = parameters.take("file_name")?;
    parameters.finish()?;

    let missing = |name: &str, what: &str| invalid_parameter(name, format!("{name} is missing: {what}"));
    if slugs.is_empty() {
        return Err(missing("project", "the slug of the project that the payments belong to"));
    }
    let (scope, projects) = find_projects(state, &sender.uploader, &slugs).await?;
    let dataset_name =
        dataset_name.ok_or_else(|| missing("dataset_name", "a name for this upload, such as 01_2024_Site Name"))?;
    check_dataset_name(&dataset_name)?;
    expect("dataset_type", &dataset_type, definition::DATASET_TYPE)?;
    expect("data_provider", &data_provider, DATA_PROVIDER)?;
    let file_name = declared.file_name(file_name)?;
    Ok(UploadRequest {
        projects,
        scope,
        dataset_name,
        dataset_type,
        data_provider,
        file_name,
        on_error,
        dry_run,
        key_prefix: sender.uploader.principal().key_prefix.clone(),
        idempotency_key: sender.idempotency_key.clone(),
    })
}

/// Projects that the caller may upload to, by slug, and its scope as far as these go.
async fn find_projects(
    state: &AppState,
    uploader: &Uploader,
    slugs: &[String],
) -> Result<(Scope, Vec<Project>), Problem> {
    let most = state.config.upload.max_projects;
    // What is no slug is no project either, and answers the same.
    let named = slugs.iter().map(|slug| slug.parse::<ProjectSlug>()).collect::<Result<BTreeSet<_>, _>>();
    let named: Vec<ProjectSlug> = named.map_err(|_| Problem::no_project())?.into_iter().collect();
    if named.len() < slugs.len() {
        return Err(invalid_parameter("project", "a project is named twice; once is right"));
    }
    if named.len() > most {
        let detail = format!("an upload is to at most {most} projects (upload.max_projects)");
        return Err(invalid_parameter("project", detail));
    }
    let scope = uploader.scope(&state.catalog, &named).await?;
    let mut projects = Vec::with_capacity(named.len());
    for slug in &named {
        let project = state.catalog.project(slug).await?.filter(|project| scope.owns(&project.slug));
        projects.push(project.ok_or_else(Problem::no_project)?);
    }
    note(|learned| learned.projects = named);
    // Who has one of them in hand sees the upload, and so all of it.
    if projects.iter().any(|project| project.organisation != projects[0].organisation) {
        return Err(invalid_parameter("project", "the projects of one upload are of one organisation"));
    }
    Ok((scope, projects))
}

fn check_dataset_name(name: &str) -> Result<(), Problem> {
    if name.trim().is_empty() || name.chars().count() > dataset_name::MAX_CHARACTERS {
        let detail =
            format!("dataset_name has 1 to {} characters, such as 01_2024_Site Name", dataset_name::MAX_CHARACTERS);
        return Err(invalid_parameter("dataset_name", detail));
    }
    if name.chars().any(char::is_control) {
        return Err(invalid_parameter("dataset_name", "dataset_name has a control character, such as a line break"));
    }
    Ok(())
}

fn expect(name: &str, value: &str, only: &str) -> Result<(), Problem> {
    if value == only {
        return Ok(());
    }
    Err(invalid_parameter(name, format!("{name} is {value:?}; {only} is what there is")).with("allowed", vec![only]))
}

async fn receive(
    state: &AppState,
    sender: &Sender,
    request: UploadRequest,
    body: impl Stream<Item = io::Result<Bytes>>,
) -> Result<Response, Problem> {
    let dry_run = request.dry_run;
    note(|learned| learned.parameters = Some(json!({ "dataset_name": request.dataset_name, "dry_run": dry_run })));
    let rights = Rights::of(&state.catalog, sender.uploader.principal());
    match state.ingest.upload(request, rights.body(body)).await? {
        Outcome::Replayed(first) => Ok(idempotency::replayed(answer(*first, dry_run))),
        outcome => answer(outcome, dry_run),
    }
}
