//! The server that the tests use: the one they are told of, the one that is running here, or one of their own.

#![expect(
    clippy::disallowed_methods,
    reason = "no settings tell tests where a server is, and none runs unless started"
)]

use std::{
    fs::{File, Permissions},
    net::{SocketAddr, TcpStream},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

/// Where a server usually listens.
const USUAL: ([u8; 4], u16) = ([127, 0, 0, 1], 5432);
/// What says how to go on when there is no server at all.
const NONE: &str = "these tests need PostgreSQL: set TEST_POSTGRES_URL, start a server on 127.0.0.1:5432, or install the \
                    server's programs (Debian and Ubuntu: `apt-get install postgresql`)";

/// The URI of a database on the server.
pub(crate) fn uri(database: &str) -> String {
    static FOUND: OnceLock<Server> = OnceLock::new();
    let (before, after) = match FOUND.get_or_init(find) {
        Server::Told(uri) => return with_database(uri, database),
        Server::Usual => ("postgres://127.0.0.1:5432".to_owned(), String::new()),
        Server::Own(own) => ("postgres://".into(), format!("?host={}&user=postgres", own.folder.display())),
    };
    format!("{before}/{database}{after}")
}

enum Server {
    Told(String),
    Usual,
    Own(Own),
}

fn find() -> Server {
    if let Ok(uri) = std::env::var("TEST_POSTGRES_URL") {
        return Server::Told(uri);
    }
    if TcpStream::connect_timeout(&SocketAddr::from(USUAL), Duration::from_secs(1)).is_ok() {
        return Server::Usual;
    }
    Server::Own(Own::start())
}

/// A URI that leads to another database of the same server.
fn with_database(uri: &str, database: &str) -> String {
    let (scheme, rest) = uri.split_once("://").expect("TEST_POSTGRES_URL is a URI");
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (server, _) = place.split_once('/').unwrap_or((place, ""));
    format!("{scheme}://{server}/{database}?{query}")
}

/// A server that listens in a folder of its own, and ends some time after the last process that uses it.
struct Own {
    folder: PathBuf,
    /// Shared by everybody who uses the server; who stops it has it alone.
    _users: File,
}

impl Own {
    fn start() -> Self {
        let programs = programs().expect(NONE);
        let user = user();
        let folder = std::env::temp_dir().join(format!("threadyard-test-postgres-{}", user.id));
        std::fs::create_dir_all(&folder).unwrap();
        let open = |name| File::options().create(true).append(true).open(folder.join(name)).unwrap();
        let (users, starting) = (open("users"), open("starting"));
        users.lock_shared().unwrap();
        starting.lock().unwrap();
        if !folder.join("data/PG_VERSION").exists() {
            chown(&folder, Some(user.id), Some(user.group)).unwrap();
            std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
            let data = folder.join("data");
            let arguments = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"];
            user.run(&programs, "initdb", &[&arguments[..], &[data.to_str().unwrap()]].concat());
        }
        if !folder.join("data/postmaster.pid").exists() {
            Self::serve(&folder, &programs, &user);
        }
        Self { folder, _users: users }
    }

    fn serve(folder: &Path, programs: &Path, user: &User) {
        let path = folder.display();
        let options = format!("-c listen_addresses='' -c unix_socket_directories={path} -c fsync=off");
        let (data, log) = (format!("{path}/data"), format!("{path}/log"));
        user.run(programs, "pg_ctl", &["start", "--silent", "--wait", "-D", &data, "-l", &log, "-o", &options]);
        // Nobody knows which test is the last: what stops the server waits until no process has its file any more.
        let stop = format!("flock --nonblock {path}/users {}/pg_ctl stop --silent -D {data}", programs.display());
        let runs = format!("[ -e {data}/postmaster.pid ]");
        let watch = format!("(while {runs} && ! {stop}; do sleep 10; done) </dev/null >/dev/null 2>&1 &");
        assert!(user.command("/bin/sh").args(["-c", &watch]).process_group(0).status().unwrap().success());
    }
}

/// The folder with the newest server's programs.
fn programs() -> Option<PathBuf> {
    let on_path = std::env::var("PATH").unwrap_or_default();
    let on_path = on_path.split(':').map(PathBuf::from);
    let mut installed: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).collect())
        .unwrap_or_default();
    installed.sort();
    on_path.chain(installed.into_iter().rev()).find(|folder| folder.join("initdb").exists())
}

/// Who runs the server, which refuses to be run by root.
struct User {
    id: u32,
    group: u32,
    changes: bool,
}

fn user() -> User {
    let ours = std::fs::metadata("/proc/self").unwrap();
    if ours.uid() != 0 {
        return User { id: ours.uid(), group: ours.gid(), changes: false };
    }
    let known = std::fs::read_to_string("/etc/passwd").unwrap();
    let user = ["postgres", "nobody"].into_iter().find_map(|name| {
        let line = known.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some(User { id: numbers.next()?.ok()?, group: numbers.next()?.ok()?, changes: true })
    });
    user.expect("root can't run a PostgreSQL server, and there is no user `postgres` or `nobody` to run it")
}

impl User {
    fn command(&self, program: &str) -> Command {
        if !self.changes {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--clear-groups", &format!("--reuid={}", self.id), &format!("--regid={}", self.group)]);
        command.arg(program).current_dir("/");
        command
    }

    fn run(&self, programs: &Path, program: &str, arguments: &[&str]) {
        let done = self.command(programs.join(program).to_str().unwrap()).args(arguments).output().unwrap();
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
