"""All 21 servers behind one edge, in the foreground, until Ctrl-C: `make fleet`.

    serve.py [--listen PORT] [--admin PORT] [--health PORT]
"""

import argparse
import signal
import sys

import fleet
from fleet import product

STARTING_S = 240  # 21 cold starts, four at a time, on a small machine


def healthy(edge, names):
    return [n for n in names if (edge.service_health(n) or {}).get("status") == "healthy"]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, port in (("listen", 8080), ("admin", 18080), ("health", 18081)):
        ap.add_argument(f"--{name}", type=int, default=port, metavar="PORT")
    ports = vars(ap.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    names = [e["name"] for e in fleet.load()]
    with product.Family() as family, fleet.surroundings(family) as env:
        print(f"fleet: scratch folder {env['SHARED']} (removed at the end), page server on port {env['HTTP_PORT']}")
        edge = fleet.FleetEdge(family, env, ports)
        edge.wait_ready(STARTING_S)
        count = [0]

        def progress():
            now = len(healthy(edge, names))
            if now != count[0]:
                count[0] = now
                print(f"fleet: {now}/{len(names)} healthy", flush=True)
            return now == len(names)

        try:
            product.wait_until(progress, STARTING_S, "")
        except product.Failed:
            for name in names:
                if (entry := edge.service_health(name) or {}).get("status") != "healthy":
                    print(f"fleet: {name} is {entry.get('status', 'unknown')}: {entry.get('reason')}", flush=True)
        for name in names:
            print(f"  {name:11}{edge.url(name)}")
        print(f"  {'health':11}{edge.health_url()}\nCtrl-C ends it.", flush=True)
        try:
            edge.process.wait()
        except KeyboardInterrupt:
            print("fleet: stopping")


if __name__ == "__main__":
    try:
        main()
    except product.Failed as problem:
        sys.exit(f"fleet: {problem}")
