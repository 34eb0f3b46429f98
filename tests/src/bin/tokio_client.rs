//! A bot written in Rust with tokio-postgres, as anybody would write it. Its first argument is the connection string.

use tokio_postgres::{NoTls, Row};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("usage: tokio_client URL"))?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    let driver = tokio::spawn(connection);

    // Prepared, with a parameter, results in binary.
    for row in client
        .query(
            "SELECT id, name, email, ssn, phone, token, born::text, note FROM customers WHERE id > $1 ORDER BY id",
            &[&0],
        )
        .await?
    {
        println!("row {}", shown(&row));
    }
    // The masked date in binary: the driver must be able to decode whatever stands in its place.
    let born: Vec<Row> = client.query("SELECT email, ssn, phone, token FROM customers ORDER BY id", &[]).await?;
    println!("rows {}", born.len());
    // One simple query with several statements.
    for message in client.simple_query("SELECT email AS e FROM customers; SELECT 1").await? {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            println!("simple {}", row.get(0).unwrap_or("-"));
        }
    }
    // A transaction with a refused statement in it: the error arrives, and rolling back works.
    match client.batch_execute("BEGIN; TRUNCATE orders; COMMIT").await {
        Ok(()) => println!("truncated"),
        Err(error) => println!("refused {} {error:?}", error.code().map_or("-", |code| code.code())),
    }
    client.batch_execute("ROLLBACK").await?;
    let count: i64 = client.query_one("SELECT count(*) FROM orders", &[]).await?.get(0);
    println!("orders {count}");
    drop(client);
    driver.await??;
    Ok(())
}

fn shown(row: &Row) -> String {
    let id: i32 = row.get(0);
    let texts: Vec<_> = (1..row.len())
        .map(|column| row.get::<_, Option<String>>(column).unwrap_or_else(|| "null".to_owned()))
        .collect();
    format!("{id} {}", texts.join(" | "))
}
