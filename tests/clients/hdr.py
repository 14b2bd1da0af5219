"""Reads interval logs with HdrHistogram's own Python package.

    hdr.py LOG.hlog TAG [DISTRIBUTION.hgrm]

Prints as JSON what the intervals of TAG sum up to. With a percentile file, says as well what in it is
wrong by the package's own reckoning.
"""

import json
import re
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

log, tag, *distribution = sys.argv[1:]
reference = HdrHistogram(1, 3_600_000_000_000, 3)
reader = HistogramLogReader(log, reference)
total, intervals, seconds = None, 0, 0.0
while True:
    histogram = reader.get_next_interval_histogram()
    if histogram is None:
        break
    if histogram.get_tag() != tag:
        continue
    if total is None:
        # With the bounds that the log's histograms have, or values would be rounded twice.
        total = HdrHistogram(
            histogram.lowest_trackable_value,
            histogram.highest_trackable_value,
            histogram.significant_figures,
        )
    total.add(histogram)
    intervals += 1
    seconds += (histogram.get_end_time_stamp() - histogram.get_start_time_stamp()) / 1000
if total is None:
    sys.exit(f"no interval of {tag}")

found = {
    "intervals": intervals,
    "seconds": seconds,
    "count": total.get_total_count(),
    "p50": total.get_value_at_percentile(50),
    "p99": total.get_value_at_percentile(99),
    "max": total.get_max_value(),
}
if distribution:
    wrong = []
    lines = open(distribution[0], encoding="ascii").read().splitlines()
    rows = [[float(n) for n in line.split()] for line in lines if re.match(r" +\d", line)]
    recorded = [(it.value_iterated_to, it.count_at_value_iterated_to) for it in total.get_recorded_iterator()]
    for value, quantile, count, *one_in in rows:
        # Not the package's get_value_at_percentile: it rounds ranks where HdrHistogram goes up.
        below = sum(n for at, n in recorded if at / 1e3 < value - 0.0005)
        upto = sum(n for at, n in recorded if at / 1e3 <= value + 0.0005)
        if upto != count:
            wrong.append(f"{count} are not at or below {value}")
        if not below <= quantile * found["count"] <= upto + 1e-9 * found["count"]:
            wrong.append(f"{value} is not the percentile {quantile * 100}")
        if one_in and abs(one_in[0] - 1 / (1 - quantile)) > 0.01 * one_in[0]:
            wrong.append(f"{one_in[0]} is not 1/(1-{quantile})")
    trailer = [float(n) for line in lines if line[:5] in ("#[Mea", "#[Max") for n in re.findall(r"[\d.]+", line)]
    known = [total.get_mean_value() / 1e3, total.get_stddev() / 1e3, total.get_max_value() / 1e3, total.get_total_count()]
    if len(trailer) != 4 or any(abs(a - b) > 0.001 + 0.001 * b for a, b in zip(trailer, known)):
        wrong.append(f"{trailer} is not {known}")
    found["lines"] = len(rows)
    found["wrong"] = wrong[:5]
print(json.dumps(found))
