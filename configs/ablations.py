"""The ablation lab: a tiny Molmo2 on scenes that need what an arm of a study takes away
(docs/ablations.md).

  molmo-jax sweep --study=pooling                  # arms × 5 seeds, then a report → runs/ablations
  molmo-jax sweep --study=all --list               # what there is, and how long it takes
  molmo-jax sweep --study=pooling,columns --seeds=2 --config.training.steps=300 --out=runs/quick

A study of your own is a few lines in a file like this one, with `get_config` and `STUDIES`:
`molmo-jax sweep --config=mine.py --study=mine`.
"""

from ml_collections import ConfigDict

from configs import scenes
from molmo_jax.experiment import complete


def get_config() -> ConfigDict:
  """What all studies share: a model that is smaller than that of configs/scenes.py and learns
  faster, and no data.

  A study brings its data. What is not set here is as there.
  """
  c = scenes.get_config()
  c.name = 'ablations'
  c.scenes.train.update(objects=0, reading=0, comparison=0, motion=0, order=0)
  # every answer of every wording of the images' tasks equally often
  c.scenes.val_per_task = 336
  c.model.vit.update(width=48, heads=2, head_dim=24, mlp=96)
  c.model.connector.update(width=48, heads=2, kv_heads=2, head_dim=24, hidden=96, layout_crops=16)
  c.model.llm.update(width=64, layers=2, heads=2, kv_heads=2, head_dim=32, mlp=128)
  c.model.unroll = 2
  c.data.threads = 1
  # an example that does not fit must not be missing in one arm only
  c.data.on_error = 'raise'
  # an arm may have no layout vectors, and a group that matches nothing is an error: they share one
  # with the embeddings of the layout tokens, which every arm has
  c.optimizer.groups.layout.update(pattern='connector/layout/|embedding/extra', learning_rate=5e-3,
                                   warmup=50)
  c.optimizer.groups.others.update(pattern='(?!connector/layout/|embedding/extra)',
                                   learning_rate=2e-3, warmup=50)
  c.training.update(steps=600, log_every=25, checkpoint_every=1000, keep_checkpoints=1)
  c.evaluation.update(smallest_shape=(32, 1, 4), shown_per_task=4)
  c.evaluation.generation.max_new_tokens = 3
  return complete(c)


def records(kind: str, count: int, sequence_length: int, crops: int, visual_tokens: int) -> dict:
  """A data setting: training records of a kind of scenes, and the size of a row that holds any of
  them.
  """
  return {f'scenes.train.{kind}': count, 'data.sequence_length': sequence_length,
          'data.crops': crops, 'data.visual_tokens': visual_tokens}


def crop_size(side: int) -> dict:
  """Crops of `side` pixels, for images and for frames."""
  return {'model.vit.image_size': side, 'preprocess.image.crop_size': side}


def crops(count: int) -> dict:
  """The flags for `count` crops of an image."""
  return {'preprocess.image.max_crops': count, 'preprocess.image.max_crops_eval': count}


def frames(count: int) -> dict:
  """The flags for `count` frames of a video."""
  return {'preprocess.video.max_frames': count, 'preprocess.video.max_frames_eval': count}


NO_TIMES = {'preprocess.video.time_mode': 'none'}
ONE_CROP = {'preprocess.image.mode': 'resize'}
# a picture of 24 × 48 px at 48 × 48: a tile is one patch high and two wide, and every window holds
# two of them
TILES = (records('tiles', 2000, sequence_length=80, crops=1, visual_tokens=4) | ONE_CROP
         | {'scenes.lab.tile_grids': ((4, 2),)})
# every crop is one visual token and seen once, so that only the layout tells how they lie to each
# other
LOOSE = crop_size(24) | crops(8) | {'preprocess.image.overlap_margins': (0, 0)}
ASPECT = records('aspect', 600, sequence_length=48, crops=9, visual_tokens=9) | LOOSE
LARGE_TILES = (records('tiles', 2000, sequence_length=88, crops=9, visual_tokens=9) | LOOSE
               | {'scenes.lab.tile_side': 24})
MOSAICS = LARGE_TILES | {
  'scenes.lab.tile_grids': ((2, 3), (3, 2), (2, 4), (4, 2), (2, 2), (1, 4), (4, 1))}
# frames of 3 × 3 patches: one visual token each
CLIPS = crop_size(36) | {'scenes.val_per_task': 360}
BLINKS = records('blinks', 1500, sequence_length=44, crops=8,
                 visual_tokens=8) | frames(8) | CLIPS | NO_TIMES
EVENTS = records('events', 1500, sequence_length=68, crops=6,
                 visual_tokens=6) | frames(6) | CLIPS | NO_TIMES
WHEN = records('when', 1500, sequence_length=68, crops=5, visual_tokens=5) | frames(5) | CLIPS

# The first arm of a study is its baseline. The first arms of pooling, layers and projector are one
# run.
STUDIES = dict(
  pooling=dict(
    claim='Attention pooling with the mean of its window as the query beats averaging and '
          'stacking.',
    tasks=('tiles',),
    settings=TILES,
    arms={'mean query': {},
          'learned query': {'model.connector.pooling': 'attention'},
          'mean': {'model.connector.pooling': 'mean'},
          'stack': {'model.connector.pooling': 'stack'}}),
  layers=dict(
    claim='Features of two layers of the image tower beat those of one.',
    tasks=('tiles',),
    settings=TILES,
    arms={'last two': {},
          'last': {'model.connector.vit_layers': (-1,)},
          'last but one': {'model.connector.vit_layers': (-2,)}}),
  projector=dict(
    claim='The gated projector beats a linear one; two of them in a row are no better than one.',
    tasks=('tiles',),
    settings=TILES,
    arms={'gated': {},
          'linear': {'model.connector.projector': 'linear'},
          'two gated': {'model.connector.projector': '2mlp'}}),
  bidirectional=dict(
    claim='Visual tokens that see each other in both directions help where several pictures must '
          'be related.',
    tasks=('events',),
    settings=EVENTS,
    arms={'all pictures': {},
          'within a picture': {'model.bidirectional': 'within_image'},
          'none': {'model.bidirectional': 'none'}}),
  layout=dict(
    claim='Layout information, as tokens or as learned vectors, is needed for space.',
    tasks=('tiles',),
    settings=MOSAICS | {'training.steps': 800},
    arms={'tokens and vectors': {},
          'tokens': {'model.connector.layout_embedding': False},
          'vectors': {'preprocess.image.use_col_tokens': False,
                      'preprocess.image.use_low_res_start': False},
          'neither': {'preprocess.image.use_col_tokens': False,
                      'preprocess.image.use_low_res_start': False,
                      'model.connector.layout_embedding': False}}),
  columns=dict(
    claim='Column tokens carry the aspect ratio of an image.',
    tasks=('aspect',),
    settings=ASPECT | {'model.connector.layout_embedding': False, 'training.steps': 300},
    arms={'column tokens': {},
          'none': {'preprocess.image.use_col_tokens': False}}),
  crops=dict(
    claim='More crops help with detail in large images.',
    tasks=('tiles',),
    settings=LARGE_TILES | {'scenes.lab.tile_grids': ((2, 4),), 'training.steps': 400},
    arms={'8 crops': {},
          '2 crops': crops(2),
          'global view only': ONE_CROP}),
  window=dict(
    claim='Pooling windows of 3 × 3 patches are enough for the frames of a video.',
    tasks=('events',),
    # frames of 6 × 6 patches
    settings=EVENTS | {'model.vit.patch_size': 6, 'preprocess.image.patch_size': 6,
                       'data.sequence_length': 120, 'data.visual_tokens': 54,
                       'training.steps': 400},
    arms={'3 × 3': {},
          '2 × 2': {'preprocess.video.pooling': (2, 2), 'model.connector.pool_slots': 4},
          '6 × 6': {'preprocess.video.pooling': (6, 6), 'model.connector.pool_slots': 36}}),
  frames=dict(
    claim='More frames help to count over time.',
    tasks=('blinks',),
    settings=BLINKS | {'training.steps': 400},
    arms={'8 frames': {},
          '4 frames': frames(4),
          '2 frames': frames(2)}),
  timestamps=dict(
    claim='Timestamps between frames tell when something happened.',
    tasks=('when',),
    settings=WHEN | {'training.steps': 800},
    arms={'times': {},
          'numbers': {'preprocess.video.time_mode': 'numbered-frames'},
          'none': {'preprocess.video.time_mode': 'none'}}),
)
