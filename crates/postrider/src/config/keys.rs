//! The data directory and the keys in it: made once, readable by their owner only.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_core::signing::Secret;
use zeroize::Zeroizing;

use crate::ambient::Ambient;
use crate::sealing::MasterKey;

pub const ADMIN_KEY_FILE: &str = "admin.key";
pub const MASTER_KEY_FILE: &str = "master.key";
/// The key that a rotation is about to make the master key.
const NEXT_MASTER_KEY_FILE: &str = "master.key.next";
/// The embedded store, whose presence means that there was a master key once.
const STORE_FILE: &str = "postrider.db";

/// Creates the data directory if it is missing.
pub(super) fn ensure_data_directory(data: &Path, warnings: &mut Vec<String>) -> Result<()> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(data);
    created.with_context(|| format!("cannot create the data directory {}", data.display()))?;
    warnings.extend(permission_problem(data));
    Ok(())
}

/// The admin key, and the file if it was made just now.
pub(super) fn admin_key(
    data: &Path,
    ambient: &dyn Ambient,
    warnings: &mut Vec<String>,
) -> Result<(Secret, Option<PathBuf>)> {
    let path = data.join(ADMIN_KEY_FILE);
    let fresh = || Zeroizing::new(format!("admin_{}", URL_SAFE_NO_PAD.encode(ambient.random::<32>())));
    let (text, is_new) = read_or_create(&path, fresh, warnings)?;
    let key = text.trim();
    if key.is_empty() {
        bail!("{} is empty; delete it and a new admin key is made at the next start", path.display());
    }
    Ok((Secret::new(key.to_owned()), is_new.then_some(path)))
}

pub(super) fn master_key(data: &Path, ambient: &dyn Ambient, warnings: &mut Vec<String>) -> Result<MasterKey> {
    let path = data.join(MASTER_KEY_FILE);
    if !path.exists() && data.join(STORE_FILE).exists() {
        bail!(
            "{} is missing, but the store beside it was made with a master key: restore the file from your backup, or \
             set POSTRIDER_MASTER_KEY to the former key",
            path.display()
        );
    }
    let fresh = || MasterKey::new(ambient.random(), "").encoded();
    let (text, _) = read_or_create(&path, fresh, warnings)?;
    MasterKey::parse(&text, &MasterKey::origin_of_file(&path)).map_err(|error| anyhow!("{}: {error}", path.display()))
}

// A rotation of the master key that is in its file: the new key is put beside it, then the store goes over to the new key,
// then the new key takes the former one's place. Whenever that is cut short, one of the two files opens the store.

/// The master key in its file in `data`, if it is there.
pub(super) fn existing_master_key(data: &Path) -> Result<Option<MasterKey>> {
    let path = data.join(MASTER_KEY_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let key = MasterKey::parse(&text, &MasterKey::origin_of_file(&path));
    key.map(Some).map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// Whether `key` was read from its file in `data`.
pub fn is_in_file(data: &Path, key: &MasterKey) -> bool {
    key.origin() == MasterKey::origin_of_file(&data.join(MASTER_KEY_FILE))
}

/// Puts `key` beside the master key, whole and on disk, in place of what an earlier rotation left there.
///
/// # Errors
/// The file cannot be written.
pub fn put_next_master_key(data: &Path, key: &MasterKey) -> Result<()> {
    let next = data.join(NEXT_MASTER_KEY_FILE);
    let context = || format!("cannot write {}", next.display());
    match fs::remove_file(&next) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(context),
        _ => {}
    }
    if !create_private(&next, key.encoded().as_bytes()).with_context(context)? {
        bail!("{}: another rotation is under way", next.display());
    }
    Ok(())
}

/// The key that a rotation has left beside the master key, if it was cut short.
///
/// # Errors
/// There is one that cannot be read.
pub fn next_master_key(data: &Path) -> Result<Option<MasterKey>> {
    let next = data.join(NEXT_MASTER_KEY_FILE);
    let text = match fs::read_to_string(&next) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", next.display())),
    };
    // Told by the name of the file that it is about to have.
    let origin = MasterKey::origin_of_file(&data.join(MASTER_KEY_FILE));
    MasterKey::parse(&text, &origin).map(Some).map_err(|error| anyhow!("{}: {error}", next.display()))
}

/// The key beside the master key becomes the master key.
///
/// # Errors
/// The file cannot be replaced.
pub fn replace_master_key(data: &Path) -> Result<()> {
    let (path, next) = (data.join(MASTER_KEY_FILE), data.join(NEXT_MASTER_KEY_FILE));
    fs::rename(&next, &path).with_context(|| format!("cannot replace {}", path.display()))?;
    fs::File::open(data).and_then(|directory| directory.sync_all()).with_context(|| format!("{}", data.display()))
}

/// The content of `path`, which is made by `fresh` if it is missing; and whether it was.
fn read_or_create(
    path: &Path,
    fresh: impl FnOnce() -> Zeroizing<String>,
    warnings: &mut Vec<String>,
) -> Result<(Zeroizing<String>, bool)> {
    let context = || format!("cannot read {}", path.display());
    match fs::read_to_string(path) {
        Ok(text) => {
            warnings.extend(permission_problem(path));
            return Ok((Zeroizing::new(text), false));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(context),
    }
    let text = fresh();
    let is_new = create_private(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    if is_new {
        return Ok((text, true));
    }
    // Another process was faster.
    Ok((Zeroizing::new(fs::read_to_string(path).with_context(context)?), false))
}

/// Writes a file that only its owner can read, whole or not at all; `false` if it exists already.
fn create_private(path: &Path, content: &[u8]) -> std::io::Result<bool> {
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => {
            if let Some(parent) = path.parent() {
                fs::File::open(parent)?.sync_all()?;
            }
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Says so if others than the owner can read `path`, and what to do about it.
pub fn permission_problem(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    let mode = metadata.permissions().mode() & 0o777;
    let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
    (mode & 0o077 != 0).then(|| {
        format!(
            "{} can be read by other users (mode {mode:03o}): run chmod {wanted:o} {}",
            path.display(),
            path.display()
        )
    })
}
