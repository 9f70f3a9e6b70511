"""The runners of golden data; each has `recognises(folder)` and `run(folder)`."""

from __future__ import annotations

from tests.golden.runners import (
  connector,
  formatting,
  hub,
  image_split,
  masks,
  messages,
  metrics,
  optimizer,
  packing,
  samplers,
  v1_model,
  v1_preprocess,
  visual,
)

RUNNERS = [visual, samplers, connector, messages, masks, image_split, packing, optimizer, metrics,
           v1_preprocess,
           v1_model, hub, formatting]
