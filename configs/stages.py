"""What the released training stages of Molmo2 have in common, shared by image.py and video.py.

Each stage starts from the weights of the one before, `--config.init_from=DIR`; the first one from a
language model and an image tower, `--config.init_llm=… --config.init_vit=…` (docs/checkpoints.md).
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import molmo2
from molmo_jax.datasets.recipes import recipe
from molmo_jax.experiment import complete

# tokens of a row, crops and frames of a row, frames of a video, steps
ROWS = {'pretrain': (2_536, 16, 16, 31_000), 'sft': (16_384, 128, 128, 30_000),
        'long_context': (36_864, 384, 384, 2_000)}


def options(arguments: str, **defaults: str) -> dict[str, str]:
  """The part of `--config=file.py:a=b,c=d` behind the colon, with defaults; an unknown name is an
  error.
  """
  given = dict(item.split('=', 1) for item in arguments.split(',') if item)
  unknown = sorted(given.keys() - defaults.keys())
  if unknown:
    raise ValueError(f'unknown options {unknown}; this configuration has: {", ".join(defaults)}')
  return defaults | given


def config(name: str, arguments: str, known: Sequence[str]) -> ConfigDict:
  """A whole recipe.

  Args:
    name: of the configuration file.
    arguments: size=, stage=, and data=, the folder of the manifests that tools/prepare_dataset
      wrote: those of the stage that are there are mixed at the released rates. Without it there is
      no mixture; give `data.train`.
    known: the stages of the file; the first is the usual one.
  """
  size, stage, folder = options(arguments, size='8b', stage=known[0], data='').values()
  if stage not in known:
    raise ValueError(f'stage={stage} is unknown; configs/{name}.py has: {", ".join(known)}')
  tokens, crops, frames, steps = ROWS[stage]
  pretrain = stage == 'pretrain'
  c = ConfigDict()
  c.name = f'{name}_{size}_{stage}'
  c.seed = 6198
  c.model = molmo2.model(size)
  # while it is trained; the released files hold a copy of the embedding as the head
  c.model.llm.tied = size == '4b'
  c.model.llm.residual_dropout, c.model.llm.response_residual_dropout = (
    0.0, 0.1) if pretrain else (0.1, 0.0)
  c.preprocess = ConfigDict(dict(
    image=dict(crop_size=378, patch_size=14, max_crops=8, max_crops_eval=24, max_images=5,
               overlap_margins=(4, 4), pooling=(2, 2)),
    video=dict(max_frames=frames, max_frames_eval=384, max_fps=2.0, pooling=(3, 3),
               frame_sample_mode='uniform_last_frame', time_mode='per-frame-compact',
               subtitle_mode='frame_1'),
    text=dict(message_format='qwen3',
              message_weight='none' if pretrain else 'root_subsegments_root_tokens',
              style_prefix='style_and_length_v2' if pretrain else 'demo_or_style_v2')))
  c.data = ConfigDict(dict(
    train='data/train.jsonl', validation='data/val.jsonl', tokenizer='data/tokenizer.json',
    # a visual token is one of the row's
    batch_size=128, sequence_length=tokens, crops=crops, visual_tokens=tokens,
    packing=dict(buffer=48, token_weight=1, image_weight=1 if pretrain else 30),
    workers=4, seed=95818 if pretrain else 50189,
    prompts='style_only' if pretrain else 'molmo2'))
  if folder:
    c.data.update(recipe(stage, folder, present_only=True))
  slow = 2000 if pretrain else 200
  warmup = dict(connector=200, vit=slow, llm=slow)
  c.optimizer = molmo2.optimizer(*((2e-4, 6e-6, 2e-5) if pretrain else (5e-6, 5e-6, 1e-5)), warmup)
  c.training = ConfigDict(dict(steps=steps, log_every=20,
                               checkpoint_every=4000 if pretrain else 2000,
                               validate_every=1000 if pretrain else 0))
  c.evaluation = ConfigDict(
    dict(batch_size=8 if pretrain else 2, generation=dict(max_new_tokens=256)))
  c.mesh = ConfigDict(dict(data=1, fsdp=-1, context=1, tensor=1))
  return complete(c)
