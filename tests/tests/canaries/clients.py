"""Runs every channel's client against a relay of its own and prints the very bytes that the server's side sent.

`sys.argv[1]` is the database's URL. Input: the sections of channels.sql. Output, a line each: `bytes CHANNEL<tab>HEX`,
`said CHANNEL<tab>HEX` (what the client printed).
"""

import asyncio, os, re, socket, struct, subprocess, sys, threading
from urllib.parse import urlparse

import asyncpg, psycopg

url = urlparse(sys.argv[1])


class Relay:
    """Passes one channel's connections on, and keeps what comes back."""

    def __init__(self):
        self.heard = bytearray()
        self.threads = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"postgresql://{url.username}@127.0.0.1:{self.port}{url.path}?sslmode=disable&gssencmode=disable"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection((url.hostname, url.port))
            back = threading.Thread(target=self.pump, args=(server, client, True), daemon=True)
            self.threads.append(back)
            back.start()
            threading.Thread(target=self.pump, args=(client, server, False), daemon=True).start()

    def pump(self, source, target, keep):
        try:
            while data := source.recv(65536):
                if keep:
                    self.heard += data
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def finish(self):
        self.listener.close()
        for thread in self.threads:
            thread.join(10)
        return bytes(self.heard)


def run(argv, text=None):
    ran = subprocess.run(argv, input=text, capture_output=True, timeout=30)
    return ran.stdout + ran.stderr


def psql(script):
    def channel(relay):
        return run(["psql", "-X", "-v", "VERBOSITY=verbose", relay.url], script.encode())
    return channel


def dump(*options):
    return lambda relay: run(["pg_dump", "--data-only", "--table=vault", *options, relay.url])


COLUMNS = "secret, code, uid, raw, doc, tags, who, others, born, amount"


def psycopg_rows(binary):
    def channel(relay):
        with psycopg.connect(relay.url, autocommit=True) as conn:
            # Whole values as they came: what a mask put in place of one need not be a value of the type.
            cursor = conn.execute(f"SELECT {COLUMNS} FROM vault WHERE id = %s", [1], binary=binary)
            values = [cursor.pgresult.get_value(0, at) for at in range(cursor.pgresult.nfields)]
            cursor = conn.execute("SELECT v, v::text, secret || '' FROM vault v WHERE id = %s", [1], binary=binary)
            return repr(values + [cursor.pgresult.get_value(0, at) for at in range(3)]).encode()
    return channel


def psycopg_server_cursor(relay):
    with psycopg.connect(relay.url) as conn, conn.cursor(name="c", binary=True) as cursor:
        cursor.execute("SELECT secret AS x, code + 0, uid FROM vault")
        return repr(cursor.fetchall()).encode()


def psycopg_copy(how):
    def channel(relay):
        said = b""
        with psycopg.connect(relay.url, autocommit=True) as conn:
            for what in ("vault", f"(SELECT {COLUMNS} FROM vault)"):
                try:
                    with conn.cursor().copy(f"COPY {what} TO STDOUT (FORMAT {how})") as copy:
                        said += b"".join(bytes(piece) for piece in copy)
                except psycopg.Error as error:
                    said += str(error).encode()
        return said
    return channel


def psycopg_pipeline(relay):
    with psycopg.connect(relay.url, autocommit=True) as conn, conn.pipeline():
        first = conn.execute("SELECT secret FROM vault WHERE id = %s", [1])
        second = conn.execute("SELECT code + 0 FROM vault WHERE id = %s", [1], binary=True)
        return repr((first.fetchall(), second.fetchall())).encode()


def psycopg_errors(relay):
    said = b""
    with psycopg.connect(relay.url, autocommit=True) as conn:
        conn.add_notice_handler(lambda notice: None)
        for sql in ("SELECT secret::int FROM vault WHERE id = %s", "UPDATE vault SET code = -%s", "SELECT shout(), %s"):
            try:
                conn.execute(sql, [1])
            except psycopg.Error as error:
                said += str(error).encode()
    return said


def psycopg_listen(relay):
    with psycopg.connect(relay.url, autocommit=True) as conn:
        conn.execute("LISTEN letters")
        # Another client of the database's, whom the gateway does not see, or whose statement it let through.
        with psycopg.connect(relay.url, autocommit=True) as other:
            other.execute("SELECT pg_notify('letters', secret) FROM vault")
        return repr([note.payload for note in conn.notifies(timeout=10, stop_after=1)]).encode()


def asyncpg_rows(relay):
    async def ask():
        conn = await asyncpg.connect(relay.url.split("?")[0], ssl=False)
        said = []
        for sql in (f"SELECT {COLUMNS} FROM vault WHERE id = $1", "SELECT v FROM vault v WHERE id = $1"):
            try:
                said.append(repr(await conn.fetch(sql, 1)))
            except Exception as error:
                # A driver that knows the type may not take what stands in a value's place.
                said.append(str(error))
        await conn.close()
        return "".join(said).encode()
    return asyncio.run(ask())


def function_call(relay):
    """The fast path, by hand: no driver speaks it."""
    def message(kind, body):
        return kind + struct.pack("!i", len(body) + 4) + body

    with psycopg.connect(relay.url) as conn:
        oid = conn.execute("SELECT 'tell'::regproc::oid::int").fetchone()[0]
    conn = socket.create_connection(("127.0.0.1", relay.port), timeout=10)
    conn.sendall(message(b"", struct.pack("!i", 196608) + b"user\0app\0database\0shop\0\0"))
    heard = bytearray()
    for request in (None, message(b"F", struct.pack("!ihhh", oid, 0, 0, 0))):
        if request:
            conn.sendall(request)
        before = len(heard)
        while not re.search(rb"Z\0\0\0\x05.$", heard[before:], re.S):
            if not (data := conn.recv(65536)):
                break
            heard += data
    conn.close()
    return bytes(heard)


channels = {name: psql(script) for name, script in re.findall(r"^-- channel: (.*)\n((?:(?!-- channel: ).*\n)*)", sys.stdin.read(), re.M)}
channels |= {
    "pg_dump": dump(),
    "pg_dump as inserts": dump("--inserts"),
    "psycopg in text": psycopg_rows(False),
    "psycopg in binary": psycopg_rows(True),
    "psycopg's cursor": psycopg_server_cursor,
    "psycopg copies text": psycopg_copy("text"),
    "psycopg copies csv": psycopg_copy("csv"),
    "psycopg copies binary": psycopg_copy("binary"),
    "psycopg's pipeline": psycopg_pipeline,
    "psycopg's errors": psycopg_errors,
    "psycopg listens": psycopg_listen,
    "asyncpg": asyncpg_rows,
    "function call": function_call,
}
for name, channel in channels.items():
    relay = Relay()
    try:
        said = channel(relay)
    except Exception as error:
        said = f"{type(error).__name__}: {error}".encode()
    print(f"bytes {name}\t{relay.finish().hex()}")
    print(f"said {name}\t{said.hex()}")
print("all done", flush=True)
