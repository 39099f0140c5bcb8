//! How Redis is named: one server, or the sentinels that know which one it is.

use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, TlsMode,
    io::tcp::TcpSettings,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

/// Where Redis is, and what its channels are called.
pub struct RedisConfig {
    pub(super) source: Source,
    pub(super) prefix: String,
    pub(super) has_tls: bool,
}

/// Who says where to connect.
pub(super) enum Source {
    /// Always the same server.
    One(Box<Client>),
    /// The sentinels, each time anew.
    Sentinels(Box<SentinelClient>),
}

/// Why a URI does not name a Redis. None of these repeats the URI, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum RedisUriError {
    /// It is a Redis Cluster.
    #[error("the Redis URI names a cluster; name one of its nodes, messages reach all of them")]
    Cluster,
    /// It names sentinels but not what they watch.
    #[error("the Redis URI names sentinels but no master; write redis+sentinel://host:26379,host:26379/master/0")]
    NoMaster,
    /// Certificates are not to be checked.
    #[error(
        "the Redis URI ends with a fragment; certificates are always checked, put the authority's into the system's store"
    )]
    Fragment,
    /// Something else.
    #[error("the Redis URI can't be used: {0}; write redis://user:password@host:6379/0, or rediss:// for TLS")]
    Invalid(String),
}

impl From<redis::RedisError> for RedisUriError {
    fn from(error: redis::RedisError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl RedisConfig {
    /// Reads a URI. The prefix keeps several servers apart that share a Redis.
    pub fn parse(uri: &str, key_prefix: &str) -> Result<Self, RedisUriError> {
        let (scheme, rest) = uri.split_once("://").ok_or_else(|| RedisUriError::Invalid("it has no scheme".into()))?;
        let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
        if fragment.is_some() {
            return Err(RedisUriError::Fragment);
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let prefix = key_prefix.to_owned();
        match scheme {
            "redis+sentinel" | "redis-sentinel" => {
                Ok(Self { source: sentinels("redis", rest)?, prefix, has_tls: false })
            }
            "rediss+sentinel" | "rediss-sentinel" => {
                Ok(Self { source: sentinels("rediss", rest)?, prefix, has_tls: true })
            }
            _ if scheme.contains("cluster") || authority.contains(',') => Err(RedisUriError::Cluster),
            _ => {
                let info = connection(uri)?;
                let has_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
                Ok(Self { source: Source::One(Box::new(Client::open(info)?)), prefix, has_tls })
            }
        }
    }
}

/// Frames are small and nobody waits to fill a packet. Subscribers are told in the older protocol, which all servers speak.
fn connection(uri: &str) -> Result<ConnectionInfo, RedisUriError> {
    let info = uri.into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
    Ok(info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

/// Reads `user:password@host:port,host:port/master/db?sentinel_password=…`: the first password is that of Redis.
fn sentinels(scheme: &str, rest: &str) -> Result<Source, RedisUriError> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').ok_or(RedisUriError::NoMaster)?;
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (master, db) = path.split_once('/').unwrap_or((path, ""));
    if master.is_empty() {
        return Err(RedisUriError::NoMaster);
    }
    let mut addresses = Vec::new();
    for host in hosts.split(',') {
        let host = if host.rsplit_once(':').is_some() { host.to_owned() } else { format!("{host}:26379") };
        addresses.push(connection(&format!("{scheme}://{host}"))?.addr().clone());
    }
    // Read as the login of a server, so that it is decoded in the same way.
    let login = connection(&format!("{scheme}://{login}@host/{db}"))?.redis_settings().clone();
    let builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?;
    let builder = with_login(builder, &login, scheme == "rediss");
    let builder = match query.split_once('=') {
        Some(("sentinel_password", password)) => {
            let login = connection(&format!("{scheme}://:{password}@host"))?.redis_settings().clone();
            builder.set_client_to_sentinel_password(login.password().unwrap_or_default())
        }
        None if query.is_empty() => builder,
        _ => return Err(RedisUriError::Invalid("of its parameters only sentinel_password is known".into())),
    };
    Ok(Source::Sentinels(Box::new(builder.build()?)))
}

fn with_login(builder: SentinelClientBuilder, login: &RedisConnectionInfo, has_tls: bool) -> SentinelClientBuilder {
    let tcp = || TcpSettings::default().set_nodelay(true);
    let mut builder = builder
        .set_client_to_redis_db(login.db())
        .set_client_to_redis_tcp_settings(tcp())
        .set_client_to_sentinel_tcp_settings(tcp());
    if let Some(username) = login.username() {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = login.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if has_tls {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(uri: &str) -> RedisUriError {
        match RedisConfig::parse(uri, "") {
            Err(error) => error,
            Ok(_) => panic!("{uri} is accepted"),
        }
    }

    #[test]
    fn servers_and_sentinels_are_understood() {
        for uri in [
            "redis://localhost",
            "redis://:p%40ss@localhost:6380/3",
            "rediss://user:secret@cache.example:6379",
            "valkey://localhost",
            "unix:///run/redis.sock",
            "redis+sentinel://a:26379,b:26379/main/1",
            "redis+sentinel://:secret@a,b/main?sentinel_password=other",
            "rediss+sentinel://user:secret@a:1/main",
        ] {
            let config = RedisConfig::parse(uri, "p:").unwrap_or_else(|error| panic!("{uri}: {error}"));
            assert_eq!(config.has_tls, uri.starts_with("rediss"), "{uri}");
        }
    }

    #[test]
    fn what_can_not_work_is_refused_without_repeating_the_password() {
        assert!(matches!(refusal("redis://:hunter2@a:1,b:2/0"), RedisUriError::Cluster));
        assert!(matches!(refusal("redis+cluster://a:1"), RedisUriError::Cluster));
        assert!(matches!(refusal("redis+sentinel://a:1"), RedisUriError::NoMaster));
        assert!(matches!(refusal("rediss://a:1/#insecure"), RedisUriError::Fragment));
        for uri in [
            "localhost:6379",
            "http://:hunter2@a",
            "redis://:hunter2@a/x",
            "redis://:hunter2@",
            "redis+sentinel://:hunter2@a:x/main",
            "redis+sentinel://:hunter2@a/main?hunter2=1",
        ] {
            let error = refusal(uri);
            assert!(matches!(error, RedisUriError::Invalid(_)), "{uri}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
