"""How the image towers were trained to see pixels: the one table of means and deviations."""

from __future__ import annotations

from typing import Literal

Normalization = Literal['siglip', 'openai', 'dino']
Channels = tuple[float, float, float]

# mean and standard deviation of red, green and blue, of values in 0..1 (docs/model.md §1.1)
STATISTICS: dict[str, tuple[Channels, Channels]] = {
  'siglip': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
  'openai': ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
  'dino': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
