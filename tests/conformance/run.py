"""The official conformance suite through edge and sidecar, held against the full marks.

    run.sh [--direct | --sidecar] [--evidence DIR] [--only SERVICE:REVISION]...

Starts one mcp-edge with the services `legacy` and `dual` (the fixtures), waits for /ready and runs the suite of each
pair below against it. --direct runs the fixtures' own HTTP instead, --sidecar one mcp-sidecar each without the edge:
to see on whose side a failure lies. Evidence (checks.json per scenario, the logs) goes to
target/conformance/<time> unless told otherwise.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "setup")]
import edge as product  # noqa: E402
import expected  # noqa: E402

# service, revision, scored scenarios: a suite that grows or shrinks must be noticed
RUNS = [("legacy", "2025-11-25", 30), ("dual", "2025-11-25", 30), ("dual", "2026-07-28", 37)]
SUITE_S = 240  # the longest one run of the suite may take
LINE = re.compile(r"^(pass|FAIL) scored (\S+): (.*)$")


def arguments():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    behind = ap.add_mutually_exclusive_group()
    behind.add_argument("--direct", action="store_true")
    behind.add_argument("--sidecar", action="store_true")
    ap.add_argument("--evidence", type=Path)
    ap.add_argument("--only", action="append", default=[])
    return ap.parse_args()


def how(args):
    return "direct" if args.direct else "sidecar" if args.sidecar else "edge"


def suite(url, revision, out):
    """Runs the suite once. ({scored scenario: passed?}, {scenario: why it failed}, exit status)."""
    done = subprocess.run([product.FIXTURES / "run-conformance.sh", url, revision, out], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=SUITE_S)
    (out.parent / f"{out.name}.txt").write_text(done.stdout + done.stderr)
    results, why = {}, {}
    for line in done.stdout.splitlines():
        if found := LINE.match(line):
            results[found[2]] = found[1] == "pass"
            if found[1] == "FAIL":
                why[found[2]] = found[3]
    if not results:
        raise product.Failed(f"the suite did not run: {(done.stdout + done.stderr).strip()[-500:]}")
    return results, why, done.returncode


def one(service, revision, full, url, evidence, excuses):
    """One line of the table: (service, revision, passed, of, seconds, faults)."""
    started = time.monotonic()
    try:
        results, why, status = suite(url, revision, evidence / f"{service}-{revision}")
    except (product.Failed, subprocess.TimeoutExpired) as e:
        return service, revision, 0, full, time.monotonic() - started, [str(e)]
    verdict = expected.judge(results, excuses)
    faults = [f"{fault} ({why[fault.split()[0]]})" if fault.split()[0] in why else fault for fault in verdict.faults]
    if len(results) != full:
        faults.append(f"the suite scores {len(results)} scenarios, {full} were known")
    if status == 2:
        faults.append("the suite ended with an error of its own")
    for name, reason in verdict.excused.items():
        print(f"  expected: {service} {revision} {name}: {reason}")
    return service, revision, verdict.passed, len(results), time.monotonic() - started, faults


def main():
    args = arguments()
    runs = [run for run in RUNS if not args.only or f"{run[0]}:{run[1]}" in args.only]
    if not runs:
        sys.exit("--only names no run; there are: " + ", ".join(f"{s}:{r}" for s, r, _ in RUNS))
    evidence = (args.evidence or product.ROOT / "target" / "conformance" / time.strftime("%Y%m%d-%H%M%S")).resolve()
    evidence.mkdir(parents=True, exist_ok=True)
    if os.listdir(evidence):
        sys.exit(f"{evidence} is not empty: results of two runs would mix")
    excuses = expected.load(HERE / "expected-failures.yaml")
    faults = expected.unused(excuses, [(s, r) for s, r, _ in RUNS])

    with product.Family() as family:
        urls = product.fixture_urls(family, evidence, how(args))
        table = [one(*run, urls[run[0]], evidence, excuses.get(run[:2], {})) for run in runs]
        if left := family.finish():
            faults.append("processes are left: " + "; ".join(left))

    print(f"\n{'service':9}{'revision':13}{'scored':>8}{'time':>8}")
    for service, revision, passed, of, seconds, _ in table:
        print(f"{service:9}{revision:13}{f'{passed}/{of}':>8}{seconds:6.0f} s")
    faults += [f"{service} {revision}: {fault}" for service, revision, *_, found in table for fault in found]
    for fault in faults:
        print(f"FAIL {fault}")
    print(f"evidence: {evidence}")
    passed = sum(row[2] for row in table)
    print(f"{passed} passed, {len(faults)} failed")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    try:
        main()
    except (product.Failed, expected.BadList) as problem:
        sys.exit(f"conformance: {problem}")
