//! Optimistic transactions: read, decide, write; and begin again if somebody
//! else was faster.

use aidb::{Db, Error, Options, Transaction};

/// Takes from one account and gives to another, if there is enough.
fn transfer(t: &mut Transaction, from: &str, to: &str, amount: u64) -> aidb::Result<bool> {
    let mut balance = |key: &str| -> aidb::Result<u64> {
        let value = t.get_for_update(key)?;
        Ok(value.map_or(0, |v| u64::from_le_bytes(v[..].try_into().expect("eight bytes"))))
    };
    let (left, got) = (balance(from)?, balance(to)?);
    if left < amount {
        return Ok(false);
    }
    t.put(from, (left - amount).to_le_bytes())?;
    t.put(to, (got + amount).to_le_bytes())?;
    Ok(true)
}

/// Until it commits, or turns out to be impossible.
fn transfer_for_sure(db: &Db, from: &str, to: &str, amount: u64) -> aidb::Result<bool> {
    loop {
        let mut transaction = db.transaction();
        if !transfer(&mut transaction, from, to, amount)? {
            return Ok(false); // dropped: rolled back
        }
        match transaction.commit() {
            Ok(()) => return Ok(true),
            Err(Error::Conflict) => {} // somebody changed an account: look again
            Err(error) => return Err(error),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let db = Db::open(dir.path().join("db"), &Options::default())?;
    db.put("ann", 100u64.to_le_bytes())?;
    db.put("bob", 0u64.to_le_bytes())?;

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                (0..10).try_for_each(|_| transfer_for_sure(&db, "ann", "bob", 3).map(drop))
            });
        }
    });
    // 33 transfers of 3, and then there was not enough.
    assert_eq!(db.get("ann")?.expect("was put"), 1u64.to_le_bytes());
    assert_eq!(db.get("bob")?.expect("was put"), 99u64.to_le_bytes());

    // A part can be undone, and the transaction goes on.
    let mut order = db.transaction();
    order.put("order/1", "tea")?;
    order.savepoint();
    order.put("order/2", "cake")?;
    assert_eq!(order.prefix("order/").count(), 2, "it sees its own writes");
    assert_eq!(db.prefix("order/").count(), 0, "nobody else does");
    order.rollback_to_savepoint()?;
    order.commit()?;
    assert_eq!(db.prefix("order/").count(), 1);
    println!("33 transfers, no coin lost");
    Ok(())
}
