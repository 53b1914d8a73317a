"""The benchmarks run, and what they measure is right; how fast it is, is not asked here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(script, *options, cwd):
    command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("script", "options"),
    [
        *(("plan_cost.py", []), ("redistribution.py", []), ("network.py", [])),
        *(("events.py", ["--subscribers", "2"]), ("control.py", []), ("pages.py", [])),
        ("archive.py", ["--fields", "20", "--field-size", "8000"]),
    ],
)
def test_benchmark_runs(script, options, tmp_path):
    done = run(script, "--size", "64", "--repeat", "1", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout, done.stdout


def test_too_large_is_refused_before_it_is_allocated(tmp_path):
    done = run("redistribution.py", "--size", "10000000", cwd=tmp_path)
    assert done.returncode == 2
    assert "of memory" in done.stderr


def test_benchmark_of_the_kernels_runs(tmp_path):
    done = run("kernel_speed.py", "--quick", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert {row["threads"] for row in figures["rows"]} >= {1}
    assert all(case["limit"] > 0 and case["share"] > 0 for case in figures["cases"])
    assert len([case for case in figures["cases"] if case["row"] == "permutations"]) % 24 == 0
    assert len(figures["small"]) == 270
    planes = [case for case in figures["cases"] if case["row"] == "2d"]
    assert sum("lines" in case["peers"] for case in planes) > len(planes) // 2


def test_one_row_of_the_kernels_is_enough(tmp_path):
    done = run("kernel_speed.py", "--quick", "--only", "turned", "--threads", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pieces of 64x64" in done.stdout
    assert "small arrays" not in done.stdout.partition("versions")[2]


def test_random_arrays_of_any_kind_are_measured(tmp_path):
    done = run("random_arrays.py", "--cases", "60", "--most", "1e4", "--rounds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split()[:2] == ["all", "60"]
