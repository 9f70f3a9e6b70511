"""Signals at random moments of a command; the same command again must end with the same bytes."""

from __future__ import annotations

JOBS: dict = {}


def run(*arguments) -> int:
  raise SystemExit('the kills come with the next change')
