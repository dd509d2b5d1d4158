"""Fixtures of the real-socket tests: a family that must be empty at the end, and the demo server as a service."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "setup")]
import edge as product  # noqa: E402


@pytest.fixture
def family():
    """Whatever the test starts; when it ends nothing of it may be left."""
    with product.Family() as family:
        yield family
        assert family.finish() == []


@pytest.fixture
def demo():
    """The built-in demo server, as a service of this name."""
    return lambda name="demo", **more: {"name": name, "command": [str(product.binary()), "demo"], **more}


@pytest.fixture
def tree(tmp_path):
    """A service whose server sits behind a shell and has stubborn descendants, and a function that reads their ids:
    those of one server (by its process id), or all."""
    pids = tmp_path / "stubborn"
    script = f'"{sys.executable}" "{HERE}/servers/tree.py" "{pids}"; exit $?'

    def stubborn(server=None):
        pairs = [map(int, line.split()) for line in pids.read_text().splitlines()] if pids.exists() else []
        return [pid for of, pid in pairs if server in (None, of)]

    return {"name": "tree", "command": ["sh", "-c", script]}, stubborn
