-- Every form in which a secret may be in a message: as text, as PostgreSQL's binary formats have it, and as the usual
-- encodings of text show it.
WITH text_forms AS (
  SELECT name, form FROM vault, LATERAL (VALUES
    ('secret', secret), ('code', code::text), ('uid', uid::text), ('raw', substr(raw::text, 3)),
    ('doc', doc ->> 'plate'), ('tag', tags[1]), ('tag', tags[2]), ('who.mail', (who).mail),
    ('who.pin', (who).pin::text), ('others.mail', others[1].mail), ('others.pin', others[1].pin::text),
    ('born', born::text), ('born', to_char(born, 'YYYY-MM-DD"T"HH24:MI:SS')), ('amount', amount::text)) forms (name, form)
), shapes AS (
  SELECT name, 'text' AS shape, convert_to(form, 'UTF8') AS bytes FROM text_forms
  UNION ALL SELECT name, 'reversed', convert_to(reverse(form), 'UTF8') FROM text_forms
  UNION ALL SELECT name, 'upper', convert_to(upper(form), 'UTF8') FROM text_forms
  UNION ALL SELECT name, 'hex', convert_to(encode(convert_to(form, 'UTF8'), 'hex'), 'UTF8') FROM text_forms
  -- Without the last characters, which depend on what follows.
  UNION ALL SELECT name, 'base64', convert_to(left(encode(convert_to(form, 'UTF8'), 'base64'), length(form) / 3 * 4), 'UTF8') FROM text_forms
  UNION ALL SELECT 'secret', 'md5', convert_to(md5(secret), 'UTF8') FROM vault
  UNION ALL SELECT 'code', 'binary', int8send(code) FROM vault
  UNION ALL SELECT 'who.pin', 'binary', int8send((who).pin) FROM vault
  UNION ALL SELECT 'others.pin', 'binary', int8send(others[1].pin) FROM vault
  UNION ALL SELECT 'uid', 'binary', uuid_send(uid) FROM vault
  UNION ALL SELECT 'raw', 'binary', raw FROM vault
  UNION ALL SELECT 'born', 'binary', timestamp_send(born) FROM vault
  -- Without the header, whose weight and scale say little.
  UNION ALL SELECT 'amount', 'binary', substr(numeric_send(amount), 9) FROM vault
)
SELECT DISTINCT name, shape, encode(bytes, 'hex') FROM shapes ORDER BY 1, 2, 3
