//! Where listening sockets live, and who may replace one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::{Errno, retry_on_intr};

use super::{above_stdio, because, invalid};
use crate::sys::LockError;

/// The effective user of this process.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The user's own directory for sockets, made if need be.
pub(crate) fn runtime_dir() -> io::Result<PathBuf> {
    let path = runtime_path(
        std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        Path::new("/run/user"),
        rustix::process::geteuid().as_raw(),
    );
    ensure_private_dir(&path)?;
    Ok(path)
}

fn runtime_path(xdg: Option<PathBuf>, run_user: &Path, uid: u32) -> PathBuf {
    let of_user = run_user.join(uid.to_string());
    match xdg {
        Some(xdg) if xdg.is_absolute() => xdg.join("ringmain"),
        _ if of_user.is_dir() => of_user.join("ringmain"),
        _ => PathBuf::from(format!("/tmp/ringmain-{uid}")),
    }
}

/// Makes the directory if it is not there, and refuses one into which anybody else can put things.
pub(crate) fn ensure_private_dir(path: &Path) -> io::Result<()> {
    let shown = path.display();
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(because(format_args!("cannot make directory '{shown}'"), error)),
    }
    let found =
        path.symlink_metadata().map_err(|error| because(format_args!("cannot look at directory '{shown}'"), error))?;
    let user = rustix::process::geteuid().as_raw();
    let mode = found.mode() & 0o7777;
    if found.is_dir() && found.uid() == user && mode & 0o077 == 0 {
        return Ok(());
    }
    let kind = match found.file_type() {
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_dir() => "a directory",
        _ => "no directory",
    };
    let owner = found.uid();
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "'{shown}' is {kind} of user {owner} with mode {mode:04o}, but must be a directory of \
             user {user} with mode 0700: correct or remove it"
        ),
    ))
}

/// A lock that ends with its holder, however that ends. The file stays.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    /// Device and number of the file.
    file: (u64, u64),
    _file: OwnedFd,
}

impl LockFile {
    /// Takes the lock or says that it is held; never waits.
    pub(crate) fn acquire(path: &Path) -> Result<Self, LockError> {
        const TRIES: u32 = 1000;
        let context = |what| format!("cannot {what} the lock file '{}'", path.display());
        for _ in 0..TRIES {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                // Neither follow a link nor wait for the other end of a pipe.
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
                .open(path)
                .map_err(|error| LockError::Io(because(context("open"), error)))?;
            let file = above_stdio(file.into()).map_err(LockError::Io)?;
            match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(LockError::Held),
                Err(error) => return Err(LockError::Io(because(context("lock"), error))),
            }
            let file = File::from(file);
            let ours = file.metadata().map_err(|error| LockError::Io(because(context("see"), error)))?;
            if !ours.is_file() {
                let text = format!("the lock file '{}' is not a plain file", path.display());
                return Err(LockError::Io(invalid(text)));
            }
            // Between open and lock the last holder may have removed it, and others may have made
            // and locked a new one: then this lock excludes nobody.
            match path.symlink_metadata() {
                Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {
                    return Ok(Self { path: path.to_owned(), file: (ours.dev(), ours.ino()), _file: file.into() });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(LockError::Io(because(context("see"), error))),
            }
        }
        let text = format!("'{}' was replaced {TRIES} times while it was locked", path.display());
        Err(LockError::Io(io::Error::other(text)))
    }

    /// Whether the name is still that of the locked file. Whoever cleans the directory may have removed it, and then
    /// another process may have made and locked a new one: what else is named so is then not ours any more.
    pub(crate) fn is_named(&self) -> bool {
        self.path.symlink_metadata().is_ok_and(|named| (named.dev(), named.ino()) == self.file)
    }

    /// Removes the file while the lock is held, so that nobody is locked out of a file with no name.
    pub(crate) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
            .map_err(|error| because(format_args!("cannot remove the lock file '{}'", self.path.display()), error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::{alone, in_fork};
    use super::*;
    use crate::sys::{Exit, random_u64};
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            let name = format!("ringmain-files-{:x}", random_u64().expect("random"));
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).expect("mkdir");
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_runtime_directory_is_where_the_environment_says() {
        let _alone = alone();
        let dir = Dir::new();
        let path = |xdg: Option<&str>, uid| runtime_path(xdg.map(PathBuf::from), &dir.0, uid);
        std::fs::create_dir(dir.0.join("1000")).expect("mkdir");
        let of_user = dir.0.join("1000/ringmain");
        assert_eq!(path(Some("/run/mine"), 1000), Path::new("/run/mine/ringmain"));
        assert_eq!(path(None, 1000), of_user);
        assert_eq!(path(Some("relative"), 1000), of_user);
        assert_eq!(path(Some(""), 1000), of_user);
        assert_eq!(path(None, 1001), Path::new("/tmp/ringmain-1001"));
    }

    #[test]
    fn a_private_directory_is_made_once_and_found_again() {
        let _alone = alone();
        let dir = Dir::new();
        let path = dir.0.join("private");
        ensure_private_dir(&path).expect("make");
        assert_eq!(path.metadata().expect("there").mode() & 0o7777, 0o700);
        ensure_private_dir(&path).expect("find");
        // Whatever this environment is like: a private directory, or an error that names it.
        match runtime_dir() {
            Ok(path) => ensure_private_dir(&path).expect("private"),
            Err(error) => assert!(error.to_string().contains("ringmain"), "{error}"),
        }
    }

    #[test]
    fn a_directory_that_others_can_use_is_refused_with_its_owner_and_mode() {
        let _alone = alone();
        let dir = Dir::new();
        let make = |name: &str, mode| {
            let path = dir.0.join(name);
            std::fs::create_dir(&path).expect("mkdir");
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
            path
        };
        make("good", 0o700);
        symlink(dir.0.join("good"), dir.0.join("link")).expect("symlink");
        File::create(dir.0.join("file")).expect("create");
        let table = [
            (make("group", 0o750), "mode 0750"),
            (make("others", 0o701), "mode 0701"),
            (make("sticky", 0o1777), "mode 1777"),
            (dir.0.join("link"), "a symbolic link"),
            (dir.0.join("file"), "no directory"),
        ];
        let user = format!("of user {} ", rustix::process::geteuid().as_raw());
        for (path, expected) in table {
            let error = ensure_private_dir(&path).expect_err(expected).to_string();
            for part in [expected, &user, &path.display().to_string()] {
                assert!(error.contains(part), "{error}");
            }
        }
        let error = ensure_private_dir(&dir.0.join("missing/private")).expect_err("no parent");
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    }

    #[test]
    fn a_lock_excludes_until_it_is_dropped_or_its_holder_dies() {
        let _alone = alone();
        let dir = Dir::new();
        let path = dir.0.join("lock");
        let lock = LockFile::acquire(&path).expect("free");
        assert_eq!(path.metadata().expect("there").mode() & 0o7777, 0o600);
        assert!(matches!(LockFile::acquire(&path), Err(LockError::Held)));
        drop(lock);
        assert!(path.exists());
        // A holder that never drops.
        let exit = in_fork(|| {
            // For a moment a process that another test is starting holds the first lock too.
            let end = Instant::now() + Duration::from_secs(30);
            let lock = loop {
                match LockFile::acquire(&path) {
                    Err(LockError::Held) if Instant::now() < end => thread::yield_now(),
                    lock => break lock,
                }
            };
            lock.map_or(1, |lock| {
                std::mem::forget(lock);
                u8::from(!matches!(LockFile::acquire(&path), Err(LockError::Held)))
            })
        });
        assert_eq!(exit, Exit::Code(0));
        let lock = LockFile::acquire(&path).expect("its holder is dead");
        lock.remove().expect("remove");
        assert!(!path.exists());
        LockFile::acquire(&path).expect("made anew").remove().expect("remove");
    }

    #[test]
    fn many_that_take_and_remove_a_lock_never_hold_it_together() {
        let _alone = alone();
        let dir = Dir::new();
        let (path, holders) = (dir.0.join("lock"), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut held = 0;
                    while held < 200 {
                        match LockFile::acquire(&path) {
                            Ok(lock) => {
                                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                                held += 1;
                                assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                                if held % 2 == 0 {
                                    lock.remove().expect("remove");
                                }
                            }
                            Err(LockError::Held) => thread::yield_now(),
                            Err(LockError::Io(error)) => panic!("{error}"),
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_no_plain_file_is_not_locked() {
        let _alone = alone();
        let dir = Dir::new();
        symlink("/nonexistent", dir.0.join("link")).expect("symlink");
        for path in [dir.0.clone(), dir.0.join("link"), dir.0.join("missing/lock"), "/dev/null".into()] {
            match LockFile::acquire(&path) {
                Err(LockError::Io(error)) => {
                    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
                }
                other => panic!("{}: {other:?}", path.display()),
            }
        }
    }
}
