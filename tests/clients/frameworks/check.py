"""Compares what a bot has handled with what was sent to it.

    python3 check.py bot.log sent.txt [--once]

Both files have lines of `update_id kind chat`. Fails where an update is missing, where updates of a
chat were handled in another order than they were sent in, and with `--once` where one was handled
more than once.
"""

import argparse
import collections
import json
import sys


def read(path):
    with open(path) as file:
        rows = [line.split() for line in file if line.endswith("\n")]
    return [(int(update_id), kind, chat) for update_id, kind, chat in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log")
    parser.add_argument("sent")
    parser.add_argument("--once", action="store_true")
    args = parser.parse_args()
    sent = {update_id: (kind, chat) for update_id, kind, chat in read(args.sent)}
    handled = read(args.log)
    times = collections.Counter(update_id for update_id, _, _ in handled)
    missing = [f"{update_id} {sent[update_id][0]}" for update_id in sent if not times[update_id]]
    more = [update_id for update_id, count in times.items() if count > 1]
    strange = [row for row in handled if sent.get(row[0]) != row[1:]]
    # The first time counts: a copy that comes later is no disorder.
    last, seen, disorder = {}, set(), []
    for update_id, _, chat in handled:
        if update_id in seen or chat == "-":
            continue
        seen.add(update_id)
        if update_id < last.get(chat, 0):
            disorder.append(f"{update_id} after {last[chat]} in {chat}")
        last[chat] = max(update_id, last.get(chat, 0))
    report = {
        "sent": len(sent),
        "kinds": len({kind for kind, _ in sent.values()}),
        "chats": len({chat for _, chat in sent.values()}),
        "handled": len(handled),
        "missing": len(missing),
        "more_than_once": len(more),
        "out_of_order": len(disorder),
        "other_kind_or_chat": len(strange),
        "examples": [*missing[:5], *more[:5], *disorder[:5], *strange[:5]],
    }
    print(json.dumps(report, indent=1))
    sys.exit(bool(missing or disorder or strange or (args.once and more)))


if __name__ == "__main__":
    main()
