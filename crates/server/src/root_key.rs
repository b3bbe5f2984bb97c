//! The root access key: from the environment, else made at random on the first start, told once, kept with mode 0600.
//!
//! Told before it is kept: a start that fails in between has told a key that never was, and the next tells its own. The other
//! way round the key would be kept and never told.

use crate::config::{ConfiguredKey, check_key};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use types::AccountId;
use world::{Disk, Rng};

/// Its file in the directory.
pub(crate) const FILE: &str = "root-key";
const ACCESS_KEY_CHARS: usize = 20;
const SECRET_KEY_CHARS: usize = 40;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    access_key: String,
    secret_key: String,
}

/// From `CAIRN_ROOT_ACCESS_KEY` and `CAIRN_ROOT_SECRET_KEY` where they are set, else from the directory; else made, and told.
pub(crate) fn settle(
    disk: &Arc<dyn Disk>,
    rng: &dyn Rng,
    tell: impl FnOnce(&ConfiguredKey),
) -> anyhow::Result<ConfiguredKey> {
    let set = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
    match (set("CAIRN_ROOT_ACCESS_KEY"), set("CAIRN_ROOT_SECRET_KEY")) {
        (Some(access_key), Some(secret_key)) => {
            check_key(&access_key, &secret_key)?;
            Ok(root(access_key, secret_key))
        }
        (None, None) => kept(disk, rng, tell),
        _ => bail!("CAIRN_ROOT_ACCESS_KEY and CAIRN_ROOT_SECRET_KEY go together: only one of them is set"),
    }
}

fn root(access_key: String, secret_key: String) -> ConfiguredKey {
    ConfiguredKey {
        access_key,
        secret_key,
        account: AccountId::ROOT,
    }
}

fn kept(
    disk: &Arc<dyn Disk>,
    rng: &dyn Rng,
    tell: impl FnOnce(&ConfiguredKey),
) -> anyhow::Result<ConfiguredKey> {
    if disk.exists(FILE)? {
        let file = disk.open(FILE)?;
        let mut text = vec![0; file.len()?.min(4096) as usize];
        file.read_exact_at(&mut text, 0)?;
        let kept: Kept =
            toml::from_str(std::str::from_utf8(&text)?).context("the file root-key is damaged")?;
        check_key(&kept.access_key, &kept.secret_key)?;
        return Ok(root(kept.access_key, kept.secret_key));
    }
    let access_key = format!(
        "CAIRN{}",
        random(rng, ACCESS_KEY_CHARS - 5, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    );
    let alphabet = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let kept = Kept {
        access_key,
        secret_key: random(rng, SECRET_KEY_CHARS, alphabet),
    };
    // A name appears only with its whole content: written aside, synced, renamed, and the directory synced.
    let aside = format!("{FILE}.new");
    if disk.exists(&aside)? {
        disk.remove(&aside)?;
    }
    let file = disk.create(&aside)?;
    file.write_all_at(toml::to_string(&kept)?.as_bytes(), 0)?;
    file.sync_data()?;
    let key = root(kept.access_key, kept.secret_key);
    tell(&key);
    disk.rename(&aside, FILE)?;
    disk.sync_dir("")?;
    Ok(key)
}

/// `n` characters of an alphabet whose length divides 256, so that each is equally likely.
fn random(rng: &dyn Rng, n: usize, alphabet: &[u8]) -> String {
    assert!(256 % alphabet.len() == 0, "an even choice");
    let mut bytes = vec![0; n];
    rng.fill(&mut bytes);
    bytes
        .iter()
        .map(|b| char::from(alphabet[usize::from(*b) % alphabet.len()]))
        .collect()
}
