-- P1: several statements in one text, and what hides that there are several.

-- ## two statements | read, delete | table u
SELECT 1; DELETE FROM u
-- ## empty statements between | read, delete | table u
SELECT 1;;; DELETE FROM u;
-- ## after E'' with an escaped quote | read, delete | table u
SELECT E'\''; DELETE FROM u; --'
-- ## after E'' with an escaped backslash | read, delete | table u
SELECT E'\\'; DELETE FROM u; --'
-- ## inside E'' | read
SELECT E'\'; DELETE FROM u; --'
-- ## a backslash is no escape | read, delete | table u
SELECT '\'; DELETE FROM u; --'
-- ## a backslash is an escape | read
-- how: off
SELECT '\'; DELETE FROM u; --'
-- ## two backslashes are one | read, delete | table u
-- how: off
SELECT '\\'; DELETE FROM u; --'
-- ## inside a dollar quote | read
SELECT $$; DELETE FROM u; $$
-- ## tags of dollar quotes nest | read, delete | table u
SELECT $a$ $b$ $a$; DELETE FROM u; SELECT $b$ $b$
-- ## another tag does not end it | read
SELECT $a$ $b$; DELETE FROM u; $a$
-- ## after U&'' | read, delete | table u
SELECT U&'\0027'; DELETE FROM u; --'
-- ## after U&'' with UESCAPE | read, delete | table u
SELECT U&'!0027' UESCAPE '!'; DELETE FROM u
-- ## nested comment hides it | read
SELECT 1 /* /* */ ; DELETE FROM u; */
-- ## nested comment ends before | read, delete | table u
SELECT 1 /* /* */ */ ; DELETE FROM u
-- ## a quote in a comment | read, delete | table u
SELECT 1 /* ' */; DELETE FROM u --'
-- ## a quote in a line comment | read, delete | table u
SELECT 1 -- '
; DELETE FROM u
-- ## comments in front | read, delete | table u
/* only reads */ SELECT 1; DELETE FROM u
-- ## in a quoted name | read
SELECT 1 AS "a; DELETE FROM u; --"
-- ## quoted name with a quote in it | read, delete | table u
SELECT 1 AS "x""; --"; DELETE FROM u
-- ## strings that continue on the next line | read, delete | table u
SELECT 'a'
 'b'; DELETE FROM u
-- ## doubled quote | read
SELECT 'a''; DELETE FROM u; --'
-- ## bit strings | read, delete | table u
SELECT B'1', X'FF', N'a'; DELETE FROM u
-- ## the setting changes for later texts only | session, delete, read | table u
SET standard_conforming_strings = off; SELECT '\'; DELETE FROM u; --'
-- ## case of keywords | delete | table u
dElEtE fRoM U
-- ## a carriage return ends no statement | read, write | table t
SELECT 1; UPDATE t SET total = 0
-- ## three of different kinds | read, write, schema | table log, table made
INSERT INTO log VALUES ('a'); SELECT 1; CREATE TABLE made (id int)
-- ## nothing at all | none
;
-- ## a comment alone | none
-- DELETE FROM u
-- ## a small e | read, delete | table u
SELECT e'\''; DELETE FROM u; --'
-- ## an odd number of backslashes | read, delete | table u
SELECT E'\\\''; DELETE FROM u; --'
-- ## an escape by its number | read, delete | table u
SELECT E'\x27'; DELETE FROM u; --'
-- ## an escape by its number hides nothing | read
SELECT E'\047; DELETE FROM u; --'
-- ## a quote in a dollar quote | read, delete | table u
SELECT $$'$$; DELETE FROM u; --'
-- ## a tag with a number in it | read, delete | table u
SELECT $_1$ $$ $_1$; DELETE FROM u
-- ## a dollar in a name is no quote | read, delete | table u
SELECT 1 AS a$b; DELETE FROM u; SELECT 2 AS a$b
-- ## a comment's start in a string | read, delete | table u
SELECT '/*'; DELETE FROM u; SELECT '*/'
-- ## a comment's start in a line comment | read, delete | table u
SELECT 1 -- /*
; DELETE FROM u -- */
-- ## a line comment in a comment | read, delete | table u
SELECT 1 /* -- */; DELETE FROM u
-- ## a comment in place of a space | delete | table u
DELETE/**/FROM/* */u
-- ## an operator that eats a comment's start | read, delete | table u
SELECT 1 +/* + */ 2; DELETE FROM u
-- ## U&"" with a semicolon in it | read
SELECT 1 AS U&"a\003b DELETE FROM u"
-- ## quoted words | delete | table u
DELETE FROM "u"
-- ## an escaped name | delete | table u
DELETE FROM U&"\0075"
-- ## a full name, spread out | delete | table public.u
DELETE FROM public . /* */ "u"
-- ## ONLY and a star | delete | table u
DELETE FROM ONLY (u)
-- ## an alias of another table's name | delete | table u
DELETE FROM u AS t WHERE t.id = 1
