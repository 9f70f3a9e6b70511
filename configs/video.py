"""Molmo2 on video and images: 2 frames a second, up to F = 128 frames in training, 384 with long
context.

  python train.py --config=configs/video.py:size=8b,data=manifests --config.init_from=PRETRAINED …
  python train.py --config=configs/video.py:size=8b,stage=long_context,data=manifests \
    --config.init_from=SFT …

size: 4b, 8b (default) or o7b; stage: sft (F = 128, 16,384 tokens, default) or long_context (F =
384, 36,864 tokens);
data: the folder of the stage's manifests (docs/datasets.md), mixed at the released rates.
The last frame of a clip is always kept; images take K = 8 crops in training and 24 at inference.
"""

from ml_collections import ConfigDict

from configs import stages


def get_config(arguments: str = '') -> ConfigDict:
  """The configuration for options such as size=8b,stage=sft,data=FOLDER."""
  return stages.config('video', arguments, ('sft', 'long_context'))
