-- Rights: who may do what, and as whom.

-- ## grant on a table | privilege | table archive, role clerk
GRANT SELECT ON archive TO clerk
-- ## grant on a column | privilege | table t
GRANT UPDATE (name) ON t TO clerk
-- ## grant on a schema | privilege
GRANT CREATE ON SCHEMA public TO clerk
-- ## grant on everything | privilege
GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk
-- ## grant on a function | privilege
GRANT EXECUTE ON FUNCTION wipe() TO clerk
-- ## grant on a large object | privilege
GRANT SELECT ON LARGE OBJECT 4242 TO clerk
-- ## grant on the database | privilege
GRANT CREATE ON DATABASE shared TO clerk
-- ## grant on a server | privilege
GRANT USAGE ON FOREIGN SERVER here TO clerk
-- ## revoke | privilege | table t
REVOKE SELECT ON t FROM clerk
-- ## revoke from all | privilege
REVOKE ALL ON SCHEMA public FROM public
-- ## membership | privilege | role clerk
GRANT boss TO clerk
-- ## membership with admin | privilege
GRANT boss TO clerk WITH ADMIN OPTION
-- ## a role of the server's | privilege | role clerk
GRANT pg_read_all_data TO clerk
-- ## role | privilege | role made
CREATE ROLE made SUPERUSER
-- ## user | privilege | role made
CREATE USER made PASSWORD 'x'
-- ## group | privilege | role made
CREATE GROUP made USER clerk
-- ## password | privilege | role clerk
ALTER ROLE clerk PASSWORD 'x'
-- ## superuser | privilege | role clerk
ALTER ROLE clerk SUPERUSER
-- ## role's setting | privilege | role clerk
ALTER ROLE clerk SET search_path = evil
-- ## role renamed | schema, privilege
ALTER ROLE clerk RENAME TO made
-- ## drop role | privilege
DROP ROLE spare
-- ## default privileges | privilege
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO clerk
-- ## policy | schema, privilege | table t
CREATE POLICY made ON t USING (true)
-- ## policy changed | schema, privilege | table guarded
ALTER POLICY own ON guarded USING (true)
-- ## policy renamed | schema, privilege | table guarded
ALTER POLICY own ON guarded RENAME TO made
-- ## reassign | schema, privilege
REASSIGN OWNED BY clerk TO boss
-- ## drop owned | schema, delete, privilege
DROP OWNED BY clerk
-- ## security definer | schema, privilege | function wipe
ALTER FUNCTION wipe() SECURITY DEFINER
-- ## function's setting | schema, privilege, session | function wipe
ALTER FUNCTION wipe() SET search_path = evil
-- ## leakproof | schema, privilege | function touch
ALTER FUNCTION touch() LEAKPROOF
-- ## schema's owner | schema, privilege
ALTER SCHEMA evil OWNER TO boss
-- ## function's owner | schema, privilege
ALTER FUNCTION wipe_as_owner() OWNER TO boss
-- ## view's owner | schema, privilege
ALTER VIEW v OWNER TO boss
-- ## large object's owner | schema, privilege
ALTER LARGE OBJECT 4242 OWNER TO boss
-- ## type's owner | schema, privilege
ALTER TYPE mood OWNER TO boss
-- ## function with a setting of its own | schema, privilege, session
CREATE FUNCTION made() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = evil AS 'SELECT 1'
-- ## function of somebody's rights replaced | schema | function wipe_as_owner
-- beyond: it ran as its owner and no longer does; only the catalog has the definition that it replaces
-- still: what is replaced is not looked at
CREATE OR REPLACE FUNCTION wipe_as_owner() RETURNS void LANGUAGE sql AS 'SELECT'
