"""The runners of golden data; each has `recognises(folder)` and `run(folder)`."""

from __future__ import annotations

from tests.golden.runners import connector, hub, masks, messages, metrics, samplers, v1_preprocess, visual

RUNNERS = [visual, samplers, connector, messages, masks, metrics, v1_preprocess, hub]
