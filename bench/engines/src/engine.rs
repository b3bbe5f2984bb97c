//! The engines, behind the little that the measurements need.

use anyhow::Result;
use std::path::Path;
use std::sync::Arc;

pub type Row = (Vec<u8>, Vec<u8>);

/// One engine under measurement.
pub trait Engine: Send + Sync {
    /// Durable when it returns.
    fn commit(&self, rows: Vec<Row>) -> Result<()>;
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Walks up to `max` rows from `start`; how many there were. `see` looks at each.
    fn scan(&self, start: &[u8], max: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize>;
}

pub const NAMES: [&str; 2] = ["redb", "fjall"];

pub fn open(name: &str, dir: &Path) -> Result<Arc<dyn Engine>> {
    Ok(match name {
        "redb" => Arc::new(Redb::open(dir)?),
        "fjall" => Arc::new(Fjall::open(dir)?),
        other => anyhow::bail!("no engine {other}"),
    })
}

const TABLE: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("rows");

struct Redb(redb::Database);

impl Redb {
    fn open(dir: &Path) -> Result<Self> {
        let mut builder = redb::Database::builder();
        builder.set_cache_size(256 << 20);
        let db = builder.create(dir.join("plain.redb"))?;
        let tx = db.begin_write()?;
        tx.open_table(TABLE)?;
        tx.commit()?;
        Ok(Self(db))
    }
}

impl Engine for Redb {
    fn commit(&self, rows: Vec<Row>) -> Result<()> {
        let tx = self.0.begin_write()?;
        {
            let mut table = tx.open_table(TABLE)?;
            for (k, v) in &rows {
                table.insert(&k[..], &v[..])?;
            }
        }
        tx.commit()?;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        use redb::ReadableDatabase;
        let table = self.0.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key)?.map(|v| v.value().to_vec()))
    }

    fn scan(&self, start: &[u8], max: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        use redb::ReadableDatabase;
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut n = 0;
        for row in table.range(start..)?.take(max) {
            let (k, v) = row?;
            see(k.value(), v.value());
            n += 1;
        }
        Ok(n)
    }
}

struct Fjall {
    db: fjall::Database,
    rows: fjall::Keyspace,
}

impl Fjall {
    fn open(dir: &Path) -> Result<Self> {
        let db = fjall::Database::builder(dir.join("fjall")).cache_size(256 << 20).open()?;
        let rows = db.keyspace("rows", fjall::KeyspaceCreateOptions::default)?;
        Ok(Self { db, rows })
    }
}

impl Engine for Fjall {
    fn commit(&self, rows: Vec<Row>) -> Result<()> {
        let mut batch = self.db.batch().durability(Some(fjall::PersistMode::SyncData));
        for (k, v) in rows {
            batch.insert(&self.rows, k, v);
        }
        batch.commit()?;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.rows.get(key)?.map(|v| v.to_vec()))
    }

    fn scan(&self, start: &[u8], max: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut n = 0;
        for row in self.rows.range(start..).take(max) {
            let (k, v) = row.into_inner()?;
            see(&k, &v);
            n += 1;
        }
        Ok(n)
    }
}
