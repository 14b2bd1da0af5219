"""What table.sh prints: each figure that ringhook should reach, and how far it is.

    targets.py ROWS FLOOR JSON

ROWS is what measure.py has written, line by line; FLOOR what the bench of that name has, if it has run;
JSON, if not empty, the file that gets everything.
"""

import dataclasses
import json
import pathlib
import re
import statistics
import sys

# The least share of resumed handshakes for a figure to be about them.
RESUMED = 0.95
# What passes updates on, as it is told, at which rates, and to backends of which delay in seconds.
PASSING = {
    "forward": "ringhook",
    "proxy-nginx": "nginx",
    "proxy-haproxy": "HAProxy",
    "proxy-caddy": "Caddy",
    "proxy-h2o": "h2o",
}
# What answers by itself, as it is told.
ANSWERING = {
    "memory": "memory, null",
    "lines": "written, lines",
    "nginx": "nginx",
    "haproxy": "HAProxy",
    "caddy": "Caddy",
    "h2o": "h2o",
}
RATES = {"1000": "at 1,000/s", "5000": "at 5,000/s", "max": "as fast as it goes"}
DELAYS = {"0": "0", "0.01": "10 ms", "1": "1 s"}


@dataclasses.dataclass(frozen=True)
class Figure:
    """Minimum and median of a figure over all rounds."""

    min: float
    median: float

    @classmethod
    def of(cls, values: list[float]) -> "Figure | None":
        return cls(min(values), statistics.median(values)) if values else None

    def __truediv__(self, other: "Figure") -> "Figure":
        return Figure(self.min / other.min, self.median / other.median)

    def most(self) -> float:
        return max(self.min, self.median)


@dataclasses.dataclass
class Line:
    """A line of the table: a figure of ringhook's, and what bounds it or its ratio to another one."""

    # Of table.sh.
    part: str
    what: str
    bound: float
    own: Figure | None
    other: Figure | None = None
    # Whether the bound is one of the ratio, or of the figure itself.
    relative: bool = True
    decimals: int = 2
    # Of what a test proves: whether it passed.
    passed: bool | None = None

    def ratio(self) -> Figure | None:
        return self.own / self.other if self.own and self.other else None

    def reached(self) -> bool | None:
        """None if it was not measured."""
        if self.passed is not None:
            return self.passed
        bounded = self.ratio() if self.relative else self.own
        return None if bounded is None else bounded.most() <= self.bound

    def text(self) -> str:
        bound = f"<= {self.bound:.2f}{' x' if self.relative else '  '}"
        own, other = (pair(figure, self.decimals) for figure in (self.own, self.other))
        if self.own is None and self.passed is not None:
            own = f"{'test':>8}{'passes' if self.passed else 'fails':>8}"
        answer = {True: "yes", False: "no", None: "-"}[self.reached()]
        return f"{self.what:<47}{bound:>9} {own} {other} {pair(self.ratio(), 2)}  {answer:>5}"

    def as_json(self) -> dict:
        figures = {"ringhook": self.own, "other": self.other, "ratio": self.ratio()}
        return {
            "figure": self.what,
            "target": {"at_most": self.bound, "of": "ratio" if self.relative else "figure"},
            **{key: figure and dataclasses.asdict(figure) for key, figure in figures.items()},
            "reached": self.reached(),
        }


def pair(figure: Figure | None, decimals: int) -> str:
    if figure is None:
        return f"{'-':>8}{'-':>8}"
    return f"{figure.min:>8.{decimals}f}{figure.median:>8.{decimals}f}"


HEADING = (
    f"{'':<47}{'':>9} {'ringhook':>16} {'against':>16} {'ratio':>16}\n"
    f"{'figure':<47}{'target':>9} {'min':>8}{'median':>8} {'min':>8}{'median':>8} {'min':>8}{'median':>8}"
    f"  reached"
)


class Rows:
    """What was measured."""

    def __init__(self, rows: list[dict]):
        self.rows = rows

    def figure(self, part: str, name: str, key: str) -> Figure | None:
        return Figure.of([float(row[key]) for row in self.of(part, name)])

    def of(self, part: str, name: str | None = None) -> list[dict]:
        return [row for row in self.rows if row["part"] == part and name in (None, row["name"])]

    def said(self, part: str, name: str) -> str:
        return next((row["value"] for row in self.of(part, name)), "")

    def passed(self, part: str) -> bool | None:
        """Whether the test of a part did; none if there was none."""
        tests = [row for row in self.of(part, "test") if row["ran"] > 0 or not row["ok"]]
        return all(row["ok"] for row in tests) if tests else None

    def allocated(self) -> Figure | None:
        """Allocations for an update; the most of what the test tries: each driver and ack, with TLS."""
        text = "\n".join(line for row in self.of("allocations", "test") for line in row["said"])
        found = re.findall(r": (\d+) in (\d+) updates", text)
        return Figure.of([max(int(count) / int(updates) for count, updates in found)] if found else [])

    def stage(self, quantile: str) -> Figure | None:
        """The server's own view: from a request's last byte to the end of its handler."""
        values = []
        for row in self.of("latency", "memory"):
            server = pathlib.Path(row["file"].removesuffix(".json") + ".server.json")
            if server.exists():
                values.append(json.loads(server.read_text())["latency_us"]["whole"][quantile])
        return Figure.of(values)


def lines(rows: Rows, floor: Figure | None) -> list[Line]:
    cpu = {name: rows.figure("cpu", name, "cpu_us") for name in ("memory", "written", "nginx", "hyper")}
    both = lambda part, key: (rows.figure(part, "memory", key), rows.figure(part, "nginx", key))
    return [
        Line("cpu", "CPU us for an update, against nginx return 200", 0.50, cpu["memory"], cpu["nginx"]),
        Line("cpu", "  against hyper and tokio-rustls", 0.45, cpu["memory"], cpu["hyper"]),
        Line("floor", "CPU us for an update, against the floor", 1.40, cpu["memory"] if floor else None, floor),
        Line("handshakes", "CPU us for a connection, full handshake, nginx", 0.50, *both("full", "cpu_us"), decimals=1),
        Line("handshakes", "  resumed", 0.50, *both("resumed", "cpu_us"), decimals=1),
        Line("idle", "KiB for an idle TLS connection, nginx", 0.50, *both("silent", "kib"), decimals=1),
        Line("idle", "  after one request", 0.50, *both("asked", "kib"), decimals=1),
        Line(
            "allocations",
            "heap allocations for an update",
            0,
            rows.allocated(),
            relative=False,
            decimals=4,
            passed=rows.passed("allocations"),
        ),
        Line("calls", "system calls for an update, nginx", 0.1, *both("calls", "per_update"), relative=False),
        Line("shards", "connections of 40 on 16 shards, max - min", 1, None, relative=False, passed=rows.passed("shards")),
        Line("latency", "us at 1,000/s: answer p50, nginx's answer", 1.00, *both("latency", "p50"), decimals=0),
        Line("latency", "  p99", 1.00, *both("latency", "p99"), decimals=0),
        Line("latency", "  whole stage p50", 1.00, rows.stage("p50"), both("latency", "p50")[1], decimals=0),
        Line("latency", "  whole stage p99", 1.00, rows.stage("p99"), both("latency", "p99")[1], decimals=0),
        Line("cpu", "CPU us for an update, written against memory", 1.10, cpu["written"], cpu["memory"]),
        *ordinary(rows),
        *passed_on(rows),
    ]


def ordinary(rows: Rows) -> list[Line]:
    figure = lambda rate, name, key="cpu_us": rows.figure(f"ordinary-{rate}", name, key)
    told = []
    for name, bound in (("memory", 1.00), ("lines", 1.25)):
        for rate in ("1000", "5000"):
            what = f"CPU us, {ANSWERING[name]}, nginx, {RATES[rate]}" if rate == "1000" else f"  {RATES[rate]}"
            told.append(Line("ordinary", what, bound, figure(rate, name), figure(rate, "nginx"), decimals=1))
    for name in ("memory", "lines"):
        what = f"context switches at 1,000/s, {ANSWERING[name]}"
        told.append(Line("ordinary", what, 2.00, figure("1000", name, "switches"), relative=False))
    for key, bound in (("p50", 1.00), ("p99", 1.10)):
        what = "us at 1,000/s: answer p50, written, nginx" if key == "p50" else "  p99"
        both = (figure("1000", name, key) for name in ("lines", "nginx"))
        told.append(Line("ordinary", what, bound, *both, decimals=0))
    return told


def passed_on(rows: Rows) -> list[Line]:
    figure = lambda kind, key, name: rows.figure(f"proxy-{kind}", name, key)
    delayed = lambda delay, key: rows.figure(f"delay-{delay}", "forward", key)
    first = "CPU us, update passed on, nginx, "
    bounds = {"1000": 0.80, "5000": 0.80, "max": 1.00}
    return [
        *(
            Line(
                "proxy",
                first + RATES[rate] if rate == "1000" else f"  {RATES[rate]}",
                bound,
                *(figure(rate, "cpu_us", name) for name in ("forward", "proxy-nginx")),
                decimals=1,
            )
            for rate, bound in bounds.items()
        ),
        Line("delay", "us: answer p50, backend of 1 s against 0 s", 1.10, delayed("1", "p50"), delayed("0", "p50"), decimals=0),
        Line("delay", "  p99", 1.10, delayed("1", "p99"), delayed("0", "p99"), decimals=0),
    ]


def beside_others(rows: Rows) -> list[str]:
    """All that answer or pass updates on, rate by rate, and what the sender sees, delay by delay."""
    told = []
    for part, title, names in (("ordinary", "answered", ANSWERING), ("proxy", "passed on to a backend", PASSING)):
        if any(rows.of(f"{part}-{rate}") for rate in RATES):
            heading = f"{title:<34}{'CPU us':>16}{'switches':>16}{'answers/s':>11}"
            told.append(f"{heading}\n{'':<34}{'min':>8}{'median':>8}{'min':>8}{'median':>8}{'median':>11}")
        for rate, name in ((rate, name) for rate in RATES for name in names):
            cpu, switched, per_s = (
                rows.figure(f"{part}-{rate}", name, key) for key in ("cpu_us", "switches", "per_s")
            )
            if cpu:
                what = f"{names[name]} {RATES[rate]}"
                told.append(f"{what:<34}{pair(cpu, 1)}{pair(switched, 2)}{per_s.median:>11,.0f}")
    if any(rows.of(f"delay-{delay}") for delay in DELAYS):
        told.append(f"{'answers at 1,000/s, us, medians':<34}{'p50':>10}{'p99':>10}{'updates not acknowledged':>26}")
    for delay, name in ((delay, name) for delay in DELAYS for name in PASSING):
        p50, p99 = (rows.figure(f"delay-{delay}", name, key) for key in ("p50", "p99"))
        if p50:
            errors = sum(row["errors"] for row in rows.of(f"delay-{delay}", name))
            what = f"{PASSING[name]}, backend of {DELAYS[delay]}"
            told.append(f"{what:<34}{p50.median:>10,.0f}{p99.median:>10,.0f}{errors:>26}")
    return told


def beside(rows: Rows, floor: dict | None) -> list[str]:
    """What the table does not say: the floor's pieces, who else makes how many system calls, doubts."""
    told = []
    if floor:
        pieces = [
            f"{name} {piece['min']:.2f}, {piece['median']:.2f}" + (f" ({piece['way']})" if "way" in piece else "")
            for name, piece in floor["pieces"].items()
        ]
        told.append("the floor, us, min and median: " + "; ".join(pieces))
        for what, piece in (("the echo alone", floor["pieces"].get("echo")), ("the floor", floor["floor"])):
            shares = []
            for name in ("nginx", "hyper"):
                all_of_it = rows.figure("cpu", name, "cpu_us")
                if piece and all_of_it:
                    share = Figure(piece["min"], piece["median"]) / all_of_it
                    shares.append(f"{share.min:.2f}, {share.median:.2f} of all that {name} takes")
            if shares:
                told.append(f"{what} is {'; '.join(shares)}")
    for part, what in (("cpu", "an update"), ("full", "a full handshake"), ("resumed", "a resumed one")):
        per_s = {row["name"]: rows.figure(part, row["name"], "per_s") for row in rows.of(part)}
        if per_s:
            took = rows.figure(part, "memory", "generator_cpu_us")
            told.append(
                f"{what}: a second, medians: "
                + ", ".join(f"{name} {figure.median:,.0f}" for name, figure in per_s.items())
                + (f"; the generator took {took.median:.1f} us" if took else "")
            )
    called = rows.of("calls")
    if called:
        told.append(
            "system calls for an update: "
            + ", ".join(f"{row['name']} {row['per_update']:.3f}" for row in called)
        )
    for part in ("allocations", "shards"):
        for row in rows.of(part, "test"):
            if row["ok"] and not row["ran"]:
                told.append(f"{part}: there is no such test")
            told += [f"{part}: {line}" for line in row["said"][:8]]
    for row in rows.of("skipped"):
        told.append(f"{row['name']}: skipped, {row['value']}")
    return told + beside_others(rows) + doubts(rows)


def doubts(rows: Rows) -> list[str]:
    told = []
    passed = [*(f"{part}-{rate}" for part in ("ordinary", "proxy") for rate in RATES), *(f"delay-{delay}" for delay in DELAYS)]
    for part in ("cpu", "full", "resumed", "latency", *passed):
        warned: dict[str, list[str]] = {}
        for row in rows.of(part):
            # An own CPU that is busy is as it should be, as long as the server's is, too.
            mine = [w for w in row["warnings"] if not w.startswith("the generator used")]
            if row["errors"]:
                mine.append(f"{row['errors']} updates were not acknowledged")
            if part == "resumed" and row["resumed"] < RESUMED * (row["resumed"] + row["full"]):
                mine.append(f"only {row['resumed']} of {row['resumed'] + row['full']} were resumed")
            if mine:
                warned.setdefault(row["name"], []).append("; ".join(mine))
        for name, texts in warned.items():
            told.append(f"doubt: {part}, {name}, {len(texts)} of {len(rows.of(part, name))} rounds: {texts[0]}")
    return told


def main() -> None:
    rows_file, floor_file, json_file = sys.argv[1:]
    rows = Rows([json.loads(line) for line in pathlib.Path(rows_file).read_text().splitlines()])
    path = pathlib.Path(floor_file)
    floor = json.loads(path.read_text()) if path.exists() else None
    sum_of_floor = Figure(**floor["floor"]) if floor else None
    parts = rows.said("about", "parts").split(",")
    table = [line for line in lines(rows, sum_of_floor) if line.part in parts]
    told = beside(rows, floor)
    about = {key: rows.said("about", key) for key in ("command", "machine", "versions", "took")}
    print(f"$ {about['command']}\n{about['machine']}\n{about['versions']}; took {about['took']}\n\n{HEADING}")
    for line in table:
        print(line.text())
    if told:
        print("\n" + "\n".join(told))
    if json_file:
        whole = {**about, "table": [line.as_json() for line in table], "told": told}
        text = json.dumps({**whole, "floor": floor, "rows": rows.rows}, indent=1)
        pathlib.Path(json_file).write_text(text + "\n")


if __name__ == "__main__":
    main()
