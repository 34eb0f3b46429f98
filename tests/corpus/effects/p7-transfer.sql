-- P7: data in bulk, to files, to programs, to other sessions and servers.

-- ## COPY out | read, transfer | table t
COPY t TO STDOUT
-- ## COPY of columns | read, transfer | table t
COPY t (name) TO STDOUT (FORMAT csv, HEADER)
-- ## COPY binary | read, transfer | table t
COPY t TO STDOUT (FORMAT binary)
-- ## COPY of a query | read, transfer | table t
COPY (SELECT name FROM t) TO STDOUT
-- ## COPY in | write, transfer | table t
COPY t FROM STDIN
-- ## COPY in with a predicate | write, transfer | table t
COPY t FROM STDIN WHERE id > 0
-- ## COPY in with code | write, transfer, execute, unknown | table t
-- inside: read, write, transfer
COPY t FROM STDIN WHERE touch(id) > 0
-- ## COPY to a file | read, transfer, admin | table t, file {dir}/out/three
-- how: own
COPY t TO '{dir}/out/three'
-- ## COPY of a query to a file | read, transfer, admin | file {dir}/out/four
-- how: own
COPY (SELECT 1) TO '{dir}/out/four'
-- ## COPY from a file | write, transfer, admin | table log
COPY log FROM '{dir}/PG_VERSION'
-- ## COPY to a program | read, transfer, execute, admin | program cat > {dir}/out/five
-- how: own
COPY t TO PROGRAM 'cat > {dir}/out/five'
-- ## COPY from a program | write, transfer, execute, admin | program echo x
COPY log FROM PROGRAM 'echo x'
-- ## NOTIFY | transfer | channel news
-- how: own
NOTIFY news, 'payload'
-- ## pg_notify | read, transfer | function pg_notify
-- how: own
SELECT pg_notify('news', 'payload')
-- ## pg_notify of data | read, transfer, unknown | function pg_notify
-- how: own
SELECT pg_notify('news', name) FROM t
-- ## LISTEN | session | channel news
LISTEN news
-- ## UNLISTEN | session
UNLISTEN *
-- ## publication | transfer, admin | publication made
CREATE PUBLICATION made FOR TABLE t
-- ## publication changed | transfer, admin | publication news
ALTER PUBLICATION news ADD TABLE t
-- ## publication of everything | transfer, admin | publication made
CREATE PUBLICATION made FOR ALL TABLES
-- ## foreign server | transfer, admin | server made
CREATE SERVER made FOREIGN DATA WRAPPER postgres_fdw
-- ## foreign server changed | transfer, admin | server here
ALTER SERVER here OPTIONS (SET dbname 'other')
-- ## user mapping | privilege, transfer | server here
CREATE USER MAPPING FOR clerk SERVER here OPTIONS (user 'x')
-- ## foreign table | schema, transfer | table made
CREATE FOREIGN TABLE made (a text) SERVER disk OPTIONS (filename '/dev/null')
-- ## foreign table read | read | table version_file
-- inside: read, transfer
SELECT * FROM version_file
-- ## foreign wrapper | transfer, admin
CREATE FOREIGN DATA WRAPPER made
-- ## COPY the old way | read, transfer | table t
COPY t TO STDOUT WITH CSV HEADER
-- ## COPY BINARY the old way | read, transfer | table t
COPY BINARY t TO STDOUT
-- ## COPY of TABLE | read, transfer | table t
COPY (TABLE t) TO STDOUT
-- ## COPY of values | read, transfer
COPY (VALUES (1), (2)) TO STDOUT
-- ## COPY to a file by an escaped name | read, transfer, admin | file {dir}/out/ten
-- how: own
COPY t TO E'{dir}/out/t\x65n'
-- ## COPY of a delete to a file | read, delete, transfer, admin | table u
-- how: own
COPY (DELETE FROM u RETURNING *) TO '{dir}/out/eleven' (FORMAT csv)
-- ## COPY a file's content in | write, transfer, admin | table log
COPY log FROM '/etc/hostname' (FORMAT text)
-- ## a foreign table elsewhere read | read | table far_log
-- how: own
-- beyond: it reaches another server; that the table is a foreign one needs the catalog
-- inside: read, transfer
SELECT * FROM far_log
-- ## a foreign table elsewhere written | write | table far_log
-- how: own
-- beyond: it reaches another server; that the table is a foreign one needs the catalog
-- inside: write, transfer
INSERT INTO far_log VALUES ('x')
-- ## foreign tables by the schema | schema, transfer | server here
-- how: own
IMPORT FOREIGN SCHEMA public LIMIT TO (log) FROM SERVER here INTO evil
-- ## subscription | transfer, admin | subscription made
CREATE SUBSCRIPTION made CONNECTION 'host=127.0.0.1 port={port} dbname=postgres user=postgres' PUBLICATION news WITH (connect = false, slot_name = NONE)
-- ## user mapping changed | privilege, transfer | server here
ALTER USER MAPPING FOR PUBLIC SERVER here OPTIONS (SET user 'x')
-- ## user mapping gone | privilege, transfer | server here
DROP USER MAPPING FOR PUBLIC SERVER here
-- ## foreign table pointed elsewhere | schema, transfer | table version_file
ALTER FOREIGN TABLE version_file OPTIONS (SET filename '/etc/passwd')
-- ## NOTIFY without words | transfer | channel news
-- how: own
NOTIFY "news"
-- ## NOTIFY behind a read | read, transfer | channel news
-- how: own
SELECT 1; NOTIFY news
