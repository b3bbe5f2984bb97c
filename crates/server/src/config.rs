//! What an operator may set: one TOML file, and flags and `CAIRN_*` variables of the same names.
//!
//! A flag goes before its variable, a variable before the file, the file before the default. Unknown fields are refused.

use crate::memory::{self, Bytes, Memory};
use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use types::AccountId;

/// Settings of `cairn server`, as flags.
#[derive(Args, Debug, Default)]
pub(crate) struct Flags {
    /// The store's directory; made on the first start.
    pub(crate) dir: PathBuf,
    /// Where to listen [default: 127.0.0.1:9000].
    #[arg(long, env = "CAIRN_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// A TOML file with settings of the same names.
    #[arg(long, env = "CAIRN_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Domain under which buckets are host names: bucket `b` is `b.DOMAIN` too.
    #[arg(long, env = "CAIRN_DOMAIN")]
    pub(crate) domain: Option<String>,
    /// Region that requests must be signed for [default: us-east-1].
    #[arg(long, env = "CAIRN_REGION")]
    pub(crate) region: Option<String>,
    /// Certificate chain in PEM; serves TLS.
    #[arg(long, env = "CAIRN_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, env = "CAIRN_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// How long bytes stay after they were deleted or overwritten, while the disk has room: a number with ms, s, m, h or d [default: 24h].
    #[arg(long, env = "CAIRN_GC_GRACE")]
    pub(crate) gc_grace: Option<Span>,
    /// How old bytes become whose put never ended, before they are taken for given up [default: 24h].
    #[arg(long, env = "CAIRN_GC_HORIZON")]
    pub(crate) gc_horizon: Option<Span>,
    /// Multipart uploads that nobody worked on for so many days are aborted; 0: never [default: 0].
    #[arg(long, env = "CAIRN_UPLOADS_ABANDONED_DAYS")]
    pub(crate) uploads_abandoned_days: Option<u32>,
    /// Everything that is stored is read again and verified within so long; 0s: never [default: 30d].
    #[arg(long, env = "CAIRN_SCRUB_PERIOD")]
    pub(crate) scrub_period: Option<Span>,
    /// How much memory buffers, caches and queues may take together: a number with B, KiB, MiB or GiB [default: a quarter of the machine's or
    /// container's, 256MiB to 512MiB].
    #[arg(long, env = "CAIRN_MEMORY")]
    pub(crate) memory: Option<Bytes>,
    /// What to log, e.g. `info` or `warn,s3=debug` [default: info].
    #[arg(long, env = "CAIRN_LOG")]
    pub(crate) log: Option<String>,
}

/// The file's fields.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<SocketAddr>,
    domain: Option<String>,
    region: Option<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    gc_grace: Option<Span>,
    gc_horizon: Option<Span>,
    uploads_abandoned_days: Option<u32>,
    scrub_period: Option<Span>,
    memory: Option<Bytes>,
    log: Option<String>,
    #[serde(default)]
    access_keys: Vec<FileKey>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct FileKey {
    access_key: String,
    secret_key: String,
    /// The account it belongs to; 1, the root account, by default.
    account: Option<u64>,
}

/// A configured access key.
#[derive(Clone)]
pub(crate) struct ConfiguredKey {
    /// Its public name.
    pub(crate) access_key: String,
    /// What signs.
    pub(crate) secret_key: String,
    /// Whose it is.
    pub(crate) account: AccountId,
}

/// A time as an operator writes it: `90s`, `24h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(format!("{text:?} is not a number with ms, s, m, h or d")),
        };
        let number = number.parse::<u64>().ok();
        let ms = number.and_then(|n| n.checked_mul(unit_ms));
        let ms = ms.ok_or_else(|| format!("{text:?} is not a time"))?;
        Ok(Self(Duration::from_millis(ms)))
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Settings, settled.
pub(crate) struct Config {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Domain of virtual-host style.
    pub(crate) domain: Option<String>,
    /// Region.
    pub(crate) region: String,
    /// Certificate and key files.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// What is reclaimed when.
    pub(crate) gc: worker::gc::Settings,
    /// How everything is read again; `None`: it is not.
    pub(crate) scrub: Option<worker::scrub::Settings>,
    /// What memory is for.
    pub(crate) memory: Memory,
    /// Log filter.
    pub(crate) log: String,
    /// Access keys beside the root key.
    pub(crate) access_keys: Vec<ConfiguredKey>,
}

impl Config {
    /// Settles flags (variables are already in them) and the file.
    pub(crate) fn settle(flags: Flags) -> anyhow::Result<Self> {
        let file = match &flags.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let tls = match (flags.tls_cert.or(file.tls_cert), flags.tls_key.or(file.tls_key)) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => bail!("tls_cert and tls_key go together: only one of them is set"),
        };
        let mut access_keys = Vec::new();
        for key in file.access_keys {
            check_key(&key.access_key, &key.secret_key)?;
            let account = AccountId(key.account.unwrap_or(AccountId::ROOT.0));
            if access_keys
                .iter()
                .any(|k: &ConfiguredKey| k.access_key == key.access_key)
            {
                bail!("access key {} is there twice", key.access_key);
            }
            access_keys.push(ConfiguredKey {
                access_key: key.access_key,
                secret_key: key.secret_key,
                account,
            });
        }
        let default = worker::gc::Settings::default();
        let gc = worker::gc::Settings {
            grace: flags.gc_grace.or(file.gc_grace).map_or(default.grace, |s| s.0),
            horizon: flags
                .gc_horizon
                .or(file.gc_horizon)
                .map_or(default.horizon, |s| s.0),
            uploads_abandoned: match flags.uploads_abandoned_days.or(file.uploads_abandoned_days) {
                None => default.uploads_abandoned,
                Some(0) => None,
                Some(days) => Some(Duration::from_secs(u64::from(days) * 24 * 3600)),
            },
            ..default
        };
        let memory = match flags.memory.or(file.memory) {
            Some(said) => said.0,
            None => memory::unsaid()?,
        };
        let scrub = scrub(flags.scrub_period.or(file.scrub_period));
        Ok(Self {
            gc,
            scrub,
            memory: Memory::divide(memory, tls.is_some())?,
            dir: flags.dir,
            listen: flags
                .listen
                .or(file.listen)
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9000))),
            domain: flags.domain.or(file.domain).map(|d| d.to_ascii_lowercase()),
            region: flags
                .region
                .or(file.region)
                .unwrap_or_else(|| "us-east-1".to_owned()),
            tls,
            log: flags.log.or(file.log).unwrap_or_else(|| "info".to_owned()),
            access_keys,
        })
    }
}

fn scrub(period: Option<Span>) -> Option<worker::scrub::Settings> {
    let default = worker::scrub::Settings::default();
    let period = period.map_or(default.period, |span| span.0);
    (!period.is_zero()).then_some(worker::scrub::Settings { period, ..default })
}

#[allow(
    clippy::disallowed_methods,
    reason = "the operator's file, before there is a world"
)]
fn read(path: &Path) -> anyhow::Result<File> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("configuration file {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("configuration file {}", path.display()))
}

/// Refuses keys that no client could sign with.
pub(crate) fn check_key(access_key: &str, secret_key: &str) -> anyhow::Result<()> {
    let name_ok = (3..=128).contains(&access_key.len())
        && access_key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
    if !name_ok {
        bail!("an access key is 3 to 128 of letters, digits, '-', '_', '.' and '@'");
    }
    if secret_key.len() < 8 || secret_key.len() > 256 {
        bail!("the secret key of {access_key} is not 8 to 256 bytes long");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused() {
        assert!(toml::from_str::<File>("listen = \"127.0.0.1:1\"").is_ok());
        assert!(toml::from_str::<File>("lisen = \"127.0.0.1:1\"").is_err());
        let keys = "[[access_keys]]\naccess_key = \"abc\"\nsecret_key = \"12345678\"\n";
        assert_eq!(toml::from_str::<File>(keys).unwrap().access_keys.len(), 1);
    }

    #[test]
    fn times_are_numbers_with_a_unit() {
        for (text, ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("90s", 90_000),
            ("3m", 180_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().0, Duration::from_millis(ms));
        }
        for text in [
            "",
            "24",
            "h",
            "1.5h",
            "-1s",
            "1 h",
            "99999999999999999999s",
            "9999999999999999d",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_reclaimed_when() {
        let settle = |days| {
            let flags = Flags {
                dir: "d".into(),
                gc_grace: Some(Span(Duration::from_secs(2))),
                uploads_abandoned_days: days,
                ..Flags::default()
            };
            Config::settle(flags).unwrap().gc
        };
        let day = Duration::from_secs(24 * 3600);
        let gc = settle(None);
        assert_eq!(
            (gc.grace, gc.horizon, gc.uploads_abandoned),
            (Duration::from_secs(2), day, None)
        );
        assert_eq!(settle(Some(0)).uploads_abandoned, None);
        assert_eq!(settle(Some(2)).uploads_abandoned, Some(2 * day));
        assert!(toml::from_str::<File>("gc_grace = \"1h\"").is_ok());
        assert!(toml::from_str::<File>("gc_grace = \"1 fortnight\"").is_err());
    }

    #[test]
    fn everything_is_read_within_a_period_or_never() {
        let period = |text: &str| scrub(Some(text.parse().unwrap())).map(|s| s.period);
        assert_eq!(scrub(None).unwrap().period, Duration::from_secs(30 * 86_400));
        assert_eq!(period("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(period("0s"), None);
        assert!(toml::from_str::<File>("scrub_period = \"7d\"").is_ok());
    }

    #[test]
    fn defaults_and_pairs() {
        let c = Config::settle(Flags {
            dir: "d".into(),
            ..Flags::default()
        })
        .unwrap();
        assert_eq!((c.listen.port(), c.region.as_str()), (9000, "us-east-1"));
        assert!(
            Config::settle(Flags {
                dir: "d".into(),
                tls_cert: Some("c".into()),
                ..Flags::default()
            })
            .is_err()
        );
        assert!(check_key("ab", "12345678").is_err() && check_key("abc", "short").is_err());
    }
}
