"""The configuration of a run that is over in seconds: one layer each, a handful of generated
scenes.
"""

from __future__ import annotations

TEMPLATE = """
from ml_collections import ConfigDict


def get_config():
  return ConfigDict(dict(
    name='tiny', seed=0,
    scenes=dict(train=dict(objects=4, reading=2, comparison=2, motion=1, order=1), val_per_task=1),
    model=dict(
      vit=dict(image_size=24, patch_size=12, width=8, layers=1, heads=2, head_dim=4, mlp=8),
      connector=dict(vit_layers=(-1,), heads=2, kv_heads=2, head_dim=4, width=8, hidden=8,
                     pool_slots=4),
      llm=dict(vocab=400, extra_vocab=16, width=16, layers=1, heads=2, kv_heads=1, head_dim=8,
               mlp=16, residual_dropout=0.1, tied=True),
      remat='none'),
    preprocess=dict(image=dict(crop_size=24, patch_size=12, mode='resize'),
                    video=dict(max_frames=4, max_frames_eval=4, pooling=(2, 2)),
                    text=dict(message_format='none')),
    data=dict(train='scenes/train.jsonl', validation='scenes/val.jsonl',
              tokenizer='scenes/tokenizer.json', batch_size=2, sequence_length=200, crops=6,
              visual_tokens=6, on_error='skip', scenes_root='scenes'),
    optimizer=dict(groups=dict(all=dict(pattern='.*', learning_rate=1e-2, warmup=5))),
    training=dict(steps=@STEPS@, log_every=1, checkpoint_every=25),
    evaluation=dict(batch_size=2, generation=dict(max_new_tokens=3), limit=2)))
"""


def tiny_config(steps: int) -> str:
  """The text of a configuration file."""
  return TEMPLATE.replace('@STEPS@', str(steps))
