//! Migrations: one step per schema version, all in the transaction that sets the new version.

use redb::{ReadableTable, WriteTransaction};

use super::schema::{self, RowKey, SCHEMA};
use super::tally::{self, Delta};
use super::{RecordKind, StoreError, Totals, changes, write};

mod devices;

/// Takes a store from schema `from` to `from + 1`.
#[derive(Clone, Copy)]
pub(super) struct Migration {
    pub(super) from: u32,
    pub(super) run: fn(&WriteTransaction) -> Result<(), StoreError>,
}

/// Every step from the first schema to [`SCHEMA`].
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { from: 0, run: count_live_bytes },
    Migration { from: 1, run: total_up },
    Migration { from: 2, run: part_large_changes },
    Migration { from: 3, run: devices::one_session_each },
];

const MIGRATE: &str = "migrating the store";

/// Runs the steps from `version` on and sets the new version.
pub(super) fn run(
    transaction: &WriteTransaction,
    migrations: &[Migration],
    version: u32,
) -> Result<(), StoreError> {
    for from in version..SCHEMA {
        let Some(step) = migrations.iter().find(|step| step.from == from) else {
            return Err(StoreError::Corrupt {
                object: "table meta".into(),
                detail: format!("there is no way from schema {from} to {SCHEMA}"),
            });
        };
        (step.run)(transaction)?;
    }
    let version = SCHEMA.to_be_bytes();
    put_meta(transaction, &[(schema::META_SCHEMA, &version), (schema::META_NEEDS, &version)])
}

pub(super) fn put_meta(transaction: &WriteTransaction, rows: &[(&str, &[u8])]) -> Result<(), StoreError> {
    let failed = |source: redb::Error| StoreError::from_redb(MIGRATE, "table meta", source);
    let mut meta = transaction.open_table(schema::META).map_err(|source| failed(source.into()))?;
    for (name, value) in rows {
        meta.insert(name, value).map_err(|source| failed(source.into()))?;
    }
    Ok(())
}

/// Schema 1 keeps the bytes of all rows in `META`, so that `status` need not walk the file.
fn count_live_bytes(transaction: &WriteTransaction) -> Result<(), StoreError> {
    let bytes = count(transaction).map_err(|source| StoreError::from_redb(MIGRATE, "table meta", source))?;
    put_meta(transaction, &[(schema::META_LIVE_BYTES, &bytes.to_be_bytes())])
}

fn count(transaction: &WriteTransaction) -> Result<u64, redb::Error> {
    let mut bytes = 0;
    for row in transaction.open_table(schema::HEADS)?.iter()? {
        let (key, value) = row?;
        bytes += key.value().len() + value.value().len();
    }
    for row in transaction.open_table(schema::CHANGES)?.iter()? {
        let (key, value) = row?;
        bytes += key.value().len() + value.value().len();
    }
    // A restored store has them also if the backup is of a schema that had none.
    for row in transaction.open_table(schema::LARGE_CHANGES)?.iter()? {
        let (key, value) = row?;
        bytes += key.value().len() + value.value().len();
    }
    for table in [schema::SNAPSHOTS, schema::INDEXES] {
        for row in transaction.open_table(table)?.iter()? {
            let (key, value) = row?;
            bytes += key.value().len() + value.value().len();
        }
    }
    for row in transaction.open_table(schema::SYNC_STATES)?.iter()? {
        let (key, value) = row?;
        bytes += key.value().len() + value.value().len();
    }
    for kind in RecordKind::ALL {
        for row in transaction.open_table(schema::records(kind))?.iter()? {
            let (key, value) = row?;
            bytes += key.value().len() + value.value().len();
        }
    }
    Ok(bytes as u64)
}

/// Schema 2 keeps what each namespace holds, and has a bin and tombstones, which a program that does not know them must not
/// pass over.
fn total_up(transaction: &WriteTransaction) -> Result<(), StoreError> {
    let failed = |source: redb::Error| StoreError::from_redb(MIGRATE, "table heads", source);
    let heads = transaction.open_table(schema::HEADS).map_err(|source| failed(source.into()))?;
    let namespaces = transaction.open_table(schema::NAMESPACES).map_err(|source| failed(source.into()))?;
    let mut table = transaction
        .open_table(schema::records(RecordKind::Totals))
        .map_err(|source| failed(source.into()))?;
    let mut grown = 0;
    for row in namespaces.iter().map_err(|source| failed(source.into()))? {
        let namespace = row.map_err(|source| failed(source.into()))?.1.value();
        let mut delta = Delta::default();
        delta.add_up(namespace, &heads).map_err(|source| failed(source.into()))?;
        let totals = delta.apply(&Totals::default());
        if totals == Totals::default() {
            continue;
        }
        let row = tally::encode(&totals, tally::day_of(totals.modified));
        let key = namespace.to_be_bytes();
        let old = table.insert(&key[..], &row[..]).map_err(|source| failed(source.into()))?;
        grown += row.len() as i64 - old.map_or(-(key.len() as i64), |old| old.value().len() as i64);
    }
    write::add_live_bytes(transaction, grown)
}

/// Schema 3 keeps large changes in parts.
fn part_large_changes(transaction: &WriteTransaction) -> Result<(), StoreError> {
    let object = || "table changes".to_owned();
    let failed = |source: redb::StorageError| StoreError::from_redb(MIGRATE, object(), source);
    let mut rows = write::open(transaction, schema::CHANGES)?;
    let (mut grown, mut next) = (0, [0; 28]);
    // One at a time: together they may be larger than memory.
    while let Some(place) = next_large(&rows, &next).map_err(failed)? {
        let Some(value) = rows.remove(&place).map_err(failed)?.map(|row| row.value().to_vec()) else { break };
        grown -= (place.len() + value.len()) as i64;
        grown += changes::insert(transaction, &mut rows, &place, &value, &object)?.unwrap_or_default();
        next = place;
    }
    drop(rows);
    write::add_live_bytes(transaction, grown)
}

/// The first row from `start` on that is too large for its table.
fn next_large(
    rows: &impl ReadableTable<&'static RowKey, &'static [u8]>,
    start: &RowKey,
) -> Result<Option<RowKey>, redb::StorageError> {
    for row in rows.range::<&RowKey>(start..)? {
        let (key, value) = row?;
        if value.value().len() > schema::MAX_ROW_BYTES {
            return Ok(Some(*key.value()));
        }
    }
    Ok(None)
}
