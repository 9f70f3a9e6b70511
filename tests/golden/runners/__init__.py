"""The runners of golden data; each has `recognises(folder)` and `run(folder)`."""

from __future__ import annotations

from tests.golden.runners import connector, masks, messages, samplers, visual

RUNNERS = [visual, samplers, connector, messages, masks]
