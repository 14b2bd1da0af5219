"""A worker on a table of PostgreSQL: each update in the order of its chat, across restarts.

    python3 postgres_worker.py postgres://bot@127.0.0.1/bots ringhook_updates

Any number of workers may run. An update is locked while one is at it, and the next one of its chat
is not taken before it is done. What was not finished when a worker ended goes to another.
"""

import sys
import time

import psycopg
from psycopg import sql

# The oldest update that waits, of a chat where none before it waits.
NEXT = """
SELECT id, update FROM {table} AS it WHERE done IS NULL AND NOT EXISTS (
    SELECT FROM {table} AS earlier
    WHERE earlier.bot = it.bot AND earlier.chat = it.chat AND earlier.done IS NULL
        AND earlier.id < it.id
) ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
"""
# Rows stay for a day, so that a copy of an update is known as one.
DONE = "UPDATE {table} SET done = now() WHERE id = %s"
OLD = "DELETE FROM {table} WHERE done < now() - interval '1 day'"


def handle(update):
    print(update["update_id"], flush=True)


def work(server, table):
    take, done, old = (sql.SQL(it).format(table=sql.Identifier(table)) for it in (NEXT, DONE, OLD))
    cleaned = 0
    while True:
        with server.transaction():
            row = server.execute(take).fetchone()
            if row:
                handle(row[1])
                server.execute(done, (row[0],))
        if not row:
            time.sleep(0.2)
        if time.monotonic() - cleaned > 600:
            server.execute(old)
            cleaned = time.monotonic()


def main(url, table):
    while True:
        try:
            with psycopg.connect(url, connect_timeout=10, autocommit=True) as server:
                work(server, table)
        except psycopg.OperationalError as error:
            print(error, file=sys.stderr)
            time.sleep(0.5)


if __name__ == "__main__":
    main(*sys.argv[1:])
