"""What the fixtures' catalog (tests/fixtures/catalog.mjs) promises, as the client tests check it."""

import os

TOOLS, PROMPTS, RESOURCES = 29, 5, 3
SIMPLE = "This is a simple text response for testing."
ERROR = "This tool intentionally returns an error for testing"
PNG_SIZE = 76  # bytes of the four-pixel PNG
PROGRESS = [(0, 100), (50, 100), (100, 100)]
LOGS = ["Tool execution started", "Tool processing data", "Tool execution completed"]
STATIC = ("test://static-text", "This is the content of the static text resource.")
LEGACY, MODERN = "2025-11-25", "2026-07-28"


def url(service):
    """Where run.py has put the fixture; without run.py there is nothing to test."""
    return os.environ[f"CLIENT_URL_{service.upper()}"]
