-- P12: leaving a wrapper.

-- ## leaves the transaction and deletes | session, delete | table u
-- how: own
COMMIT; DELETE FROM u
-- ## comment in front | session, delete | table u
-- how: own
/* read only */ COMMIT; DELETE FROM u; BEGIN READ ONLY
-- ## end and drop | session, schema, delete | table archive
-- how: own
END; DROP TABLE archive
-- ## rollback and delete | session, delete | table u
-- how: own
ROLLBACK; DELETE FROM u
-- ## abort and write | session, write | table log
-- how: own
ABORT; INSERT INTO log VALUES ('x')
-- ## begin read only, then leave it | session, delete | table u
-- how: own
BEGIN READ ONLY; SET TRANSACTION READ WRITE; DELETE FROM u; COMMIT
-- ## begin | session
-- how: own
BEGIN
-- ## start | session
-- how: own
START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY
-- ## read only refuses | session, delete | table u
-- how: fails
SET TRANSACTION READ ONLY; DELETE FROM u
-- ## characteristics | session
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY
-- ## default read only | session
SET default_transaction_read_only = on
-- ## savepoint, delete, back | session, delete | table u
SAVEPOINT a; DELETE FROM u; ROLLBACK TO a
-- ## savepoint, delete, release | session, delete | table u
SAVEPOINT a; DELETE FROM u; RELEASE a
-- ## and chain | session, write | table log
-- how: own
BEGIN; INSERT INTO log VALUES ('x'); COMMIT AND CHAIN
-- ## two texts' worth of transactions | session, write, delete | table u, table log
-- how: own
BEGIN; DELETE FROM u; ROLLBACK; BEGIN; INSERT INTO log VALUES ('x'); COMMIT
-- ## an implicit transaction undone by an error | read, delete | table u
-- how: own, fails
DELETE FROM u; SELECT 1/0
-- ## an explicit one outlives it | session, read, delete | table u
-- how: own, fails
BEGIN; DELETE FROM u; COMMIT; SELECT 1/0
