"""The rule about expected failures, tested on plain values: a stale entry must fail the run."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import expected  # noqa: E402

RUN = {"ping": True, "tools-list": False}
ENTRY = '- {service: dual, revision: "2026-07-28", scenario: tools-list, reason: the fixture lies}\n'


def written(tmp_path, text):
    path = tmp_path / "expected-failures.yaml"
    path.write_text(text)
    return path


def test_an_unexpected_failure_fails_the_run():
    assert expected.judge(RUN, {}).faults == ["tools-list failed"]


def test_an_expected_failure_is_excused_and_counted_apart():
    verdict = expected.judge(RUN, {"tools-list": "the fixture lies"})
    assert verdict == expected.Verdict(1, {"tools-list": "the fixture lies"}, [])


def test_a_stale_entry_fails_the_run():
    verdict = expected.judge({"ping": True, "tools-list": True}, {"tools-list": "the fixture lies"})
    assert verdict.faults == ["tools-list is expected to fail, but passes: remove the entry"]


def test_an_entry_without_a_scenario_fails_the_run():
    assert "no such scored scenario" in expected.judge({"ping": True}, {"pong": "typo"}).faults[0]


def test_an_entry_for_a_run_that_never_happens_is_found():
    assert expected.unused({("dual", "2024-11-05"): {"ping": "old"}}, [("dual", "2025-11-25")])


def test_the_file_is_read_by_service_and_revision(tmp_path):
    assert expected.load(written(tmp_path, ENTRY)) == {("dual", "2026-07-28"): {"tools-list": "the fixture lies"}}


def test_no_file_expects_no_failure(tmp_path):
    assert expected.load(tmp_path / "absent.yaml") == {}


@pytest.mark.parametrize("text, says", [
    ("- {service: dual, revision: x, scenario: ping}", "entry 1 has no reason"),
    ("- {service: dual, revision: x, scenario: ping, reason: ' '}", "entry 1 has no reason"),
    (ENTRY + ENTRY, "entry 2 repeats tools-list"),
    ("- {service: d, revision: x, scenario: ping, reason: y, until: z}", "unknown keys: until"),
    ("service: dual", "a list of entries is needed"),
    ("- ping", "entry 1 is no mapping"),
])
def test_a_bad_file_is_refused(tmp_path, text, says):
    with pytest.raises(expected.BadList, match=says):
        expected.load(written(tmp_path, text))
