//! What is refused, and what its error says.

use super::*;

fn told(error: &impl Classify) -> (Class, Effect) {
    (error.class(), error.effect())
}

#[test]
fn missing_tables_refuse_an_append_in_sqlx_and_say_what_to_do() {
    let folder = Folder::new();
    let outbox = folder.outbox();
    folder
        .connect()
        .execute_batch("DROP TABLE t_states; DROP TABLE t_events;")
        .unwrap();
    block(async {
        let pool = pool(&folder.config()).await;
        let mut tx = begin(&pool).await;
        let refused = outbox.append_sqlx(&mut tx, &event(1, ""), Wall::MIN).await;
        let error = refused.unwrap_err();
        assert!(error.to_string().contains("`prefix`"), "{error}");
        assert_eq!(told(&error), (Class::Permanent, Effect::NotDone));
    });
}

#[test]
fn a_deferred_transaction_of_sqlx_that_reads_first_is_refused_as_busy() {
    let folder = Folder::new();
    let outbox = folder.outbox();
    own(&folder);
    block(async {
        let pool = pool(&folder.config()).await;
        let mut tx = pool.begin().await.unwrap();
        let read = sqlx::query("SELECT count(*) FROM own");
        read.fetch_one(&mut *tx).await.unwrap();
        let written = "INSERT INTO own VALUES (1)";
        folder.connect().execute(written, []).unwrap();
        let refused = outbox.append_sqlx(&mut tx, &event(1, ""), Wall::MIN).await;
        let error = refused.unwrap_err();
        assert!(error.to_string().contains("`busy_timeout`"), "{error}");
        assert_eq!(told(&error), (Class::Transient, Effect::NotDone));
        tx.rollback().await.unwrap();
        let mut tx = begin(&pool).await;
        let appended = outbox.append_sqlx(&mut tx, &event(1, ""), Wall::MIN).await;
        assert!(matches!(appended, Ok(Appended::New(_))), "{appended:?}");
    });
}

#[test]
fn a_full_disk_refuses_an_append_in_sqlx() {
    let folder = Folder::new();
    let outbox = folder.outbox();
    own(&folder);
    block(async {
        let pool = pool(&folder.config()).await;
        let pages = number_of(&folder.connect(), "PRAGMA page_count");
        let fill = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        sqlx::query(fill).execute(&pool).await.unwrap();
        let mut tx = begin(&pool).await;
        change(&mut tx).await;
        let large = dpat_outbox::Event::builder(crate::kit::id(1), "topic");
        let large = large.payload(vec![7; 60_000]).build().unwrap();
        let refused = outbox.append_sqlx(&mut tx, &large, Wall::MIN).await;
        let error = refused.unwrap_err();
        assert!(error.to_string().contains("`max_page_count`"), "{error}");
        assert_eq!(told(&error), (Class::Overloaded, Effect::NotDone));
        drop(tx);
        pool.close().await;
    });
    let connection = folder.connect();
    assert_eq!(number_of(&connection, "SELECT count(*) FROM own"), 0);
    assert_eq!(number_of(&connection, "SELECT count(*) FROM t_events"), 0);
}

#[test]
fn a_commit_of_sqlx_that_is_refused_is_not_done() {
    let folder = Folder::new();
    own(&folder);
    let child = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (id REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)";
    folder.connect().execute_batch(child).unwrap();
    block(async {
        let pool = pool(&folder.config()).await;
        let mut tx = begin(&pool).await;
        change(&mut tx).await;
        let orphan = sqlx::query("INSERT INTO child VALUES (7)");
        orphan.execute(&mut *tx).await.unwrap();
        let error = commit_sqlx(tx).await.unwrap_err();
        assert_eq!(told(&error), (Class::Permanent, Effect::NotDone));
        let mut tx = begin(&pool).await;
        // Behind the back of sqlx: what became of the transaction, it cannot know.
        sqlx::query("COMMIT").execute(&mut *tx).await.unwrap();
        let error = commit_sqlx(tx).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown);
    });
    let own = number_of(&folder.connect(), "SELECT count(*) FROM own");
    assert_eq!(own, 0);
}
