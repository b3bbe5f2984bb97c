//! Which room may import which: the table in ARCHITECTURE.md against cargo's own account.

use super::Text;
use anyhow::{Context, Result, ensure};
use cargo_metadata::Metadata;
use std::collections::{BTreeMap, BTreeSet};

/// The line before the table.
const MARK: &str = "<!-- import table: read by `cargo xtask tidy` -->";

type Table = BTreeMap<String, BTreeSet<String>>;

/// Edges that are in one and not in the other.
pub(super) fn edges(metadata: &Metadata, files: &[Text]) -> Result<Vec<String>> {
    let page = files
        .iter()
        .find(|f| f.path == "ARCHITECTURE.md")
        .context("no ARCHITECTURE.md")?;
    Ok(differences(&parse(&page.text)?, &of_cargo(metadata)))
}

/// Rows `| floor | room | may import |`, names in backquotes, at least down to the first line that is no row.
fn parse(page: &str) -> Result<Table> {
    let (_, after) = page
        .split_once(MARK)
        .with_context(|| format!("ARCHITECTURE.md has no line {MARK}"))?;
    let mut table = Table::new();
    for line in after.lines().skip(1).take_while(|l| l.starts_with('|')).skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        ensure!(cells.len() == 3, "import table: not three cells: {line}");
        let imports: BTreeSet<String> = backquoted(cells[2]);
        for room in backquoted(cells[1]) {
            ensure!(
                table.insert(room.clone(), imports.clone()).is_none(),
                "import table: {room} has two rows"
            );
        }
    }
    ensure!(!table.is_empty(), "the import table is empty");
    Ok(table)
}

fn backquoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Rooms and what they depend on of ours: for the build, for tests and for build scripts alike.
fn of_cargo(metadata: &Metadata) -> Table {
    let room = |package: &str| package.strip_prefix("cairn-").map(str::to_owned);
    metadata
        .packages
        .iter()
        .filter_map(|p| {
            let imports = p.dependencies.iter().filter_map(|d| room(&d.name)).collect();
            Some((room(&p.name)?, imports))
        })
        .collect()
}

fn differences(table: &Table, cargo: &Table) -> Vec<String> {
    let mut found = Vec::new();
    for (name, imports) in cargo {
        let Some(allowed) = table.get(name) else {
            found.push(format!(
                "room {name} has no row in ARCHITECTURE.md's import table"
            ));
            continue;
        };
        for edge in imports.difference(allowed) {
            found.push(format!(
                "{name} imports {edge}: not in ARCHITECTURE.md's import table"
            ));
        }
        for edge in allowed.difference(imports) {
            found.push(format!(
                "{name} no longer imports {edge}: take it from ARCHITECTURE.md's import table"
            ));
        }
    }
    for name in table.keys().filter(|n| !cargo.contains_key(*n)) {
        found.push(format!(
            "ARCHITECTURE.md's import table has room {name}, cargo has not"
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "x\n<!-- import table: read by `cargo xtask tidy` -->\n| floor | room | may import |\n|---|---|---|\n| 0 | `a` | |\n| 1 | `b` `c` | `a` |\n\nmore | text\n";

    #[test]
    fn edges_are_compared_both_ways() {
        let table = parse(PAGE).unwrap();
        assert_eq!(table.len(), 3);
        let set = |names: &[&str]| names.iter().map(|s| (*s).to_owned()).collect::<BTreeSet<_>>();
        let mut cargo: Table = [("a", set(&[])), ("b", set(&["a"])), ("c", set(&["a"]))]
            .map(|(n, s)| (n.to_owned(), s))
            .into();
        assert!(differences(&table, &cargo).is_empty());
        cargo.insert("b".to_owned(), set(&["a", "c"]));
        assert_eq!(differences(&table, &cargo).len(), 1);
        cargo.insert("c".to_owned(), set(&[]));
        assert_eq!(differences(&table, &cargo).len(), 2);
        cargo.insert("d".to_owned(), set(&[]));
        assert_eq!(differences(&table, &cargo).len(), 3);
        cargo.remove("a");
        assert_eq!(differences(&table, &cargo).len(), 4);
    }

    #[test]
    fn a_page_without_the_table_is_an_error() {
        assert!(parse("nothing").is_err());
        assert!(parse("<!-- import table: read by `cargo xtask tidy` -->\n\n").is_err());
    }
}
