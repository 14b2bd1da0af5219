"""A worker on a stream of Redis or Valkey: each update in its order, across restarts.

    python3 redis_worker.py redis://127.0.0.1:6379 'tg:{shop:0}'

A stream has one worker, so that the updates of a chat stay in order; several streams, by `shards`,
have one each. An update that was not finished when a worker ended comes first to the next one.
"""

import json
import sys
import time

import redis

GROUP = WORKER = "bot"


def handle(update):
    print(update["update_id"], flush=True)


def work(server, stream):
    try:
        server.xgroup_create(stream, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise
    # First what the worker before this one has got and not finished, then what is new.
    start = "0"
    while True:
        found = server.xreadgroup(GROUP, WORKER, {stream: start}, count=100, block=2000)
        records = found[0][1] if found else []
        for number, fields in records:
            handle(json.loads(fields[b"update"]))
            # A stream keeps what is read until it is deleted.
            server.pipeline().xack(stream, GROUP, number).xdel(stream, number).execute()
        if not records:
            start = ">"


def main(url, stream):
    server = redis.Redis.from_url(url, protocol=2, socket_timeout=10)
    while True:
        try:
            work(server, stream)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            print(error, file=sys.stderr)
            time.sleep(0.5)


if __name__ == "__main__":
    main(*sys.argv[1:])
