"""Real third-party clients, each in its own environment, against both fixtures behind one mcp-edge.

    run.sh [--direct | --sidecar] [--only mcp2,mcp1,inspector]
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "setup"))
import edge as product  # noqa: E402

# client: (environment that runs it, test file)
CLIENTS = {"mcp2": ("mcp2", "test_mcp2.py"), "mcp1": ("mcp1", "test_mcp1.py"), "inspector": ("mcp2", "test_inspector.py")}
CLIENT_S = 300  # the longest one client's tests may take


def tests_of(client, urls):
    """Runs one client's tests; (passed, failed)."""
    venv, file = CLIENTS[client]
    env = {**os.environ, **{f"CLIENT_URL_{name.upper()}": url for name, url in urls.items()}}
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        env.pop(name, None)  # everything is on loopback
    print(f"--- {client}", flush=True)
    done = subprocess.run(
        [product.TOOLS / "venv" / venv / "bin/python", "-m", "pytest", "-q", "--no-header", "--tb=short", "-p",
         "no:cacheprovider", HERE / file], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=env,
        cwd=HERE, timeout=CLIENT_S)
    print(done.stdout, flush=True)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    count = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", last)}
    passed, failed = count.get("passed", 0), count.get("failed", 0) + count.get("error", 0)
    if not passed or (done.returncode and not failed):
        failed += 1  # it ran no test, or broke: never a success
    return passed, failed


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    behind = ap.add_mutually_exclusive_group()
    behind.add_argument("--direct", dest="how", action="store_const", const="direct", default="edge")
    behind.add_argument("--sidecar", dest="how", action="store_const", const="sidecar")
    ap.add_argument("--only", type=lambda s: s.split(","), default=list(CLIENTS))
    args = ap.parse_args()
    passed = failed = 0
    with product.Family() as family, tempfile.TemporaryDirectory(prefix="clients-") as folder:
        urls = product.fixture_urls(family, Path(folder), args.how)
        for client in args.only:
            p, f = tests_of(client, urls)
            passed, failed = passed + p, failed + f
        if left := family.finish():
            print("FAIL processes are left: " + "; ".join(left))
            failed += 1
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except product.Failed as problem:
        sys.exit(f"clients: {problem}")
