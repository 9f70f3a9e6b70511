"""Molmo2 on images: one global view and up to K = 8 overlapping crops in training, 24 at inference.

  python train.py --config=configs/image.py:size=8b --config.data.train=mine/train.jsonl \
    --config.data.validation=mine/val.jsonl --config.data.tokenizer=qwen3/tokenizer.json

size: 4b, 8b (default) or o7b.
"""

from ml_collections import ConfigDict

from configs import molmo2
from molmo_jax.experiment import complete


def get_config(arguments: str = 'size=8b') -> ConfigDict:
  options = dict(item.split('=') for item in arguments.split(',') if item)
  size = options.pop('size', '8b')
  if options:
    raise ValueError(f'unknown options {sorted(options)}; this configuration has: size')
  c = ConfigDict()
  c.name = f'image_{size}'
  c.seed = 6198
  c.model = molmo2.model(size)
  c.model.llm.response_residual_dropout = 0.1
  c.preprocess = ConfigDict(dict(
    image=dict(crop_size=378, patch_size=14, max_crops=8, max_crops_eval=24, overlap_margins=(4, 4), pooling=(2, 2)),
    text=dict(message_format='qwen3', message_weight='none')))
  c.data = ConfigDict(dict(
    train='data/train.jsonl', validation='data/val.jsonl', tokenizer='data/tokenizer.json',
    batch_size=128, sequence_length=2536, crops=9, visual_tokens=1316, workers=4, seed=95818))
  c.optimizer = molmo2.optimizer(2e-4, 6e-6, 2e-5, dict(connector=200, vit=2000, llm=2000))
  c.training = ConfigDict(dict(steps=31_000, log_every=20, checkpoint_every=4000))
  c.evaluation = ConfigDict(dict(batch_size=8, max_new_tokens=256))
  c.mesh = ConfigDict(dict(data=1, fsdp=-1, context=1, tensor=1))
  return complete(c)
