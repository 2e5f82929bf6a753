//! What is stored, for the operator.

use super::names::{Name, cell_id, is_list, list_key, parse_name};
use super::{Cells, Loaded};
use crate::cell::Cell;
use crate::question::parts_of_key;
use crate::question::preflight::preflight_key;
use crate::store::{Store, StoreError};
use crate::world::Platform;

/// Most names that a listing remembers.
const NAMES_MAX: usize = 200_000;

/// Most cells that one listing reads.
const READS_MAX: usize = 1_000;

/// Most cells of one URL that are shown.
const OF_URL_MAX: usize = 256;

/// A page of what is stored.
#[derive(Debug)]
pub(crate) struct Page {
    /// The cells of pages, their variants and preflights.
    pub(crate) cells: Vec<Cell>,
    /// Where the next page begins; none at the end.
    pub(crate) next: Option<String>,
}

impl<P: Platform> Cells<P> {
    /// Up to `most` cells whose URL begins with `prefix`, from `cursor` on; none where the
    /// store cannot list its names.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        most: usize,
    ) -> Result<Option<Page>, StoreError> {
        let mut names: Vec<u128> = Vec::new();
        let from = cursor.and_then(|cursor| u128::from_str_radix(cursor, 16).ok());
        let mut note = |name: &str| {
            if let Some(Name::Cell(id)) = parse_name(name)
                && from.is_none_or(|from| id >= from)
                && names.len() < NAMES_MAX
            {
                names.push(id);
            }
        };
        if !self.platform.store().names(&mut note).await? {
            return Ok(None);
        }
        names.sort_unstable();
        names.dedup();
        let mut page = Page {
            cells: Vec::new(),
            next: None,
        };
        for (reads, id) in names.into_iter().enumerate() {
            if reads >= READS_MAX || page.cells.len() >= most {
                page.next = Some(format!("{id:032x}"));
                break;
            }
            let Some(mut loaded) = self.load_named(&format!("cell/{id:032x}")).await? else {
                continue;
            };
            self.apply_purges(&mut loaded);
            let is_wanted = |cell: &Cell| {
                let target = parts_of_key(&cell.key).map(|(_, target)| target);
                !is_list(&cell.key) && target.is_some_and(|target| target.starts_with(prefix))
            };
            page.cells.extend(loaded.cell.filter(is_wanted));
        }
        Ok(Some(page))
    }

    /// The cells of a key: its own, its variants', and those of its preflights.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub(crate) async fn of_key(&self, key: &str) -> Result<Vec<Cell>, StoreError> {
        let mut found = Vec::new();
        for key in [key.to_owned(), preflight_key(key)] {
            self.look_for_purges(super::health::Urgency::Usual).await;
            let own = self.load_named(&cell_id(&key)).await?;
            let list = self.load_named(&cell_id(&list_key(&key))).await?;
            let marks = own.as_ref().and_then(|own| own.cell.as_ref());
            let marks = marks.map(|cell| cell.marks.clone()).unwrap_or_default();
            let variants = list.and_then(|list| list.cell);
            let variants = variants.map_or_else(Vec::new, |cell| cell.marks.variants);
            let mut all: Vec<Loaded> = own.into_iter().collect();
            for variant in variants.iter().take(OF_URL_MAX) {
                if let Some(mut variant) = self.load_named(&variant.id).await? {
                    self.apply_key_marks(&mut variant, &marks);
                    all.push(variant);
                }
            }
            for mut loaded in all {
                self.apply_purges(&mut loaded);
                found.extend(loaded.cell);
            }
        }
        Ok(found)
    }
}
