"""However things end, no process is left: not the servers, not what they started, not what tried to hide."""

import os
import signal
from pathlib import Path

import edge as product
import pytest
from session import Session

GONE_S = 10  # the longest that descendants may outlive their edge or sidecar


def children_of_edge(edge):
    """The sidecars: direct children of the edge that run its `sidecar` command."""
    return [pid for pid in product.descendants(edge.process.pid)
            if product.stat(pid)[0] == edge.process.pid and b"sidecar" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def alive(pid):
    found = product.stat(pid)
    return found is not None and found[1] != "Z"


@pytest.fixture
def busy(family, tmp_path, demo, tree):
    """An edge with a session on the demo server and one on the tree server, whose stubborn family is up."""
    service, stubborn = tree
    edge = product.Edge(family, tmp_path, product.config([demo(), service]))
    sessions = Session(edge.url("demo")), Session(edge.url("tree"))
    assert sessions[0].call("echo", {"text": "up"}) == "up"
    server = int(sessions[1].call("pid"))
    product.wait_until(lambda: sum(map(alive, stubborn(server))) == 2, 5, "the stubborn family is not up")
    assert alive(server) and len(children_of_edge(edge)) == 2
    return edge, sessions, server, stubborn


def test_a_graceful_stop_leaves_no_process(family, busy):
    edge, *_ = busy
    assert edge.stop() == 0
    assert family.orphans(within=1) == []


def test_kill_9_of_the_edge_leaves_no_process(family, busy):
    edge, *_ = busy
    edge.kill()
    assert family.orphans(within=GONE_S) == []


def test_kill_9_of_edge_and_sidecars_together_leaves_no_process(family, busy):
    edge, *_ = busy
    sidecars = children_of_edge(edge)
    os.kill(edge.process.pid, signal.SIGSTOP)  # so that it cannot start new ones in between
    for pid in [*sidecars, edge.process.pid]:
        os.kill(pid, signal.SIGKILL)
    edge.process.wait()
    assert family.orphans(within=GONE_S) == []


def test_kill_9_of_a_sidecar_takes_its_servers_and_nothing_else(family, busy):
    edge, (demo_session, tree_session), server, stubborn = busy
    tree_sidecar = next(p for p in children_of_edge(edge) if server in product.descendants(p))
    family_of_tree = [server, *stubborn()]
    os.kill(tree_sidecar, signal.SIGKILL)
    product.wait_until(lambda: not any(alive(p) for p in family_of_tree), GONE_S, "the killed sidecar's servers live on")
    assert demo_session.call("echo", {"text": "still here"}) == "still here"
    product.wait_until(lambda: edge.service_health("tree")["status"] == "healthy"
                       and len(children_of_edge(edge)) == 2, 30, lambda: f"not back: {edge.service_health('tree')}")
    assert tree_session.post("tools/list", {})[0] == 404  # its process is gone; the client may initialise again
    assert int(Session(edge.url("tree")).call("pid")) != server
    assert edge.service_health("tree")["restarts"] >= 1


def test_the_end_of_a_session_ends_its_process_tree(busy):
    edge, (_, tree_session), server, stubborn = busy
    mine = [server, *stubborn(server)]
    assert tree_session.end() in (200, 204)
    product.wait_until(lambda: not any(map(alive, mine)), GONE_S, "the server's tree outlives its session")
    assert edge.service_health("tree")["status"] == "healthy"


def test_killed_servers_leave_neither_zombies_nor_open_files(busy):
    """Thirty servers killed with -9: the sidecar has as many files open as after the first, and no zombie child."""
    edge, (demo_session, _), *_ = busy
    sidecar = next(p for p in children_of_edge(edge) if b"demo" in Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0"))

    def below():
        return [p for p in product.descendants(sidecar) if product.stat(p)]

    def visit_and_kill():
        before = set(below())
        session = Session(edge.url("demo"))
        assert session.call("echo", {"text": "hello"}) == "hello"
        for pid in set(below()) - before:
            if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:2] == [b"demo"]:
                os.kill(pid, signal.SIGKILL)
        session.end()

    def settled():
        # what this visit started is gone, and what stays is no zombie
        return not [p for p in below() if product.stat(p)[1] == "Z"] and len(below()) <= standing

    standing = len(below())
    visit_and_kill()
    product.wait_until(settled, GONE_S, lambda: "left: " + "; ".join(map(product.describe, below())))
    files = len(os.listdir(f"/proc/{sidecar}/fd"))
    for _ in range(30):
        visit_and_kill()
    product.wait_until(settled, GONE_S, lambda: "left: " + "; ".join(map(product.describe, below())))
    product.wait_until(lambda: len(os.listdir(f"/proc/{sidecar}/fd")) <= files + 2, GONE_S,
                       lambda: f"{len(os.listdir(f'/proc/{sidecar}/fd'))} open files, {files} after the first visit")
    assert demo_session.call("echo", {"text": "unharmed"}) == "unharmed"
