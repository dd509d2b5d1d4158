"""A service that cannot work says why, and leaves the others alone; when its cause is gone it comes back by itself."""

import subprocess

import edge as product
import pytest
from session import HEADERS, Session, request
from test_wrong_input import taken_port

BACK_S = 45  # the backoff may have grown meanwhile


def start(family, tmp_path, demo, service):
    """An edge with the bad service between two good ones; both good ones must answer."""
    edge = product.Edge(family, tmp_path / "edge", product.config([demo("before"), service, demo("after")]))
    product.wait_until(lambda: edge.service_health(service["name"])["status"] == "unhealthy", 30,
                       lambda: f"{edge.service_health(service['name'])}")
    for name in ("before", "after"):
        assert edge.service_health(name)["status"] == "healthy"
        assert Session(edge.url(name)).call("echo", {"text": name}) == name
    return edge


def refused(edge, name):
    """What a client of the bad service is told."""
    initialize = request(1, "initialize", {"protocolVersion": "2025-11-25", "capabilities": {},
                                           "clientInfo": {"name": "test", "version": "1"}})
    status, headers, body = product.http("POST", edge.url(name), initialize, HEADERS)
    assert status == 503 and headers["Retry-After"], (status, body)
    assert b'"no_healthy_upstream"' in body, body


def check_warns(edge, *words):
    done = subprocess.run([product.binary(), "check", "-c", edge.config], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in words:
        assert word in done.stdout + done.stderr, (word, done.stdout + done.stderr)


def test_a_command_that_is_not_there(family, tmp_path, demo):
    edge = start(family, tmp_path, demo, {"name": "absent", "command": ["no-such-program-anywhere"]})
    assert "no-such-program-anywhere" in edge.service_health("absent")["reason"]
    refused(edge, "absent")
    check_warns(edge, "absent", "no-such-program-anywhere")


@pytest.mark.parametrize("form", ["wrapper", "command"])
def test_a_wrapper_that_is_not_executable_and_then_is(family, tmp_path, demo, form):
    wrapper = tmp_path / "wrapper.sh"
    wrapper.write_text(f"#!/bin/sh\nexec {product.binary()} demo\n")
    wrapper.chmod(0o644)
    edge = start(family, tmp_path, demo, {"name": "wrapped", form: str(wrapper) if form == "wrapper" else [str(wrapper)]})
    assert str(wrapper) in edge.service_health("wrapped")["reason"]
    refused(edge, "wrapped")
    check_warns(edge, "wrapped", str(wrapper))
    wrapper.chmod(0o755)
    product.wait_until(lambda: edge.service_health("wrapped")["status"] == "healthy", BACK_S,
                       lambda: f"not back: {edge.service_health('wrapped')}")
    assert Session(edge.url("wrapped")).call("add", {"a": 2, "b": 40}) == "42"


def test_a_services_port_that_is_taken_and_then_is_free(family, tmp_path, demo):
    with taken_port() as port:
        edge = start(family, tmp_path, demo, demo("ported", port=port))
        assert str(port) in edge.service_health("ported")["reason"]
        refused(edge, "ported")
        check_warns(edge, "ported", str(port))
    product.wait_until(lambda: edge.service_health("ported")["status"] == "healthy", BACK_S,
                       lambda: f"not back: {edge.service_health('ported')}")
    assert Session(edge.url("ported")).call("echo", {"text": "back"}) == "back"


def test_a_crash_loop_shows_its_reason_and_last_words(family, tmp_path, demo):
    command = ["sh", "-c", "echo 'cannot reach the database' >&2; exit 7"]
    edge = start(family, tmp_path, demo, {"name": "crashing", "command": command})
    entry = edge.service_health("crashing")
    assert entry["reason"], entry
    assert any("cannot reach the database" in line for line in entry["stderr"]), entry
    refused(edge, "crashing")
    product.wait_until(lambda: "cannot reach the database" in edge.last_words() or
                       "cannot reach the database" in edge.log.read_text(errors="replace"), 10,
                       "the last words are not in the log")
    edge_processes = [p for p in product.descendants(edge.process.pid) if product.stat(p)]
    assert len(edge_processes) < 30, [product.describe(p) for p in edge_processes]  # no pile of crashed attempts


def test_a_server_that_says_nothing_is_unhealthy(family, tmp_path, demo):
    edge = start(family, tmp_path, demo, {"name": "mute", "command": ["sleep", "600"], "timeouts": {"start": "2s"}})
    assert edge.service_health("mute")["reason"]
    refused(edge, "mute")


def test_20_services_serve_beside_a_bad_one(family, tmp_path, demo):
    services = [demo(f"s{n:02}") for n in range(20)]
    edge = product.Edge(family, tmp_path / "edge", product.config(
        [*services, {"name": "bad", "command": ["false"]}]))
    product.wait_until(lambda: edge.health()["healthy"] == 20, 60, lambda: f"{edge.health()}")
    assert edge.health()["status"] == "degraded"
    for service in services:
        assert Session(edge.url(service["name"])).call("echo", {"text": service["name"]}) == service["name"]
