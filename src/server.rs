//! The server: accepts connections, bounds them in number, size and time, and drains at a stop.
//!
//! The loop is our own on hyper, because `axum::serve` sets no limit on the time that headers may take, nor on
//! connections.

use std::{
    fs::{self, File, TryLockError},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::Request};
use chrono::Utc;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{Signal, SignalKind, signal},
    sync::Semaphore,
    task::JoinSet,
};
use tower::ServiceExt;

use crate::{
    audit::Recorder,
    catalog::{AuditActor, AuditEntry, AuditOutcome, Catalog, CatalogError, CatalogLimits},
    config::{Config, HttpConfig},
    durable,
    error::ErrorKind,
    http::{Allowance, AppState, Peer, Refusals, SendTimeout, Watch, WatchedStream, router},
    ingest::{Ingest, IngestError},
    lake::{self, Lake, LakeError},
    query::{Engine, Metrics, ParameterLimits, QueryError},
    sql::SqlEngine,
    telemetry::Counters,
    verification::{Verification, VerificationError},
};

/// How long to wait after a failed accept, which says that the process is short of something, such as file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked for results of SQL that were kept for long enough.
const FORGET_EVERY: Duration = Duration::from_secs(30);
/// How often old files are looked for.
const REMOVE_EVERY: Duration = Duration::from_mins(10);

/// How long a request waits for the audit log.
const AUDIT_PATIENCE: Duration = Duration::from_secs(10);

/// The least buffer that hyper takes.
const MIN_BUFFER: usize = 8192;

/// A server whose data folder is open and whose address is taken.
pub struct Server {
    /// `http://host:port`, with the port that was taken.
    pub address: String,
    pub state: AppState,
    listener: TcpListener,
    /// Held as long as the server lives; the system gives it up when the process ends, however it ends.
    _lock: File,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot open the data folder {}", .folder.display())]
    Catalog {
        folder: PathBuf,
        #[source]
        source: CatalogError,
    },
    #[error("cannot open the lake in {}", .folder.display())]
    Lake {
        folder: PathBuf,
        #[source]
        source: LakeError,
    },
    #[error("another server runs on {}; stop it, or take another folder with --data-dir", .0.display())]
    FolderInUse(PathBuf),
    #[error("cannot write to the folder {}", .folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("cannot settle the uploads in {}", .folder.display())]
    Uploads {
        folder: PathBuf,
        #[source]
        source: IngestError,
    },
    #[error("cannot settle the verifications in {}", .folder.display())]
    Verification {
        folder: PathBuf,
        #[source]
        source: Box<VerificationError>,
    },
    #[error("cannot prepare the metrics")]
    Queries(#[source] QueryError),
    #[error("cannot listen on {address}; --listen takes another address")]
    Address {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen for SIGTERM and SIGINT")]
    Signal(#[source] io::Error),
}

impl ServerError {
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Catalog { source, .. } => source.kind(),
            Self::Queries(source) => source.kind(),
            Self::Lake { source, .. } => source.kind(),
            Self::Uploads { source, .. } => source.kind(),
            Self::Verification { source, .. } => source.kind(),
            Self::FolderInUse(_) => ErrorKind::Conflict,
            Self::Folder { source, .. } => lake::io_kind(source),
            Self::Address { .. } | Self::Signal(_) => ErrorKind::Unavailable,
        }
    }
}

impl Server {
    /// Takes the address and opens the data folder. Who connects before it serves waits.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        // First, because it fails at once where another server runs already, before anything is made or repaired.
        let taken = async {
            let listener = TcpListener::bind(&config.listen).await?;
            listener.local_addr().map(|local| (listener, format!("http://{local}")))
        };
        let (listener, address) =
            taken.await.map_err(|source| ServerError::Address { address: config.listen.clone(), source })?;
        let lock = lock_folder(&config.data_dir)?;
        let opened = Catalog::open(&config.data_dir).await;
        let catalog = opened.map_err(|source| ServerError::Catalog { folder: config.data_dir.clone(), source })?;
        let catalog = catalog.within(catalog_limits(&config));
        let failed = |source| ServerError::Lake { folder: config.data_dir.clone(), source };
        let lake = Arc::new(Lake::open(catalog.clone(), &config.data_dir).await.map_err(failed)?);
        let ingest = Ingest::open(catalog.clone(), lake.clone(), &config.data_dir, config.upload.clone()).await;
        let failed = |source| ServerError::Uploads { folder: config.data_dir.clone(), source };
        let counters = Arc::new(Counters::default());
        let ingest = Arc::new(ingest.map_err(failed)?.counted_in(counters.clone()));
        let engine = Arc::new(Engine::new(lake.root(), config.query.clone()).map_err(ServerError::Queries)?);
        let rows = ParameterLimits { max_rows: config.query.max_rows, ..ParameterLimits::default() };
        let metrics = Arc::new(Metrics::load(&rows).await.map_err(ServerError::Queries)?);
        let sql = Arc::new(SqlEngine::new(lake.root(), &config.data_dir, config.sql.clone()));
        let verification = Verification::open(
            catalog.clone(),
            lake.clone(),
            ingest.clone(),
            &config.data_dir,
            config.verification.clone(),
        );
        let failed = |source| ServerError::Verification { folder: config.data_dir.clone(), source: Box::new(source) };
        let verification = Arc::new(verification.await.map_err(failed)?);
        let audit = Recorder::start(catalog.clone(), &config.audit, AUDIT_PATIENCE);
        let allowance = Arc::new(Allowance::new(&config.http));
        let refusals = Arc::new(Refusals::new(config.audit.refusal_every));
        let config = Arc::new(config);
        Ok(Self {
            address,
            state: AppState {
                catalog,
                config,
                lake,
                ingest,
                metrics,
                engine,
                sql,
                verification,
                counters,
                audit,
                allowance,
                refusals,
            },
            listener,
            _lock: lock,
        })
    }

    /// Serves until `stop` resolves, and drains.
    pub async fn run_until(self, stop: impl Future<Output = ()>) {
        let AppState { config, catalog, ingest, verification, counters, audit, .. } = self.state.clone();
        self.state.sql.start_ahead();
        let upkeep = tokio::spawn(upkeep(self.state.clone()));
        serve(self.listener, router(self.state), &config.http, &counters, stop).await;
        upkeep.abort();
        let drained = async { tokio::join!(ingest.drain(), verification.drain()) };
        if tokio::time::timeout(config.http.drain_timeout, drained).await.is_err() {
            tracing::warn!("some uploads or verifications did not end in time; the next start settles them");
        }
        if let Err(error) = audit.flush().await {
            tracing::error!(%error, "the last entries of the audit log are lost");
        }
        catalog.close().await;
    }
}

/// What a catalogue takes in at most by these settings.
#[must_use]
pub fn catalog_limits(config: &Config) -> CatalogLimits {
    CatalogLimits {
        overlap: config.keys.max_overlap,
        shares_of_project: config.shares.per_project,
        shares: config.shares.per_server,
        note: config.shares.max_note_chars,
        connections_of_project: config.connections.per_project,
        programmes_of_organisation: config.programmes.per_organisation,
        invited: config.programmes.max_invited,
        enrolled: config.programmes.max_projects,
    }
}

/// What is done beside answering: damaged projects are repaired as they are found, and what is old goes.
async fn upkeep(state: AppState) {
    let remove = async {
        loop {
            match state.lake.remove_old_files(state.config.lake.retention).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "old files of the lake are removed"),
                Err(error) => tracing::warn!(%error, "old files of the lake could not be removed"),
            }
            match cut_audit(&state).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "old entries of the audit log are removed"),
                Err(error) => tracing::warn!(%error, "old entries of the audit log could not be removed"),
            }
            tokio::time::sleep(REMOVE_EVERY).await;
        }
    };
    let recheck = state.verification.recheck_for_ever();
    let forget = async {
        loop {
            tokio::time::sleep(FORGET_EVERY).await;
            state.sql.queries().forget_expired();
        }
    };
    tokio::join!(state.ingest.repair_for_ever(), remove, forget, recheck);
}

/// Removes the entries of the audit log of days that are older than they are kept, and says so in the log itself.
async fn cut_audit(state: &AppState) -> Result<u64, CatalogError> {
    let oldest = Utc::now() - state.config.audit.retention;
    let day = oldest.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    let removed = state.catalog.cut_audit(day).await?;
    if removed > 0 {
        let entry = AuditEntry {
            parameters: Some(json!({ "before": day, "entries": removed })),
            ..AuditEntry::new(AuditActor::Server, "audit.cut", AuditOutcome::Done)
        };
        state.catalog.append_audit(&[entry]).await?;
    }
    Ok(removed)
}

/// Makes the data folder this server's alone: a second server would settle and remove uploads that the first is at.
pub fn lock_folder(folder: &Path) -> Result<File, ServerError> {
    let failed = |source| ServerError::Folder { folder: folder.to_owned(), source };
    durable::create_dir_all(folder).map_err(failed)?;
    let lock = File::options().create(true).append(true).open(folder.join("server.lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ServerError::FolderInUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Serves until `stop` resolves; then accepts no more, lets requests under way end within the drain timeout, and cuts
/// off those that do not.
async fn serve(
    listener: TcpListener,
    router: Router,
    config: &HttpConfig,
    counters: &Counters,
    stop: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    // hyper starts the header timer when it waits for a request, so an idle connection ends after the same time.
    http.timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_header_size(config.max_header_bytes)
        .max_buf_size(config.max_header_bytes.max(MIN_BUFFER))
        .keep_alive(true);
    let permits = Arc::new(Semaphore::new(room_for_connections(config.max_connections, open_files_limit())));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        // Takes the ended ones out of the set, which would else grow for ever.
        while connections.try_join_next().is_some() {}
        let Some((stream, peer, permit)) = accepted else { continue };
        let (router, watch) = (router.clone(), Watch::default());
        let stream = WatchedStream::new(stream, watch.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            watch.next_request();
            request.extensions_mut().insert(Peer(peer));
            request.extensions_mut().insert(watch.clone());
            router.clone().oneshot(request)
        });
        let stream = TokioIo::new(SendTimeout::new(stream, config.send_idle_timeout));
        let connection = graceful.watch(http.serve_connection(stream, service));
        let open = counters.connection();
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop((permit, open));
        });
    }
    drop(listener);
    tracing::info!(open = graceful.count(), "draining");
    if tokio::time::timeout(config.drain_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!(cut_off = connections.len(), "some requests did not end in time");
    }
    connections.shutdown().await;
}

/// How many connections to hold: as many as are configured, and at most half of the files that the process may open, because
/// uploads and queries open files too.
fn room_for_connections(configured: usize, open_files: Option<usize>) -> usize {
    let Some(room) = open_files.map(|files| (files / 2).max(1)).filter(|room| *room < configured) else {
        return configured;
    };
    tracing::warn!(
        room,
        "http.max_connections is {configured}, but connections take at most half of the files that this process may open; \
         raise that limit (ulimit -n) to have them all"
    );
    room
}

/// The limit of the system on the files that this process may open, where the system tells it so.
fn open_files_limit() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    // "unlimited" is no number.
    soft.split_whitespace().next()?.parse().ok()
}

/// Waits for a place, then for a connection to put there. `None` is a failure that a later try may not have.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // An answer's last piece is not to wait for the acknowledgement of the one before.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "could not set nodelay");
            }
            // Of an IPv4 peer of an IPv6 socket, the address that it knows itself by.
            Some((stream, peer.ip().to_canonical(), permit))
        }
        Err(error) => {
            tracing::warn!(%error, "could not accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// SIGTERM and SIGINT. From the moment that this is there, they no longer end the process by themselves; so it is there
/// before the address is told to anybody, who might send one at once.
pub struct StopSignals {
    term: Signal,
    int: Signal,
}

impl StopSignals {
    pub fn listen() -> Result<Self, ServerError> {
        let listen = |kind| signal(kind).map_err(ServerError::Signal);
        Ok(Self { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }

    /// Resolves at the first of them.
    pub async fn received(mut self) {
        tokio::select! {
            _ = self.term.recv() => tracing::info!("stopping at SIGTERM"),
            _ = self.int.recv() => tracing::info!("stopping at SIGINT"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_that_is_told_no_limits_has_the_default_ones_of_the_settings() {
        let config = crate::config::Sources::default().load().unwrap().config;
        assert_eq!(catalog_limits(&config), CatalogLimits::default());
    }

    #[test]
    fn connections_take_at_most_half_of_the_open_files() {
        assert_eq!(room_for_connections(1024, Some(1024)), 512);
        assert_eq!(room_for_connections(1024, Some(2048)), 1024);
        assert_eq!(room_for_connections(1024, None), 1024);
        assert_eq!(room_for_connections(5, Some(1)), 1);
    }
}
