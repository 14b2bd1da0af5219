"""What all.sh measures and prints: the server's CPU time and memory, and the table.

The standard library is enough.
"""

import datetime
import http.client
import json
import os
import pathlib
import signal
import ssl
import statistics
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")
# How often the server is looked at, in seconds; the kernel's own count is in ticks of 10 ms.
SAMPLE_S = 0.05


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                queue.extend(int(child) for child in task.read_text().split())
            except OSError:
                pass
    return found


def cpu_s(pids: list[int]) -> float:
    """Their user and system time so far, in seconds; that of all threads."""
    ticks = 0
    for pid in pids:
        # The name before the last bracket may hold spaces.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def peak_bytes(pids: list[int]) -> int:
    """The sum of the most that each of them had resident."""
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) * 1024
    return total


def sample(root: int, out: str) -> None:
    """Writes time, CPU time and peak memory line by line until SIGTERM or the server's end."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    with open(out, "w") as file:
        while not stop:
            try:
                pids = tree(root)
                print(time.time(), cpu_s(pids), peak_bytes(pids), file=file)
            except OSError:
                return
            time.sleep(SAMPLE_S)


def post(port: int, ca: str, token: str, update_id: int) -> int:
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    # A self-made certificate is as its maker left it.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    user = {"id": 1, "is_bot": False, "first_name": "A"}
    update = {"update_id": update_id, "managed_bot": {"user": user, "bot": {**user, "is_bot": True}}}
    headers = {"X-Telegram-Bot-Api-Secret-Token": token, "Content-Type": "application/json"}
    connection.request("POST", "/webhook", json.dumps(update).encode(), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def ready(name: str, port: int, ca: str, token_file: str) -> None:
    """Waits until the server answers, and looks whether it does what is asked of it."""
    token = pathlib.Path(token_file).read_text().strip()
    for _ in range(200):
        try:
            status = post(port, ca, token, 1)
            break
        except OSError as error:
            last = error
            time.sleep(0.05)
    else:
        sys.exit(f"{name} is not ready: {last}")
    if status != 200:
        sys.exit(f"{name} answers an update with {status} instead of 200")
    # nginx looks at nothing but the request line.
    if name != "nginx" and (status := post(port, ca, token + "x", 2)) not in (401, 403):
        sys.exit(f"{name} answers a wrong token with {status}")


def value_at(samples: list[tuple[float, float, int]], at: float) -> float:
    """The CPU time at that moment, on the line between two samples."""
    before = after = samples[0]
    for after in samples:
        if after[0] >= at:
            break
        before = after
    span = after[0] - before[0]
    share = min(max((at - before[0]) / span, 0.0), 1.0) if span > 0 else 0.0
    return before[1] + share * (after[1] - before[1])


def row(name: str, run_file: str, samples_file: str, warmup_s: float) -> None:
    """Puts what the server took into the run's report, and prints the round's figures as JSON."""
    run = json.loads(pathlib.Path(run_file).read_text())
    samples = []
    for line in pathlib.Path(samples_file).read_text().splitlines():
        fields = line.split()
        if len(fields) == 3:
            samples.append((float(fields[0]), float(fields[1]), int(fields[2])))
    start = datetime.datetime.fromisoformat(run["started_at"].replace("Z", "+00:00")).timestamp()
    # Whole seconds of the series after the warm-up: handshakes and first requests are not in them.
    counted = [s for s in run["series"] if s["at_s"] > warmup_s + 0.5]
    skipped = [s for s in run["series"] if s["at_s"] <= warmup_s + 0.5]
    if not samples or not counted:
        sys.exit(f"{name}: the run was too short to measure")
    begins, ends = (skipped[-1]["at_s"] if skipped else 0.0), counted[-1]["at_s"]
    answered = sum(s["acknowledged"] + s["refused"] for s in counted)
    used = value_at(samples, start + ends) - value_at(samples, start + begins)
    peak = max(each[2] for each in samples)
    cpu_us = used * 1e6 / max(answered, 1)
    run["server_cpu_us_per_update"] = cpu_us
    run["server_memory_peak_bytes"] = peak
    pathlib.Path(run_file).write_text(json.dumps(run))
    latency = run["latency_us"]
    figures = {
        "name": name,
        "file": run_file,
        "per_s": answered / (ends - begins),
        "cpu_us": cpu_us,
        "cpu_share": used / (ends - begins),
        **{key: latency[key] for key in ("p50", "p99", "p99.9")},
        "peak_mib": peak / 2**20,
        "errors": run["planned"] - run["acknowledged"],
        "warnings": run["warnings"],
    }
    print(json.dumps(figures))


COLUMNS = [
    # key, heading, width, decimals, whether the ratio is told
    ("per_s", "updates/s", 10, 0, True),
    ("cpu_us", "cpu us", 8, 2, True),
    ("p50", "p50 us", 9, 0, True),
    ("p99", "p99 us", 9, 0, True),
    ("p99.9", "p99.9 us", 9, 0, True),
    ("peak_mib", "peak MiB", 9, 1, True),
    ("cpu_share", "cpu", 5, 2, False),
    ("errors", "errors", 7, 0, False),
]


def of(rows: list[dict], name: str) -> list[dict]:
    return [each for each in rows if each["name"] == name]


def table(rows_file: str, names: list[str]) -> None:
    """The medians of all rounds, and what they are of the first subject's."""
    rows = [json.loads(line) for line in pathlib.Path(rows_file).read_text().splitlines()]
    heading = f"{'server':<9}"
    for _, title, width, _, ratio in COLUMNS:
        heading += f"{title:>{width}}" + ("      x" if ratio else "")
    print(heading)
    base = {key: statistics.median(each[key] for each in of(rows, names[0])) for key, *_ in COLUMNS}
    for name in names:
        line = f"{name:<9}"
        for key, _, width, decimals, ratio in COLUMNS:
            value = statistics.median(each[key] for each in of(rows, name))
            line += f"{value:>{width}.{decimals}f}"
            if ratio:
                line += f"{value / base[key]:>7.2f}" if base[key] else "      -"
        print(line)
    rounds = len(of(rows, names[0]))
    print(f"medians of {rounds} round{'s'[:rounds > 1]}; x: ratio to {names[0]}; cpu us: the server's for an update")
    for name in names:
        warned = sorted({warning for each in of(rows, name) for warning in each["warnings"]})
        for warning in warned[:1]:
            print(f"{name}: {warning}")


def middle(rows_file: str, name: str) -> None:
    """The report of the round whose CPU time is the (lower) median: the one for the page."""
    rows = [json.loads(line) for line in pathlib.Path(rows_file).read_text().splitlines()]
    mine = sorted(of(rows, name), key=lambda each: each["cpu_us"])
    print(mine[(len(mine) - 1) // 2]["file"])


def main() -> None:
    verb, *words = sys.argv[1:]
    match verb:
        case "ready":
            ready(words[0], int(words[1]), words[2], words[3])
        case "sample":
            sample(int(words[0]), words[1])
        case "row":
            row(words[0], words[1], words[2], float(words[3]))
        case "table":
            table(words[0], words[1:])
        case "middle":
            middle(words[0], words[1])
        case _:
            sys.exit(f"no such verb: {verb}")


main()
