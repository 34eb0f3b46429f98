//! Asking a PostgreSQL server: its catalog, and some values of each table.
//!
//! # Security
//! Every transaction is read-only and has a limit of time and of patience for locks. No user's code runs: values are
//! cast only where the type is the server's own, views and foreign tables are not read, and neither is a table whose rows
//! a policy would choose (`row_security = off` makes that an error).
//! What a server says in an error may have a value in it, so only its code is used.

use std::{collections::BTreeMap, fmt::Write as _, io, net::SocketAddr, pin::Pin, pin::pin, task, time::Duration};

use futures_util::TryStreamExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_postgres::{
    Client, Config, SimpleQueryMessage, SimpleQueryRow,
    config::SslMode,
    error::SqlState,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};

use super::{
    Tally,
    catalog::{Catalog, Column, Holds, Id, Looked, Relation, What},
    proposal::UNREADABLE,
};
use crate::{
    credentials::Secret,
    net::tls::{HandshakeError, Settings, Tls, Upstream},
    policy::{Endpoint, Resource},
    visible::visible,
};

/// Who asks.
#[derive(Debug)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The database.
    pub database: String,
    /// The password, where there is one.
    pub password: Option<Secret>,
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The resource's own settings.
    #[error("the resource's `tls` section is wrong: {0}")]
    Settings(String),
    /// Nobody answers.
    #[error("no server answers: {}; is it up, and may this machine reach it?", .0.join(", "))]
    Unreachable(Vec<String>),
    /// TLS.
    #[error("{0}")]
    Tls(HandshakeError),
    /// TLS is wanted, and there is none.
    #[error("{0} has no TLS, and the resource's `tls: {{ upstream: … }}` wants it; nothing was sent")]
    NoTls(SocketAddr),
    /// The server wants a password.
    #[error("the server asks for a password; give it on standard input: holdpoint resources discover … < FILE")]
    NoPassword,
    /// The server does not let the user in.
    #[error(
        "the server does not let {user:?} in: {why}; check --user, the password on standard input, and pg_hba.conf"
    )]
    NotLetIn {
        /// Who.
        user: String,
        /// Its own words.
        why: String,
    },
    /// The server does not let anybody in there.
    #[error("the server refuses the connection: {0}; check --database, and try again when it takes connections")]
    Refused(String),
    /// It speaks something else, or not in time.
    #[error("cannot log in at {0}: {1}; is it PostgreSQL?")]
    Strange(SocketAddr, String),
    /// The catalog cannot be read.
    #[error("the catalog cannot be read: {0}; try again, or look at one schema at a time, with --schema")]
    Catalog(String),
    /// The connection went away.
    #[error("the connection ended while {0} was looked at; nothing is proposed: try again")]
    Lost(String),
}

/// A server that can be asked.
pub struct Server(Client);

/// Reading a foreign table asks another server, or runs a program.
const ELSEWHERE: &str = "foreign, all or in part";
/// One address's patience, and the login's.
const CONNECT: Duration = Duration::from_secs(10);
/// For one table's values; its statements end long before.
const LOOK: Duration = Duration::from_secs(60);
/// What holds for every transaction. `search_path` so that a name is the server's own.
const BEGIN: &str = "BEGIN READ ONLY; SET LOCAL lock_timeout = '1s'; SET LOCAL row_security = off; \
     SET LOCAL search_path = pg_catalog, pg_temp; ";
/// The longest part of a value that is looked at, in characters; of a document, all that fits.
const LONGEST: (u32, u32) = (2048, 16384);
/// Columns of one statement: a row of very many large values would be large.
const COLUMNS: usize = 50;

impl Server {
    /// Connects as the gateway would: to the resource's first address that answers, with its TLS settings.
    ///
    /// # Errors
    /// Nobody answers, or does not let the user in.
    pub async fn connect(resource: &Resource, login: &Login) -> Result<Self, AskError> {
        let settings = Settings::read(resource.extra.get("tls")).map_err(AskError::Settings)?;
        let (stream, address, host) = reach(&resource.endpoints).await?;
        let mut config = Config::new();
        config.user(&login.user).dbname(&login.database).application_name("holdpoint resources discover");
        config.ssl_mode(match settings.upstream() {
            Upstream::Disable => SslMode::Disable,
            Upstream::Prefer => SslMode::Prefer,
            Upstream::Require | Upstream::VerifyCa | Upstream::VerifyFull => SslMode::Require,
        });
        if let Some(password) = &login.password {
            config.password(password.expose());
        }
        let needs_tls = settings.upstream() >= Upstream::Require;
        let shake = Shake { settings, host };
        let done = timeout(CONNECT, config.connect_raw(stream, shake)).await;
        let done = done.map_err(|_| AskError::Strange(address, "it does not answer in time".into()))?;
        let (client, connection) = done.map_err(|error| refused(error, address, login, needs_tls))?;
        tokio::spawn(connection);
        Ok(Self(client))
    }

    /// The catalog, of these schemas or of all but the server's own.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn catalog(&self, schemas: &[String]) -> Result<Catalog, AskError> {
        let failed = |error: tokio_postgres::Error| AskError::Catalog(code_of(&error));
        let chosen = match schemas {
            [] => "n.nspname <> ALL ('{pg_catalog,information_schema,pg_toast}')".to_owned(),
            some => format!("n.nspname IN ({})", some.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ")),
        };
        let mut catalog = Catalog::default();
        let query =
            format!("{BEGIN}SET LOCAL statement_timeout = '60s'; {RELATIONS}{chosen}{IN_ORDER}; {READS}; COMMIT");
        let stream = self.0.simple_query_raw(&query).await.map_err(failed)?;
        let mut stream = pin!(stream);
        while let Some(message) = stream.try_next().await.map_err(failed)? {
            if let SimpleQueryMessage::Row(row) = message {
                match row.len() {
                    3 => catalog.reads.extend(read_of(&row)),
                    _ => add_column(&mut catalog, &row),
                }
            }
        }
        Ok(catalog)
    }

    /// Looks at some values of a relation, up to `rows` of each column.
    ///
    /// # Errors
    /// The connection has ended; any other failure is told of the relation.
    pub async fn look(&self, catalog: &Catalog, relation: &Relation, rows: u32) -> Result<Looked, AskError> {
        match relation.what {
            What::View => return Ok(Looked::At(BTreeMap::new())),
            What::Foreign => return Ok(Looked::Not(ELSEWHERE.into())),
            What::Partitioned if catalog.has_foreign_part(relation.id) => return Ok(Looked::Not(ELSEWHERE.into())),
            What::Table | What::Partitioned | What::Kept => {}
        }
        let columns: Vec<&Column> = relation.worth_sampling().collect();
        if columns.is_empty() && relation.columns.iter().any(|column| column.holds.tells()) {
            return Ok(Looked::Not(UNREADABLE.into()));
        }
        let mut tallies = BTreeMap::new();
        for some in columns.chunks(COLUMNS) {
            let looked = timeout(LOOK, self.sample(relation, some, rows, &mut tallies)).await;
            match looked {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.code().is_some() => {
                    // The transaction is over, whatever comes of this.
                    let _ended = self.0.batch_execute("ROLLBACK").await;
                    return Ok(Looked::Not(code_of(&error)));
                }
                Ok(Err(_)) | Err(_) => {
                    return Err(AskError::Lost(visible(format!("{}.{}", relation.schema, relation.name).as_bytes())));
                }
            }
        }
        Ok(Looked::At(tallies))
    }

    async fn sample(
        &self,
        relation: &Relation,
        columns: &[&Column],
        rows: u32,
        tallies: &mut BTreeMap<i16, Tally>,
    ) -> Result<(), tokio_postgres::Error> {
        let sampled = percent(relation, rows);
        if self.tally(&statement(relation, columns, rows, sampled), columns, tallies).await? == 0 && sampled.is_some() {
            // The estimate was wrong, or chance was.
            self.tally(&statement(relation, columns, rows, None), columns, tallies).await?;
        }
        Ok(())
    }

    async fn tally(
        &self,
        query: &str,
        columns: &[&Column],
        tallies: &mut BTreeMap<i16, Tally>,
    ) -> Result<u32, tokio_postgres::Error> {
        let stream = self.0.simple_query_raw(query).await?;
        let mut stream = pin!(stream);
        let mut rows = 0;
        while let Some(message) = stream.try_next().await? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            rows += 1;
            for (at, column) in columns.iter().enumerate() {
                if let Ok(Some(value)) = row.try_get(at) {
                    tallies.entry(column.number).or_default().add(value);
                }
            }
        }
        Ok(rows)
    }
}

/// Of a large table, about four times as much as is wanted from all over it.
fn percent(relation: &Relation, rows: u32) -> Option<f64> {
    let large = relation.rows > f64::from(rows) * 20.0 && relation.what != What::Partitioned;
    large.then(|| (f64::from(rows) * 400.0 / relation.rows).clamp(0.000_001, 100.0))
}

/// Reads `rows` rows of `columns`, each value in part.
fn statement(relation: &Relation, columns: &[&Column], rows: u32, percent: Option<f64>) -> String {
    let mut text = format!("{BEGIN}SET LOCAL statement_timeout = '5s'; SELECT ");
    for (at, column) in columns.iter().enumerate() {
        let name = identifier(&column.name);
        let comma = if at > 0 { ", " } else { "" };
        let longest = if column.holds == Holds::Json { LONGEST.1 } else { LONGEST.0 };
        // A cast of a type of somebody's own may be somebody's own function; its output function is the administrator's.
        let written = match column.plain {
            true => write!(text, "{comma}left({name}::text, {longest})"),
            false => write!(text, "{comma}CASE WHEN pg_column_size({name}) <= {longest} THEN {name} END"),
        };
        written.expect("a string takes every text");
    }
    // A parent's other children are relations of their own.
    let only = if relation.what == What::Partitioned { "" } else { "ONLY " };
    let (schema, name) = (identifier(&relation.schema), identifier(&relation.name));
    write!(text, " FROM {only}{schema}.{name}").expect("a string takes every text");
    if let Some(percent) = percent {
        write!(text, " TABLESAMPLE SYSTEM ({percent:.6})").expect("a string takes every text");
    }
    write!(text, " LIMIT {rows}; COMMIT").expect("a string takes every text");
    text
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Right whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A relation with each of its columns, of whatever type a domain is over. Arrays count as what they are of.
const RELATIONS: &str = "\
WITH RECURSIVE under (domain, type) AS (
  SELECT t.oid, t.typbasetype FROM pg_type t WHERE t.typtype = 'd'
  UNION ALL SELECT u.domain, t.typbasetype FROM under u JOIN pg_type t ON t.oid = u.type WHERE t.typtype = 'd'),
base (of, type) AS (
  SELECT t.oid, t.oid FROM pg_type t WHERE t.typtype <> 'd'
  UNION ALL SELECT u.domain, t.oid FROM under u JOIN pg_type t ON t.oid = u.type WHERE t.typtype <> 'd')
SELECT c.oid, n.nspname, c.relname, c.relkind,
  CASE WHEN c.relispartition THEN (SELECT min(i.inhparent::int8) FROM pg_inherits i WHERE i.inhrelid = c.oid) END,
  c.reltuples, obj_description(c.oid, 'pg_class'), a.attnum, a.attname, col_description(c.oid, a.attnum),
  b.typcategory = 'A', coalesce(e.typname, b.typname), coalesce(e.typcategory, b.typcategory),
  tn.nspname = 'pg_catalog',
  has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN base x ON x.of = a.atttypid
JOIN pg_type b ON b.oid = x.type
JOIN pg_namespace tn ON tn.oid = b.typnamespace
LEFT JOIN pg_type e ON e.oid = b.typelem AND b.typcategory = 'A'
WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f') AND c.relpersistence <> 't' AND ";

const IN_ORDER: &str = " ORDER BY n.nspname, c.relname, c.oid, a.attnum";

/// Which columns the rules of views need.
const READS: &str = "\
SELECT DISTINCT w.ev_class, d.refobjid, d.refobjsubid
FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class c ON c.oid = w.ev_class AND c.relkind IN ('v', 'm')
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.refobjid <> w.ev_class";

fn read_of(row: &SimpleQueryRow) -> Option<(Id, Id, i16)> {
    Some((number(row, 0)?, number(row, 1)?, number(row, 2)?))
}

fn number<N: std::str::FromStr>(row: &SimpleQueryRow, at: usize) -> Option<N> {
    text(row, at).parse().ok()
}

fn text(row: &SimpleQueryRow, at: usize) -> &str {
    row.try_get(at).ok().flatten().unwrap_or_default()
}

/// Rows come in the order of their relations.
fn add_column(catalog: &mut Catalog, row: &SimpleQueryRow) {
    let (Some(id), Some(attribute)) = (number(row, 0), number(row, 7)) else { return };
    if catalog.relations.last().is_none_or(|last| last.id != id) {
        catalog.relations.push(Relation {
            id,
            schema: text(row, 1).to_owned(),
            name: text(row, 2).to_owned(),
            what: match text(row, 3) {
                "p" => What::Partitioned,
                "m" => What::Kept,
                "v" => What::View,
                "f" => What::Foreign,
                _ => What::Table,
            },
            parent: number(row, 4),
            rows: number(row, 5).unwrap_or(0.0),
            comment: text(row, 6).to_owned(),
            columns: Vec::new(),
        });
    }
    let truth = |at| text(row, at) == "t";
    let column = Column {
        number: attribute,
        name: text(row, 8).to_owned(),
        comment: text(row, 9).to_owned(),
        holds: holds(truth(10), text(row, 11), text(row, 12)),
        plain: truth(13),
        readable: truth(14),
    };
    catalog.relations.last_mut().expect("one was pushed above").columns.push(column);
}

fn holds(list: bool, name: &str, category: &str) -> Holds {
    match (list, name, category) {
        (_, "xml", _) | (_, _, "S") | (true, "json" | "jsonb", _) => Holds::Text,
        (true, ..) => Holds::Other,
        (_, "json" | "jsonb" | "hstore", _) => Holds::Json,
        (_, "int2" | "int4" | "int8" | "numeric", _) => Holds::Number,
        (_, "date" | "timestamp" | "timestamptz", _) => Holds::Date,
        (_, "inet" | "cidr", _) => Holds::Network,
        (_, "bytea" | "uuid", _) => Holds::Bytes,
        _ => Holds::Other,
    }
}

/// The first address at which anybody answers, and what its host is called.
async fn reach(endpoints: &[Endpoint]) -> Result<(TcpStream, SocketAddr, String), AskError> {
    let mut tried = Vec::new();
    for endpoint in endpoints {
        let addresses: Vec<SocketAddr> = if endpoint.addresses.is_empty() {
            match tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await {
                Ok(found) => found.collect(),
                Err(error) => {
                    tried.push(format!("{endpoint}: {error}"));
                    continue;
                }
            }
        } else {
            endpoint.addresses.iter().map(|ip| SocketAddr::new(*ip, endpoint.port)).collect()
        };
        for address in addresses {
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok((stream, address, endpoint.host.clone())),
                Ok(Err(error)) => tried.push(format!("{address}: {error}")),
                Err(_) => tried.push(format!("{address}: no answer within {} seconds", CONNECT.as_secs())),
            }
        }
    }
    Err(AskError::Unreachable(tried))
}

fn refused(error: tokio_postgres::Error, address: SocketAddr, login: &Login, needs_tls: bool) -> AskError {
    if let Some(said) = error.as_db_error() {
        let why = visible(said.message().as_bytes());
        return match said.code() {
            code if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                AskError::NotLetIn { user: login.user.clone(), why }
            }
            _ => AskError::Refused(why),
        };
    }
    let why = error.to_string();
    let cause = error.into_source();
    match cause.map(|cause| cause.downcast::<HandshakeError>()) {
        Some(Ok(handshake)) => AskError::Tls(*handshake),
        Some(Err(cause)) if cause.to_string().contains("password missing") => AskError::NoPassword,
        Some(Err(cause)) if needs_tls && cause.to_string().contains("does not support TLS") => AskError::NoTls(address),
        Some(Err(cause)) => AskError::Strange(address, format!("{why}: {}", visible(cause.to_string().as_bytes()))),
        None => AskError::Strange(address, why),
    }
}

/// Why a table was not looked at, in our words: the server's may have a value in them.
fn code_of(error: &tokio_postgres::Error) -> String {
    match error.code() {
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => "no permission, or a policy chooses rows".into(),
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => "locked by somebody else".into(),
        Some(code) if *code == SqlState::QUERY_CANCELED => "it took too long".into(),
        Some(code) if *code == SqlState::UNDEFINED_TABLE => "dropped in this moment".into(),
        Some(code) => format!("SQLSTATE {}", code.code()),
        None => "the connection broke".into(),
    }
}

/// Shakes hands as the resource says.
struct Shake {
    settings: Settings,
    host: String,
}

impl TlsConnect<TcpStream> for Shake {
    type Stream = Private;
    type Error = HandshakeError;
    type Future = Pin<Box<dyn Future<Output = Result<Private, HandshakeError>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move {
            let tls = Tls::new(None);
            let (stream, secured) = tls.connect_stream(stream, &self.settings, b"postgresql", &self.host).await?;
            Ok(Private { stream: Box::new(stream), end_point: secured.end_point })
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream behind TLS, with what binds a login to it.
struct Private {
    stream: Box<dyn Stream>,
    end_point: Option<Vec<u8>>,
}

impl TlsStream for Private {
    fn channel_binding(&self) -> ChannelBinding {
        self.end_point.clone().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for Private {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Private {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, bytes: &[u8]) -> task::Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
