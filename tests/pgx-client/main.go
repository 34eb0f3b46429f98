// A bot written in Go with pgx, as anybody would write it. See ../tests/drivers.rs for what it prints.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func state(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return fmt.Sprint(err)
}

func must(err error) {
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
}

func main() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, os.Args[1])
	must(err)
	var number int
	must(conn.QueryRow(ctx, "SELECT 40 + 2", pgx.QueryExecModeSimpleProtocol).Scan(&number))
	fmt.Println("simple", number)
	var whole int64
	var truth bool
	var nothing *string
	var text string
	var day time.Time
	must(conn.QueryRow(ctx, "SELECT $1::int8, $2::bool, $3::text, $4::text, $5::date", 7, true, nil, "é'\"", "2026-11-23").
		Scan(&whole, &truth, &nothing, &text, &day))
	fmt.Println("types", whole, truth, nothing == nil, text, day.Format("2006-01-02"))
	var impossible int
	fmt.Println("error", state(conn.QueryRow(ctx, "SELECT 1 / $1::int", 0).Scan(&impossible)))
	transaction, err := conn.Begin(ctx)
	must(err)
	_, err = transaction.Exec(ctx, "INSERT INTO target VALUES ($1)", 99)
	must(err)
	must(transaction.Rollback(ctx))
	must(conn.QueryRow(ctx, "SELECT count(*) FROM target WHERE id = 99").Scan(&number))
	fmt.Println("rolled back", number)
	rows, err := conn.Query(ctx, "SELECT n FROM generate_series(1, $1::int) n", 20000)
	must(err)
	count, sum := 0, 0
	for rows.Next() {
		must(rows.Scan(&number))
		count, sum = count+1, sum+number
	}
	must(rows.Err())
	fmt.Println("rows", count, sum)
	batch := &pgx.Batch{}
	batch.Queue("SELECT 1")
	batch.Queue("SELECT $1::text", "two")
	results := conn.SendBatch(ctx, batch)
	must(results.QueryRow().Scan(&number))
	must(results.QueryRow().Scan(&text))
	must(results.Close())
	fmt.Println("batch", number, text)
	copied, err := conn.CopyFrom(ctx, pgx.Identifier{"target"}, []string{"id"}, pgx.CopyFromRows([][]any{{501}, {502}}))
	must(err)
	_, err = conn.Exec(ctx, "UPDATE target SET id = -1 WHERE id > 500")
	must(err)
	fmt.Println("copied", copied)
	soon, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	go func() {
		time.Sleep(300 * time.Millisecond)
		_ = conn.PgConn().CancelRequest(soon)
	}()
	_, err = conn.Exec(ctx, "SELECT pg_sleep(30)")
	fmt.Println("cancelled", state(err))
	if len(os.Args) > 2 {
		var email string
		must(conn.QueryRow(ctx, "SELECT email FROM customers WHERE id = $1", 1).Scan(&email))
		fmt.Println("masked", email)
		_, err = conn.Exec(ctx, "DROP TABLE orders")
		fmt.Println("refused", state(err))
	}
	must(conn.QueryRow(ctx, "SELECT 42").Scan(&number))
	fmt.Println("alive", number)
	must(conn.Close(ctx))
}
