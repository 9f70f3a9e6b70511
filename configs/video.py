"""Molmo2 on video and images: 2 frames a second, up to F = 128 frames in training, 384 with long context.

  python train.py --config=configs/video.py:size=8b --config.data.train=mine/train.jsonl …
  python train.py --config=configs/video.py:size=8b,context=long …

size: 4b, 8b (default) or o7b; context: short (F = 128, 16,384 tokens, default) or long (F = 384, 36,864 tokens).
The last frame of a clip is always kept; images take K = 8 crops in training and 24 at inference.
"""

from ml_collections import ConfigDict

from configs import molmo2
from molmo_jax.experiment import complete

# frames in training, tokens of a row
CONTEXT = {'short': (128, 16_384), 'long': (384, 36_864)}


def get_config(arguments: str = 'size=8b,context=short') -> ConfigDict:
  options = dict(item.split('=') for item in arguments.split(',') if item)
  size, context = options.pop('size', '8b'), options.pop('context', 'short')
  if options or context not in CONTEXT:
    raise ValueError(f'unknown options in {arguments!r}; this configuration has: size=4b|8b|o7b, context=short|long')
  frames, tokens = CONTEXT[context]
  c = ConfigDict()
  c.name = f'video_{size}_{context}'
  c.seed = 6198
  c.model = molmo2.model(size)
  c.model.llm.residual_dropout = 0.1
  c.preprocess = ConfigDict(dict(
    image=dict(crop_size=378, patch_size=14, max_crops=8, max_crops_eval=24, overlap_margins=(4, 4), pooling=(2, 2)),
    video=dict(max_frames=frames, max_frames_eval=384, max_fps=2.0, frame_sample_mode='uniform_last_frame',
               pooling=(3, 3), time_mode='per-frame-compact', subtitle_mode='frame_1'),
    text=dict(message_format='qwen3', message_weight='root_subsegments_root_tokens', style_prefix='demo_or_style_v2')))
  c.data = ConfigDict(dict(
    train='data/train.jsonl', validation='data/val.jsonl', tokenizer='data/tokenizer.json',
    batch_size=128, sequence_length=tokens, crops=frames, visual_tokens=81 * frames, workers=6, seed=50189))
  c.optimizer = molmo2.optimizer(5e-6, 5e-6, 1e-5, dict(connector=200, vit=200, llm=200))
  c.training = ConfigDict(dict(steps=30_000 if context == 'short' else 2_000, log_every=20, checkpoint_every=2000))
  c.evaluation = ConfigDict(dict(batch_size=2, max_new_tokens=256))
  c.mesh = ConfigDict(dict(data=1, fsdp=-1, context=1, tensor=1))
  return complete(c)
