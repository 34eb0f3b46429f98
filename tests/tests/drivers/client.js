// A bot written for Node with node-postgres, as anybody would write it. See ../drivers.rs for what it prints.
const { Client } = require('pg');

async function main() {
  const [url, guarded] = process.argv.slice(2);
  const client = new Client({ connectionString: url });
  await client.connect();
  const value = async (text, values) => Object.values((await client.query(text, values)).rows[0])[0];
  const state = async (text, values) => client.query(text, values).then(() => 'nothing', (error) => error.code);
  console.log('simple', await value('SELECT 40 + 2'));
  const types = (await client.query(
    'SELECT $1::int8, $2::bool, $3::text AS nothing, $4::text, $5::date::text AS day', [7, true, null, 'é\'"', '2026-11-23'])).rows[0];
  console.log('types', types.int8, types.bool, types.nothing === null, types.text, types.day);
  console.log('error', await state('SELECT 1 / $1::int', [0]));
  await client.query('BEGIN');
  await client.query('INSERT INTO target VALUES ($1)', [99]);
  await client.query('ROLLBACK');
  console.log('rolled back', await value('SELECT count(*) FROM target WHERE id = 99'));
  const rows = (await client.query('SELECT n FROM generate_series(1, $1::int) n', [20000])).rows;
  console.log('rows', rows.length, rows.reduce((sum, row) => sum + row.n, 0));
  const named = { name: 'kept', text: 'SELECT $1::int + 1 AS next' };
  const [first, second] = await Promise.all([1, 2].map((n) => client.query({ ...named, values: [n] })));
  console.log('batch', first.rows[0].next, second.rows[0].next);
  const process_id = await value('SELECT pg_backend_pid()');
  const other = new Client({ connectionString: url });
  await other.connect();
  const sleeping = state('SELECT pg_sleep(30)');
  await new Promise((resolve) => setTimeout(resolve, 300));
  await other.query('SELECT pg_cancel_backend($1)', [process_id]);
  await other.end();
  console.log('cancelled', await sleeping);
  if (guarded) {
    console.log('masked', await value('SELECT email FROM customers WHERE id = $1', [1]));
    console.log('refused', await state('DROP TABLE orders'));
  }
  console.log('alive', await value('SELECT 42'));
  await client.end();
}

main().catch((error) => {
  console.log('failed', error);
  process.exitCode = 1;
});
