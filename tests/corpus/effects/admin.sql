-- Running the server.

-- ## vacuum | admin | table t
-- how: own
VACUUM t
-- ## vacuum full | execute, admin | table t
-- how: own
VACUUM FULL t
-- ## vacuum with options | execute, admin | table t
-- how: own
VACUUM (ANALYZE, FREEZE) t
-- ## vacuum of all | admin
-- how: own
VACUUM
-- ## analyze | execute, admin | table t
ANALYZE t (name)
-- ## analyze of all | execute, admin
ANALYZE
-- ## reindex table | execute, admin | table t
REINDEX TABLE t
-- ## reindex index | execute, admin
REINDEX INDEX t_name
-- ## reindex concurrently | execute, admin | table t
-- how: own
REINDEX TABLE CONCURRENTLY t
-- ## cluster | execute, admin | table t
CLUSTER t USING t_name
-- ## checkpoint | admin
CHECKPOINT
-- ## system setting | admin | setting work_mem
-- how: own
ALTER SYSTEM SET work_mem = '5MB'
-- ## system setting back | admin
-- how: own
ALTER SYSTEM RESET ALL
-- ## database's setting | schema, admin
ALTER DATABASE {database} SET work_mem = '6MB'
-- ## database | schema, admin | database made
-- how: own
CREATE DATABASE made
-- ## drop database | schema, delete, admin | database made
-- how: own
-- after: CREATE DATABASE made
DROP DATABASE made
-- ## database's limit | schema, admin
ALTER DATABASE {database} CONNECTION LIMIT 40
-- ## database's owner | schema, privilege
ALTER DATABASE {database} OWNER TO boss
-- ## load | execute, admin
LOAD 'auto_explain'
-- ## refresh | write, execute | table mv
REFRESH MATERIALIZED VIEW mv
-- ## wal | read, admin
SELECT pg_switch_wal()
-- ## restore point | read, admin
SELECT pg_create_restore_point('x')
-- ## prepared transaction | session, admin, write | table log
-- how: fails, own
BEGIN; INSERT INTO log VALUES ('x'); PREPARE TRANSACTION 'made'
-- ## reindex that runs an index's function | execute, admin | table indexed
REINDEX TABLE indexed
-- ## analyze that runs an index's function | execute, admin | table indexed
ANALYZE indexed
-- ## vacuum full that runs an index's function | execute, admin | table indexed
-- how: own
VACUUM (FULL) indexed
-- ## vacuum the old way | execute, admin | table t
-- how: own
VACUUM FULL VERBOSE ANALYZE t
-- ## reindex of the schema | execute, admin
-- how: own
REINDEX SCHEMA public
-- ## cluster of all | execute, admin
-- how: own
CLUSTER
-- ## log told to turn | read, admin
SELECT pg_rotate_logfile()
-- ## one table's numbers thrown away | read, admin
SELECT pg_stat_reset_single_table_counters('t'::regclass)
-- ## a database's rights to connect | schema, admin
ALTER DATABASE {database} ALLOW_CONNECTIONS true
