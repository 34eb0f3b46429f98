-- The witnesses: what they tell must not depend on anything that the classifier knows.

CREATE SCHEMA witness;
GRANT USAGE ON SCHEMA witness TO PUBLIC;

-- Rows of every table, values of every sequence.
CREATE FUNCTION witness.contents() RETURNS TABLE (kind text, key text, value text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET row_security = off AS $$
DECLARE
    one record;
    list text;
BEGIN
    FOR one IN
        SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'witness', 'pg_toast')
    LOOP
        kind := CASE one.relkind WHEN 'S' THEN 'sequence' WHEN 'm' THEN 'view' ELSE 'rows' END;
        key := replace(one.name, 'public.', '');
        list := CASE one.relkind WHEN 'S' THEN 'last_value || '' '' || is_called' ELSE 'x::text' END;
        BEGIN
            EXECUTE format('SELECT coalesce(string_agg(%s, chr(30) ORDER BY 1), '''') FROM (SELECT * FROM %s x) x', list, one.name)
            INTO value;
        EXCEPTION WHEN object_not_in_prerequisite_state THEN
            value := 'unpopulated';
        END;
        RETURN NEXT;
    END LOOP;
END $$;

-- What this transaction did to each table.
CREATE FUNCTION witness.statistics() RETURNS TABLE (kind text, key text, value text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT k, CASE WHEN schemaname = 'public' THEN relname ELSE schemaname || '.' || relname END, v::text
    FROM pg_stat_xact_all_tables,
        LATERAL (VALUES ('inserted', n_tup_ins), ('updated', n_tup_upd), ('deleted', n_tup_del),
            ('scanned', seq_scan + coalesce(idx_scan, 0))) AS x (k, v)
    WHERE v > 0 AND schemaname NOT IN ('witness', 'pg_toast', 'information_schema')
        AND (k <> 'scanned' OR schemaname <> 'pg_catalog')
$$;

-- Catalogs, session and locks.
CREATE FUNCTION witness.state(path text) RETURNS TABLE (kind text, key text, value text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT 'rights', 'relation ' || oid, concat_ws(' ', relowner, relacl, relrowsecurity, relforcerowsecurity)
        FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'v', 'm', 'S', 'p', 'f')
    UNION ALL SELECT 'storage', 'relation ' || oid, concat_ws(' ', pg_relation_filenode(oid), relpages, reltuples, relfrozenxid)
        FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'm', 'i')
    UNION ALL SELECT 'rights', 'function ' || oid, concat_ws(' ', proowner, proacl, prosecdef, proconfig)
        FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT 'rights', 'schema ' || oid, concat_ws(' ', nspowner, nspacl) FROM pg_namespace
    UNION ALL SELECT 'rights', 'type ' || oid, concat_ws(' ', typowner, typacl) FROM pg_type WHERE oid >= 16384
    UNION ALL SELECT 'rights', 'column ' || attrelid || ' ' || attnum, attacl::text FROM pg_attribute WHERE attrelid >= 16384
    UNION ALL SELECT 'rights', 'database ' || oid, concat_ws(' ', datdba, datacl) FROM pg_database
    UNION ALL SELECT 'rights', 'large object ' || oid, concat_ws(' ', lomowner, lomacl) FROM pg_largeobject_metadata
    UNION ALL SELECT 'rights', 'server ' || oid, concat_ws(' ', srvowner, srvacl) FROM pg_foreign_server
    UNION ALL SELECT 'grants', 'role ' || oid, a::text FROM pg_authid a
    UNION ALL SELECT 'grants', 'member ' || roleid || ' ' || member, m::text FROM pg_auth_members m
    UNION ALL SELECT 'grants', 'default ' || oid, d::text FROM pg_default_acl d
    UNION ALL SELECT 'grants', 'policy ' || oid, p::text FROM pg_policy p
    UNION ALL SELECT 'grants', 'setting ' || setdatabase || ' ' || setrole, s::text FROM pg_db_role_setting s WHERE setrole <> 0
    UNION ALL SELECT 'operation', 'setting of database ' || setdatabase, s::text FROM pg_db_role_setting s WHERE setrole = 0
    UNION ALL SELECT 'operation', 'database ' || datname, concat_ws(' ', datallowconn, datconnlimit, datistemplate) FROM pg_database
    UNION ALL SELECT 'operation', 'tablespace ' || spcname, '' FROM pg_tablespace
    UNION ALL SELECT 'operation', 'extension ' || extname, extversion FROM pg_extension
    UNION ALL SELECT 'operation', 'event trigger ' || evtname, evtenabled::text FROM pg_event_trigger
    UNION ALL SELECT 'operation', 'language ' || lanname, '' FROM pg_language
    UNION ALL SELECT 'operation', 'trigger ' || oid, tgenabled::text FROM pg_trigger
    UNION ALL SELECT 'operation', 'rule ' || oid, ev_enabled::text FROM pg_rewrite
    UNION ALL SELECT 'operation', 'prepared transaction ' || gid, '' FROM pg_prepared_xacts
    UNION ALL SELECT 'road', 'slot ' || slot_name, concat_ws(' ', restart_lsn, confirmed_flush_lsn) FROM pg_replication_slots
    UNION ALL SELECT 'road', 'origin ' || roname, '' FROM pg_replication_origin
    UNION ALL SELECT 'road', 'publication ' || oid, p::text FROM pg_publication p
    UNION ALL SELECT 'road', 'published ' || oid, p::text FROM pg_publication_rel p
    UNION ALL SELECT 'road', 'server ' || oid, srvoptions::text FROM pg_foreign_server
    UNION ALL SELECT 'road', 'wrapper ' || oid, fdwoptions::text FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'road', 'user mapping ' || umid, umoptions::text FROM pg_user_mappings
    UNION ALL SELECT 'road', 'connection ' || c, '' FROM unnest(public.dblink_get_connections()) c
    UNION ALL SELECT 'road', 'foreign ' || server_name, '' FROM public.postgres_fdw_get_connections()
    UNION ALL SELECT 'session', 'setting ' || name, setting FROM pg_settings WHERE source = 'session' AND name <> 'search_path'
    UNION ALL SELECT 'session', 'search_path', path
    UNION ALL SELECT 'session', 'setting app.tenant', current_setting('app.tenant', true)
    UNION ALL SELECT 'session', 'prepared ' || name, statement FROM pg_prepared_statements WHERE name <> ''
    UNION ALL SELECT 'session', 'cursor ' || name, '' FROM pg_cursors WHERE name <> ''
    UNION ALL SELECT 'session', 'channel ' || c, '' FROM pg_listening_channels() c
    UNION ALL SELECT 'who', 'role', current_setting('role')
    UNION ALL SELECT 'who', 'user', session_user::text
    UNION ALL SELECT CASE locktype WHEN 'advisory' THEN 'session' ELSE 'lock' END,
            concat_ws(' ', locktype, relation::regclass::text, classid, objid, mode), ''
        FROM pg_locks l WHERE pid = pg_backend_pid() AND granted
            AND (locktype = 'advisory'
                OR locktype = 'relation' AND relation >= 16384 AND mode NOT IN ('AccessShareLock', 'RowShareLock'))
    UNION ALL SELECT 'transaction', 'wrote', 'yes' WHERE pg_current_xact_id_if_assigned() IS NOT NULL
$$;

-- Every command that defines something, and every thing dropped, is said on the spot: a failure later takes nothing back.
CREATE FUNCTION witness.command() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    RAISE INFO 'witness: command %', tg_tag;
END $$;
CREATE FUNCTION witness.gone() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT object_type FROM pg_event_trigger_dropped_objects() LOOP
        RAISE INFO 'witness: dropped %', one.object_type;
    END LOOP;
END $$;
CREATE EVENT TRIGGER witness_command ON ddl_command_end EXECUTE FUNCTION witness.command();
CREATE EVENT TRIGGER witness_gone ON sql_drop EXECUTE FUNCTION witness.gone();
