"""The three released sizes of Molmo2 (spec of the released checkpoints), shared by image.py and
video.py.
"""

import tomllib
from pathlib import Path

from ml_collections import ConfigDict

from molmo_jax.model.tower import VITS

LLM = tomllib.loads(Path(__file__).with_suffix('.toml').read_text(encoding='utf-8'))


def model(size: str) -> ConfigDict:
  """SigLIP2 So400m/14 at 378 px, blocks 24 and 18 of 27, and the language model of `size`."""
  if size not in LLM:
    raise ValueError(f'size={size!r} is unknown; sizes: {", ".join(LLM)}')
  llm = LLM[size]
  return ConfigDict(dict(
    vit=VITS['siglip'],
    connector=dict(vit_layers=(-3, -9), pooling='attention_meanq', pooling_mask=True,
                   projector='mlp', heads=16, kv_heads=16, head_dim=72, width=1152, pool_slots=9,
                   hidden=llm['mlp'], layout_embedding=False),
    llm=dict(llm, extra_vocab=128, tied=False),
    bidirectional='image_tokens', attention='auto', blind=False, dtype='bfloat16', remat='full'))


def optimizer(connector: float, vit: float, llm: float, warmup: dict[str, int]) -> ConfigDict:
  """The released recipe: three groups clipped on their own, the base embedding frozen."""
  return ConfigDict(dict(
    b1=0.9, b2=0.95, eps=1e-6, weight_decay=0.0, clip_norm=1.0, min_lr_ratio=0.1, groups=dict(
      frozen=dict(pattern='embedding/base$', frozen=True),
      connector=dict(pattern='connector/|embedding/extra$', learning_rate=connector,
                     warmup=warmup['connector']),
      vit=dict(pattern='vit/', learning_rate=vit, warmup=warmup['vit']),
      llm=dict(pattern='decoder/|embedding/', learning_rate=llm, warmup=warmup['llm']))))
