//! The table: what each client did in each column, printed at the end.

use anyhow::{Result, ensure};
use std::collections::BTreeMap;

/// Columns of the matrix, in its order. Every client has a sentence for each.
pub(crate) const COLUMNS: [&str; 10] = [
    "default checksums",
    "multipart",
    "parallel ranges",
    "sync both ways",
    "many keys",
    "batch delete",
    "odd keys",
    "presign",
    "versions",
    "conditional put",
];

/// Cells that were filled, and what went wrong instead.
#[derive(Default)]
pub(crate) struct Table {
    cells: BTreeMap<(&'static str, &'static str), Result<String>>,
    others: Vec<(&'static str, Result<()>)>,
}

impl Table {
    /// Fills a cell. A sentence begins with `ok` or, where the client has no such function, with `n/a: `.
    pub(crate) fn tell(&mut self, client: &'static str, column: &'static str, said: Result<String>) {
        let said = said.and_then(|sentence| {
            ensure!(
                sentence.starts_with("ok") || sentence.starts_with("n/a: "),
                "no sentence for a cell: {sentence:?}"
            );
            Ok(sentence)
        });
        self.cells.insert((client, column), said);
    }

    /// A test that is no cell: one of a client's own suite.
    pub(crate) fn other(&mut self, name: &'static str, result: Result<()>) {
        self.others.push((name, result));
    }

    /// Prints all of it. Whether nothing failed and no cell is empty.
    pub(crate) fn finish(&self) -> bool {
        let clients: std::collections::BTreeSet<_> = self.cells.keys().map(|(client, _)| *client).collect();
        let (mut passed, mut failed) = (0, 0);
        print!("{:20}", "");
        for client in &clients {
            print!("{client:>14}");
        }
        println!();
        for column in COLUMNS {
            print!("{column:20}");
            for client in &clients {
                let word = match self.cells.get(&(*client, column)) {
                    Some(Ok(sentence)) => sentence.split(':').next().unwrap_or_default(),
                    Some(Err(_)) => "FAILED",
                    None => "EMPTY",
                };
                let holds = matches!(word, "ok" | "n/a");
                passed += u32::from(holds);
                failed += u32::from(!holds);
                print!("{word:>14}");
            }
            println!();
        }
        for ((client, column), said) in &self.cells {
            match said {
                Ok(sentence) => println!("{client} · {column}: {sentence}"),
                Err(e) => println!("{client} · {column}: FAILED: {e:#}"),
            }
        }
        for (name, result) in &self.others {
            passed += u32::from(result.is_ok());
            failed += u32::from(result.is_err());
            match result {
                Ok(()) => println!("{name}: ok"),
                Err(e) => println!("{name}: FAILED: {e:#}"),
            }
        }
        println!("{passed} passed, {failed} failed");
        failed == 0 && !clients.is_empty()
    }
}
