"""An operator's mistakes: one clear message each, exit status 2, and nothing was started."""

import socket
import subprocess
from contextlib import contextmanager

import edge as product
import pytest

FIVE = """\
edge:
  lisen: 127.0.0.1:8080
mcp:
  services:
    - name: one
      command: [true]
      port: 11105
    - name: two
      command: [true]
      port: 11105
      isolation: none
    - name: three
      command: [true]
      timeouts: {first_byte: soon}
      backup: four
"""


def edge_says(*arguments, cwd=None):
    """(exit status, everything it said) of a command that must end by itself."""
    done = subprocess.run([product.binary(), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=30, cwd=cwd)
    return done.returncode, done.stdout + done.stderr


@contextmanager
def taken_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


def written(tmp_path, text):
    path = tmp_path / "edge.yaml"
    path.write_text(text)
    return path


def refused(family, path, *words):
    """`run` and `check` both refuse the file with exit status 2, say the words, and start nothing."""
    for command in ("run", "check"):
        status, said = edge_says(command, "-c", path, cwd=path.parent)
        assert status == 2, (command, status, said)
        for word in words:
            assert word in said, (command, word, said)
    assert family.orphans(within=0.5) == []
    return said


def test_an_unknown_key_is_named_with_its_place_and_a_suggestion(family, tmp_path):
    path = written(tmp_path, "edge:\n  lisen: 127.0.0.1:8080\nmcp:\n  services: []\n")
    refused(family, path, "edge.yaml:2:3", "lisen", "listen", "^")


def test_a_missing_file_is_an_error_and_no_default_steps_in(family, tmp_path):
    refused(family, tmp_path / "absent.yaml", "absent.yaml")


def test_a_file_that_is_no_yaml_is_refused(family, tmp_path):
    refused(family, written(tmp_path, "edge: [\n"), "edge.yaml")


def test_a_duplicate_port_names_both_services(family, tmp_path, demo):
    config = product.config([demo("one", port=11105), demo("two", port=11105)])
    refused(family, written(tmp_path, config), "one", "two", "11105")


def test_five_mistakes_are_all_reported_in_one_run(family, tmp_path):
    said = refused(family, written(tmp_path, FIVE), "lisen", "11105", "isolation", "soon", "four")
    for line in (2, 10, 11, 14, 15):
        assert f"edge.yaml:{line}:" in said, (line, said)


@pytest.mark.parametrize("key", ["listen", "health"])
def test_the_edges_own_port_taken_is_one_message_and_nothing_is_started(family, tmp_path, demo, key):
    with taken_port() as port:
        free = dict(zip(("listen", "health", "admin"), product.free_ports(3)))
        free[key] = port
        lines = ["edge:", f"  state_dir: {tmp_path}/state", *(f"  {k}: 127.0.0.1:{v}" for k, v in free.items())]
        path = written(tmp_path, "\n".join([*lines, product.config([demo()])]))
        status, said = edge_says("run", "-c", path)
    assert status == 2, said
    assert f"edge.{key}" in said and f"127.0.0.1:{port}" in said, said
    assert family.orphans(within=0.5) == []


@pytest.mark.parametrize("arguments", [["run", "--no-such-flag"], ["no-such-command"], ["sidecar"], ["token", "mint"]])
def test_wrong_usage_is_exit_2(arguments, tmp_path):
    status, said = edge_says(*arguments, cwd=tmp_path)
    assert status == 2 and said, (status, said)


def test_check_of_a_good_file_is_exit_0_and_starts_nothing(family, tmp_path, demo):
    status, said = edge_says("check", "-c", written(tmp_path, product.config([demo()])))
    assert status == 0, said
    assert family.orphans(within=0.5) == []
