//! How to reach the database: the spellings of its URI that people use.

use std::{fmt, time::Duration};

use percent_encoding::percent_decode_str;
use tokio_postgres::{
    Client, Config, Connection, Socket,
    config::{Host, SslMode},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls::{self, RootsError, Trust};

/// The most connections unless somebody says otherwise.
const CONNECTIONS: usize = 10;
/// Longer than this nobody waits for a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// A server that confirms nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// What is passed on as it is.
const KNOWN: [&str; 17] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "user",
];

/// How to reach a PostgreSQL database.
#[derive(Clone)]
pub struct PostgresConfig {
    driver: Config,
    tls: MakeRustlsConnect,
    max_connections: usize,
}

/// A connection of its own, for whoever keeps something in its session; the second part does the talking and has to be
/// driven.
pub type Dedicated = (Client, Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>);

/// Why a URI can't be used. Says nothing of its password.
#[derive(Debug, thiserror::Error)]
pub enum UriError {
    /// It is for something else.
    #[error("a database URI begins with `postgresql://` or `postgres://`, and this one does not")]
    Scheme,
    /// It says something that would be ignored.
    #[error("the parameter `{0}` of the database URI is not known; remove it")]
    Parameter(String),
    /// A parameter has a value that means nothing.
    #[error("the parameter `{name}` of the database URI must be one of {choices}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What it may be.
        choices: &'static str,
    },
    /// It does not say where the database is.
    #[error("the database URI names no host; for a Unix socket write `?host=/its/folder`")]
    NoHost,
    /// It is spelled wrong.
    #[error("the database URI can't be read: {0}; special characters of a password are written as `%XX`")]
    Malformed(String),
    /// What servers' certificates are checked against can't be read.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

impl PostgresConfig {
    /// Reads a URI.
    pub fn parse(uri: &str) -> Result<Self, UriError> {
        let (place, query) = split(uri)?;
        let mut security = Security::default();
        let mut kept = Vec::new();
        for (parameter, (name, value)) in query.split('&').filter(|it| !it.is_empty()).map(|it| (it, pair(it))) {
            let value = percent_decode_str(value).decode_utf8_lossy();
            match name {
                "sslmode" | "ssl" => security.mode = Mode::parse(&value)?,
                "sslrootcert" => security.roots = Some(value.into_owned()),
                name if KNOWN.contains(&name) => kept.push(parameter),
                unknown => return Err(UriError::Parameter(unknown.to_owned())),
            }
        }
        let malformed = |error: tokio_postgres::Error| UriError::Malformed(cause(&error));
        let uri = format!("postgresql://{place}?{}", kept.join("&"));
        let mut driver: Config = uri.parse().map_err(malformed)?;
        if driver.get_hosts().is_empty() && driver.get_hostaddrs().is_empty() {
            return Err(UriError::NoHost);
        }
        let (mode, trust) = security.decide();
        driver.ssl_mode(mode).tcp_user_timeout(SILENCE);
        if driver.get_connect_timeout().is_none() {
            driver.connect_timeout(PATIENCE);
        }
        if driver.get_application_name().is_none() {
            driver.application_name("threadyard");
        }
        Ok(Self { driver, tls: tls::connector(&trust)?, max_connections: CONNECTIONS })
    }

    /// With another limit on the connections that are kept.
    #[must_use]
    pub fn with_max_connections(self, max_connections: usize) -> Self {
        Self { max_connections, ..self }
    }

    /// Where the database is, without who goes there.
    pub fn place(&self) -> String {
        let ports = self.driver.get_ports();
        let port = |nth: usize| ports.get(nth).or(ports.first()).copied().unwrap_or(5432);
        let hosts = self.driver.get_hosts().iter().enumerate().map(|(nth, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(nth)),
            Host::Unix(folder) => folder.display().to_string(),
        });
        let name = self.driver.get_dbname().or(self.driver.get_user()).unwrap_or_default();
        format!("postgresql://{}/{name}", hosts.collect::<Vec<_>>().join(","))
    }

    /// The name that the database knows the connections of servers by.
    pub(super) fn application(&self) -> &str {
        self.driver.get_application_name().unwrap_or_default()
    }

    /// With another name that the database knows its connections by.
    pub(super) fn named(&self, application: &str) -> Self {
        let mut named = self.clone();
        named.driver.application_name(application);
        named
    }

    /// Opens a connection that belongs to no pool.
    pub async fn connect(&self) -> Result<Dedicated, tokio_postgres::Error> {
        self.driver.connect(self.tls.clone()).await
    }

    pub(super) fn driver(&self) -> &Config {
        &self.driver
    }

    pub(super) fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }

    pub(super) fn max_connections(&self) -> usize {
        self.max_connections
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig").field("hosts", &self.driver.get_hosts()).finish_non_exhaustive()
    }
}

/// What comes behind the scheme, and the parameters.
fn split(uri: &str) -> Result<(&str, &str), UriError> {
    let (scheme, rest) = uri.trim().split_once("://").ok_or(UriError::Scheme)?;
    // SQLAlchemy's way of naming a driver, such as `postgresql+asyncpg`.
    let (scheme, _) = scheme.split_once('+').unwrap_or((scheme, ""));
    match scheme {
        "postgres" | "postgresql" => Ok(rest.split_once('?').unwrap_or((rest, ""))),
        _ => Err(UriError::Scheme),
    }
}

fn pair(parameter: &str) -> (&str, &str) {
    parameter.split_once('=').unwrap_or((parameter, ""))
}

fn cause(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// How much a connection is to be trusted, in the words of libpq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    Disable,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    fn parse(text: &str) -> Result<Self, UriError> {
        Ok(match text {
            "disable" => Self::Disable,
            // The driver can't try without encryption first; with it first is better.
            "allow" | "prefer" => Self::Prefer,
            "require" | "true" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                let choices = "disable, allow, prefer, require, verify-ca and verify-full";
                return Err(UriError::Value { name: "sslmode", choices });
            }
        })
    }
}

#[derive(Default)]
struct Security {
    mode: Mode,
    roots: Option<String>,
}

impl Security {
    /// `require` asks for encryption and not for a certificate that means anything, unless roots are given: so it is with
    /// libpq, and servers with certificates of their own making rely on it.
    fn decide(self) -> (SslMode, Trust) {
        match (self.mode, self.roots) {
            (Mode::Disable, _) => (SslMode::Disable, Trust::Anybody),
            (Mode::Prefer, _) => (SslMode::Prefer, Trust::Anybody),
            (Mode::Require, None) => (SslMode::Require, Trust::Anybody),
            (Mode::Require | Mode::VerifyCa, roots) => (SslMode::Require, Trust::Signed(roots)),
            (Mode::VerifyFull, roots) => (SslMode::Require, Trust::SignedFor(roots)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_spellings_are_read() {
        for (uri, host, port, user, password, database) in [
            ("postgres://u:p@h/d", "h", 5432, "u", "p", "d"),
            ("postgresql://u:p@h:6432/d?sslmode=disable", "h", 6432, "u", "p", "d"),
            ("postgresql+asyncpg://u:p@h/d?ssl=require", "h", 5432, "u", "p", "d"),
            ("postgresql+psycopg://u:a%40b%2F%3F%20c@h/d", "h", 5432, "u", "a@b/? c", "d"),
            ("postgres://u:p@h/d?sslmode=allow&application_name=x&channel_binding=prefer", "h", 5432, "u", "p", "d"),
            ("postgres://u:p@%2Fvar%2Frun/d", "/var/run", 5432, "u", "p", "d"),
            ("postgres:///d?host=/var/run&user=u&password=p", "/var/run", 5432, "u", "p", "d"),
            ("postgres://u:p@[::1]:7/d", "::1", 7, "u", "p", "d"),
        ] {
            let config = PostgresConfig::parse(uri).unwrap();
            let found = match &config.driver.get_hosts()[0] {
                Host::Tcp(host) => host.clone(),
                Host::Unix(folder) => folder.display().to_string(),
            };
            assert_eq!(found, host, "{uri}");
            assert_eq!(config.driver.get_ports().first().copied().unwrap_or(5432), port, "{uri}");
            assert_eq!(config.driver.get_user(), Some(user), "{uri}");
            assert_eq!(config.driver.get_password(), Some(password.as_bytes()), "{uri}");
            assert_eq!(config.driver.get_dbname(), Some(database), "{uri}");
        }
        let several = PostgresConfig::parse("postgres://u@a:1,b:2/d?target_session_attrs=read-write").unwrap();
        assert_eq!((several.driver.get_hosts().len(), several.driver.get_ports()), (2, &[1, 2][..]));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (uri, said) in [
            ("mysql://u:secret@h/d", "begins with"),
            ("h/d", "begins with"),
            ("postgres://u:secret@h/d?pool_size=3", "`pool_size`"),
            ("postgres://u:secret@h/d?sslmode=maybe", "verify-full"),
            ("postgres://u:secret@h:port/d", "port"),
            ("postgres:///d", "no host"),
            ("postgres://u:secret@h/d?connect_timeout=soon", "connect_timeout"),
            ("postgres://u:secret@h/d?sslmode=verify-ca&sslrootcert=/no/such.pem", "/no/such.pem"),
        ] {
            let error = PostgresConfig::parse(uri).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("secret"), "{uri}: {error}");
        }
        let config = PostgresConfig::parse("postgres://u:secret@h/d").unwrap();
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn modes_mean_what_they_mean_to_libpq() {
        let roots = || Some("r.pem".to_owned());
        for (mode, roots, expected) in [
            ("disable", roots(), (SslMode::Disable, Trust::Anybody)),
            ("allow", None, (SslMode::Prefer, Trust::Anybody)),
            ("prefer", None, (SslMode::Prefer, Trust::Anybody)),
            ("require", None, (SslMode::Require, Trust::Anybody)),
            ("require", roots(), (SslMode::Require, Trust::Signed(roots()))),
            ("verify-ca", roots(), (SslMode::Require, Trust::Signed(roots()))),
            ("verify-full", None, (SslMode::Require, Trust::SignedFor(None))),
        ] {
            assert_eq!(Security { mode: Mode::parse(mode).unwrap(), roots }.decide(), expected, "{mode}");
        }
    }
}
