"""The fleet as programs see it: where it is installed, its environment, and one edge that serves all of it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "setup")]
import edge as product  # noqa: E402
import scratch  # noqa: E402

CONFIG = product.ROOT / "conf" / "fleet.yaml"
INSTALLED = product.TOOLS / "fleet"


def load():
    """The entries of fleet.json, with ${SHARED} and ${HTTP_PORT} not yet filled in."""
    return json.loads((HERE / "fleet.json").read_text())


def fill(value, names):
    """Puts the values of ${SHARED} and ${HTTP_PORT} into a string, or into all strings of a structure."""
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace("${%s}" % name, text)
        return value
    if isinstance(value, list):
        return [fill(v, names) for v in value]
    if isinstance(value, dict):
        return {k: fill(v, names) for k, v in value.items()}
    return value


def path():
    """npm's programs first: one of them is called mcp, as is one in each virtual environment."""
    bins = [INSTALLED / "npm/node_modules/.bin", INSTALLED / "venv/bin", INSTALLED / "venv-old/bin"]
    missing = [str(b) for b in bins if not b.is_dir()]
    if missing:
        raise product.Failed(f"not installed: {', '.join(missing)}; run tests/setup/install.sh fleet")
    return ":".join([*map(str, bins), os.environ["PATH"]])


@contextmanager
def surroundings(family):
    """The scratch folder with all that the servers need beside them; yields the environment for the edge."""
    search = path()
    shared = tempfile.mkdtemp(prefix="fleet-")
    try:
        os.chmod(shared, 0o755)  # PostgreSQL runs as its own user
        scratch.prepare(shared)
        scratch.start_postgres(family, shared)
        port = scratch.start_page_server(family, shared)
        yield {**os.environ, "SHARED": shared, "HTTP_PORT": port, "PATH": search, "HOME": f"{shared}/home",
               "TMPDIR": f"{shared}/tmp", "LANG": "C.UTF-8"}
        if left := family.finish():
            raise product.Failed("processes are left: " + "; ".join(left))
    finally:
        family.close()
        shutil.rmtree(shared, ignore_errors=True)


class FleetEdge(product.Edge):
    """mcp-edge on conf/fleet.yaml itself; the addresses come from the environment if `ports` are given."""

    def __init__(self, family, env, ports=None, log=None):
        self.family, self.config, self.log = family, CONFIG, Path(log) if log else None
        self.ports = ports or {"listen": 8080, "admin": 18080, "health": 18081}
        names = {f"FLEET_{k.upper()}": f"127.0.0.1:{v}" for k, v in self.ports.items()} if ports else {}
        out = open(self.log, "ab") if self.log else None
        self.process = family.spawn([product.binary(), "run", "-c", CONFIG], stdin=subprocess.DEVNULL, stdout=out,
                                    stderr=out, env={**env, **names}, cwd=env["SHARED"])
        if out:
            out.close()

    def last_words(self):
        return super().last_words() if self.log else ""
