//! Moves the write-ahead log into the database on a thread of its own, since the writer would wait for the disk there.

use std::{ffi::c_int, io, sync::mpsc, thread};

use rusqlite::{Connection, hooks::Wal};

/// A log of so many pages is moved.
const LONG: c_int = 1_000;
/// Where writes never pause, a log that is moved beside them has no end: the writer itself finishes the move of one
/// that is so long, and begins it anew.
const TOO_LONG: c_int = 4_000;

/// Has `mover` move the log of `writer` as long as the writer lives.
pub(super) fn move_aside(writer: &mut Connection, mover: Connection) -> io::Result<()> {
    let (long, wake) = mpsc::sync_channel(1);
    thread::Builder::new().name("sqlite-wal".into()).spawn(move || {
        while wake.recv().is_ok() {
            noted(mover.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
        }
    })?;
    // What the hook returns would be taken for a failure of the commit.
    let hook = move |wal: &mut Wal, pages| {
        if pages >= TOO_LONG {
            noted(wal.checkpoint());
        } else if pages >= LONG {
            // When one is waiting already, this one has nothing to add.
            let _ = long.try_send(());
        }
        Ok(())
    };
    writer.wal_hook(Some(hook)).map_err(io::Error::other)
}

/// A log that can't be moved now is moved later; nothing is lost meanwhile.
fn noted(moved: rusqlite::Result<()>) {
    match moved {
        Ok(()) => {}
        // The other of the two is at it.
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {}
        Err(error) => tracing::warn!(%error, "the write-ahead log could not be moved into the database; trying again"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_log_stays_short_while_writes_never_pause() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Connection::open(folder.path().join("test.db")).unwrap();
        let mut writer = open();
        writer.pragma_update(None, "journal_mode", "wal").unwrap();
        writer.execute_batch("CREATE TABLE t (x)").unwrap();
        move_aside(&mut writer, open()).unwrap();
        for _ in 0..20_000 {
            writer.execute("INSERT INTO t VALUES (zeroblob(3000))", []).unwrap();
        }
        let log = std::fs::metadata(folder.path().join("test.db-wal")).unwrap().len();
        assert!(log < 3 * 4_096 * u64::try_from(TOO_LONG).unwrap(), "{log}");
    }

    #[test]
    fn a_log_is_moved_beside_the_writer() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.db");
        let mut writer = Connection::open(&file).unwrap();
        writer.pragma_update(None, "journal_mode", "wal").unwrap();
        writer.execute_batch("CREATE TABLE t (x)").unwrap();
        move_aside(&mut writer, Connection::open(&file).unwrap()).unwrap();
        let pages = i64::from(LONG + 500) * 4_096;
        writer.execute("INSERT INTO t VALUES (zeroblob(?1))", [pages]).unwrap();
        // No further write comes, and the database has it all the same.
        for _ in 0..6_000 {
            if std::fs::metadata(&file).unwrap().len() >= pages.unsigned_abs() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("the log was not moved");
    }
}
