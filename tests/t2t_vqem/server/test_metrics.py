"""Metrics in Prometheus's text format."""

from t2t_vqem.server.metrics import Counter, Gauge, Histogram


def test_counter():
    counter = Counter("a_total", "What it is.", ("x", "y"))
    counter.add("1", "b")
    counter.add("1", "b")
    counter.add("0", 'a "quoted"\\\n')
    assert counter.lines() == [
        "# HELP a_total What it is.",
        "# TYPE a_total counter",
        'a_total{x="0",y="a \\"quoted\\"\\\\\\n"} 1',
        'a_total{x="1",y="b"} 2',
    ]


def test_gauge_is_read_when_asked_for():
    values = [1]
    gauge = Gauge("a", "What it is.")
    gauge.watch(lambda: len(values))
    values.append(2)
    assert gauge.lines()[-1] == "a 2"


def test_histogram():
    histogram = Histogram("a", "What it is.", (0.5, 2), ("x",))
    for value in (0.1, 0.5, 1, 7.25):
        histogram.observe(value, "l")
    assert histogram.lines()[2:] == [
        'a_bucket{x="l",le="0.5"} 2',
        'a_bucket{x="l",le="2"} 3',
        'a_bucket{x="l",le="+Inf"} 4',
        'a_sum{x="l"} 8.85',
        'a_count{x="l"} 4',
    ]
