"""What all.sh, compare.sh and table.sh measure: the server's CPU time and memory; and the tables of the
first two.

The standard library is enough.
"""

import datetime
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import time

# How often the server is looked at, in seconds.
SAMPLE_S = 0.05
# The least of its CPU that a server must have used in a closed loop, or something else was the
# bottleneck: the generator, or another process that took the CPU away.
SATURATED = 0.95
# The least of its CPU for a generator to have been the bottleneck.
BUSY = 0.8
# The share of a CPU above which stolen time is told.
STOLEN = 0.02
# The kernel's number for the clock of a process: all of its threads, those that have ended too.
CPU_CLOCK = 2


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
    """Their user and system time so far, in seconds; that of all threads, to the nanosecond: the same
    count as that of /proc/PID/stat, which gives it in ticks of 10 ms."""
    return sum(time.clock_gettime_ns(~pid << 3 | CPU_CLOCK) for pid in pids) / 1e9


def stolen_s() -> float:
    """The time that the machine below took from all CPUs so far, in seconds."""
    fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pids: list[int]) -> int:
    """The sum of the most that each of them had resident."""
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) * 1024
    return total


def switches(pids: list[int]) -> int:
    """How often their threads have been taken from a CPU so far, because they waited or had to."""
    total = 0
    for pid in pids:
        for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
            try:
                found = re.findall(r"ctxt_switches:\s+(\d+)", status.read_text())
            except OSError:
                # The thread has ended.
                continue
            total += sum(int(count) for count in found)
    return total


class Counter:
    """How many requests nginx's stub_status has seen, those to itself left out."""

    def __init__(self, port: str):
        self.connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=5) if port else None
        self.own = 0

    def read(self) -> int:
        """0 where there is none to ask."""
        if self.connection is None:
            return 0
        self.connection.request("GET", "/status")
        text = self.connection.getresponse().read().decode()
        self.own += 1
        return int(text.splitlines()[2].split()[2]) - self.own


def sample(root: int, out: str, counter_port: str) -> None:
    """Writes time, CPU time, peak memory, stolen time, context switches and what a backend has got, line
    by line until SIGTERM or the server's end."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    counter = Counter(counter_port)
    with open(out, "w", buffering=1) as file:
        while not stop:
            try:
                pids = tree(root)
                peak, switched, passed = peak_bytes(pids), switches(pids), counter.read()
                # Last of all, so that time and CPU time belong together.
                print(time.time(), cpu_s(pids), peak, stolen_s(), switched, passed, file=file)
            except OSError:
                return
            time.sleep(SAMPLE_S)


def read_samples(file: str) -> list[tuple[float, ...]]:
    lines = [line.split() for line in pathlib.Path(file).read_text().splitlines()]
    # The last one may have been cut.
    return [tuple(float(field) for field in fields) for fields in lines if len(fields) == 6]


def passed_on(samples_file: str) -> None:
    """Waits until nothing has been passed on for half a second."""
    quiet = int(0.5 / SAMPLE_S)
    for _ in range(1200):
        counts = [each[5] for each in read_samples(samples_file)[-quiet:]]
        if len(counts) == quiet and counts[0] == counts[-1]:
            return
        time.sleep(2 * SAMPLE_S)
    sys.exit("updates are still being passed on after minutes")


def listening(port: int) -> None:
    """Waits until a server takes connections."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError as error:
            last = error
            time.sleep(0.05)
    sys.exit(f"port {port}: {last}")


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
    # Those with a fixed answer look at nothing but the request line, and the proxies leave that to the backend.
    looks = name not in ("nginx", "haproxy", "caddy", "h2o") and not name.startswith("proxy-")
    if looks and (status := post(port, ca, token + "x", 2)) not in (401, 403):
        sys.exit(f"{name} answers a wrong token with {status}")


def value_at(samples: list[tuple[float, ...]], at: float, column: int = 1) -> float:
    """The CPU time, or another column, at that moment, on the line between two samples."""
    before = after = samples[0]
    for after in samples:
        if after[0] >= at:
            break
        before = after
    span = after[0] - before[0]
    share = min(max((at - before[0]) / span, 0.0), 1.0) if span > 0 else 0.0
    return before[column] + share * (after[column] - before[column])


def started(run: dict) -> float:
    """When a run began, in seconds since 1970."""
    at = datetime.datetime.fromisoformat(run["started_at"].replace("Z", "+00:00"))
    return at.timestamp()


def row(name: str, run_file: str, samples_file: str, warmup_s: float) -> None:
    """Puts what the server took into the run's report, and prints the round's figures as JSON."""
    run = json.loads(pathlib.Path(run_file).read_text())
    samples = read_samples(samples_file)
    start = started(run)
    # Whole seconds of the series after the warm-up: handshakes and first requests are not in them.
    counted = [s for s in run["series"] if s["at_s"] > warmup_s + 0.5]
    skipped = [s for s in run["series"] if s["at_s"] <= warmup_s + 0.5]
    if not samples or not counted:
        sys.exit(f"{name}: the run was too short to measure")
    begins, ends = (skipped[-1]["at_s"] if skipped else 0.0), counted[-1]["at_s"]
    answered = sum(s["acknowledged"] + s["refused"] for s in counted)
    updates, until = answered, start + ends
    if samples[-1][5]:
        # To the end of what is passed on. Where that lags behind the answers, some updates were answered
        # before the window and passed on in it, so that they count by half.
        until = next(each[0] for each in samples if each[5] == samples[-1][5])
        until = max(until, start + ends)
        late = sum(s["acknowledged"] + s["refused"] for s in run["series"] if s["at_s"] > ends)
        passed = samples[-1][5] - value_at(samples, start + begins, 5)
        updates = (answered + late + passed) / 2
    used = value_at(samples, until) - value_at(samples, start + begins)
    switched = value_at(samples, until, 4) - value_at(samples, start + begins, 4)
    peak = int(max(each[2] for each in samples))
    cpu_us = used * 1e6 / max(updates, 1)
    run["server_cpu_us_per_update"] = cpu_us
    run["server_memory_peak_bytes"] = peak
    pathlib.Path(run_file).write_text(json.dumps(run))
    share = (value_at(samples, start + ends) - value_at(samples, start + begins)) / (ends - begins)
    busy = (run["cpu_user_s"] + run["cpu_system_s"]) / run["duration_s"]
    if run["rate_asked_per_s"] is None and share < SATURATED:
        why = f"the generator had {busy:.0%} of its own"
        if busy < BUSY:
            why += ", so both waited for something else"
        run["warnings"].append(f"the server had only {share:.0%} of its CPU; {why}")
    stolen = (samples[-1][3] - samples[0][3]) / (samples[-1][0] - samples[0][0])
    if stolen > STOLEN:
        run["warnings"].append(f"{stolen:.0%} of a CPU was stolen by the machine's other guests")
    latency = run["latency_us"]
    figures = {
        "name": name,
        "file": run_file,
        "per_s": answered / (ends - begins),
        "cpu_us": cpu_us,
        "cpu_share": share,
        "switches": switched / max(updates, 1),
        "generator_cpu_us": run["cpu_us_per_request"],
        "generator_share": busy,
        "full": run["handshakes_full"],
        "resumed": run["handshakes_resumed"],
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
    warn(rows, names)


def tag(part: str) -> None:
    """Says of a round's figures which part of table.sh they are for."""
    print(json.dumps({"part": part, **json.load(sys.stdin)}))


def note(part: str, key: str, value: str) -> None:
    print(json.dumps({"part": part, "name": key, "value": value}))


def tested(part: str, ok: str, log_file: str) -> None:
    """What a test came to, with the lines that it printed beside those of the test runner."""
    runner = re.compile(r"(running \d+ tests?|test result: .*|\.+|test .* \.\.\. .*)?")
    log = pathlib.Path(log_file).read_text().splitlines()
    # The runner marks tests by dots and letters in front of what they print.
    lines = [re.sub(r"^[.iF]+(?=io-uring|epoll)", "", line.strip()) for line in log]
    said = [line for line in lines if not runner.fullmatch(line)]
    ran = sum(int(count) for count in re.findall(r"test result: \w+\. (\d+) passed", "\n".join(log)))
    print(json.dumps({"part": part, "name": "test", "ok": ok == "yes", "ran": ran, "said": said}))


def memory(name: str, kind: str, log_file: str) -> None:
    """What the generator found each idle connection to cost."""
    log = pathlib.Path(log_file).read_text()
    each = re.search(r"grew from \d+ to \d+ KiB, ([\d.]+) KiB each", log)
    held = re.search(r"(\d+) silent connections, (\d+) still open", log)
    if not each or not held or held[1] != held[2]:
        sys.exit(f"{name}: not all idle connections stayed open:\n{log}")
    print(json.dumps({"part": kind, "name": name, "kib": float(each[1]), "connections": int(held[1])}))


def calls(root: int, seconds: int, out: str) -> None:
    """Counts the system calls of a process and its children for a while."""
    pids = ",".join(str(pid) for pid in tree(root))
    command = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter,duration_time", "-p", pids]
    begins = time.time()
    run = subprocess.run([*command, "sleep", str(seconds)], capture_output=True, text=True, check=False)
    ends = time.time()
    counts = {}
    for line in run.stderr.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[0].isdigit():
            counts[fields[2]] = int(fields[0])
    if len(counts) != 2:
        sys.exit(f"perf: {run.stderr}")
    pathlib.Path(out).write_text(
        json.dumps(
            {
                "begins": begins,
                "ends": ends,
                "per_s": counts["raw_syscalls:sys_enter"] * 1e9 / counts["duration_time"],
            }
        )
    )


def counted(name: str, run_file: str, calls_file: str) -> None:
    """System calls for an update, of the whole seconds in which they were counted."""
    run, seen = (json.loads(pathlib.Path(file).read_text()) for file in (run_file, calls_file))
    start = started(run)
    updates = [
        each["acknowledged"] + each["refused"]
        for before, each in zip(run["series"], run["series"][1:])
        if start + before["at_s"] >= seen["begins"] and start + each["at_s"] <= seen["ends"]
    ]
    if not sum(updates):
        sys.exit(f"{name}: no whole second with updates while system calls were counted")
    each = seen["per_s"] * len(updates) / sum(updates)
    print(json.dumps({"part": "calls", "name": name, "per_update": each}))


def rounds(rows_file: str, names: list[str]) -> None:
    """Each round, then minimum and median of each subject, and what they are of the last subject's."""
    rows = [json.loads(line) for line in pathlib.Path(rows_file).read_text().splitlines()]
    print(f"{'server':<10}{'updates/s':>11}{'cpu us/update':>15}{'cpu share':>11}{'p50 us':>9}{'p99 us':>9}")
    for each in rows:
        print(
            f"{each['name']:<10}{each['per_s']:>11.0f}{each['cpu_us']:>15.2f}{each['cpu_share']:>11.2f}"
            f"{each['p50']:>9.0f}{each['p99']:>9.0f}"
        )
    kinds = (("cpu_us", min), ("cpu_us", statistics.median), ("p50", statistics.median), ("p99", statistics.median))
    figures = {
        name: [pick(each[key] for each in of(rows, name)) for key, pick in kinds] for name in names
    }
    for name, (low, mid, p50, p99) in figures.items():
        print(f"{name}: cpu us/update min {low:.2f}, median {mid:.2f}; p50 {p50:.0f} us, p99 {p99:.0f} us (medians)")
    *others, last = names
    for name in others:
        low, mid, p50, p99 = (a / b for a, b in zip(figures[name], figures[last]))
        print(f"{name} / {last}: cpu min {low:.2f}, median {mid:.2f}; p50 {p50:.2f}, p99 {p99:.2f}")
    warn(rows, names)


def warn(rows: list[dict], names: list[str]) -> None:
    """Says why the figures of a subject should be doubted, if that is so."""
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
            sample(int(words[0]), words[1], words[2] if words[2:] else "")
        case "passed_on":
            passed_on(words[0])
        case "listening":
            listening(int(words[0]))
        case "row":
            row(words[0], words[1], words[2], float(words[3]))
        case "table":
            table(words[0], words[1:])
        case "tag":
            tag(words[0])
        case "note":
            note(words[0], words[1], words[2])
        case "tested":
            tested(words[0], words[1], words[2])
        case "memory":
            memory(words[0], words[1], words[2])
        case "calls":
            calls(int(words[0]), int(words[1]), words[2])
        case "counted":
            counted(words[0], words[1], words[2])
        case "rounds":
            rounds(words[0], words[1:])
        case "middle":
            middle(words[0], words[1])
        case _:
            sys.exit(f"no such verb: {verb}")


if __name__ == "__main__":
    main()
