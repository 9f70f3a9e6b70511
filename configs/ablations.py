"""The ablation lab: a tiny Molmo2 on scenes that need what an arm of a study takes away (docs/ablations.md).

  python -m molmo_jax.tools.sweep --study=pooling                  # arms × 5 seeds, then a report → runs/ablations
  python -m molmo_jax.tools.sweep --study=all --list               # what there is, and how long it takes
  python -m molmo_jax.tools.sweep --study=pooling,columns --seeds=2 --config.training.steps=300 --out=runs/quick

A study of your own is a few lines in a file like this one, with `get_config` and `STUDIES`:
`python -m molmo_jax.tools.sweep --config=mine.py --study=mine`.
"""

from ml_collections import ConfigDict

from configs import scenes
from molmo_jax.experiment import complete


def get_config() -> ConfigDict:
  """What all studies share: the model of configs/scenes.py, and no data, which every study brings."""
  c = scenes.get_config()
  c.name = 'ablations'
  c.scenes.train.update(objects=0, reading=0, comparison=0, motion=0, order=0)
  c.data.on_error = 'raise'                     # an example that does not fit must not be missing in one arm only
  c.data.threads = 1
  # an arm may have no layout vectors, and a group that matches nothing is an error: they share one with the embeddings
  # of the layout tokens, which every arm has
  c.optimizer.groups.layout.update(pattern='connector/layout/|embedding/extra', learning_rate=5e-3)
  c.optimizer.groups.others.pattern = '(?!connector/layout/|embedding/extra)'
  c.training.update(steps=1500, log_every=25, checkpoint_every=500, keep_checkpoints=1)
  c.evaluation.shown_per_task = 4
  return complete(c)


def records(kind: str, count: int, sequence_length: int, crops: int, visual_tokens: int) -> dict:
  """A data setting: training records of a kind of scenes, and the size of a row that holds any of them."""
  return {f'scenes.train.{kind}': count, 'data.sequence_length': sequence_length, 'data.crops': crops,
          'data.visual_tokens': visual_tokens}


def frames(count: int) -> dict:
  return {'preprocess.video.max_frames': count, 'preprocess.video.max_frames_eval': count}


def crops(count: int) -> dict:
  return {'preprocess.image.max_crops': count, 'preprocess.image.max_crops_eval': count}


def together(*settings: dict) -> dict:
  """Several data settings in one: the records of all, and of every size the largest."""
  return {key: max(s[key] for s in settings if key in s) for setting in settings for key in setting}


TILES = records('tiles', 1500, sequence_length=96, crops=2, visual_tokens=8)
DETAIL = records('detail', 1500, sequence_length=80, crops=9, visual_tokens=20) | crops(8)
ASPECT = records('aspect', 1500, sequence_length=56, crops=5, visual_tokens=16)
MATCH = records('match', 1500, sequence_length=80, crops=4, visual_tokens=16)
MISSING = records('missing', 1500, sequence_length=72, crops=4, visual_tokens=16) | frames(4)
BLINKS = records('blinks', 1500, sequence_length=112, crops=8, visual_tokens=32) | frames(8)
EVENTS = records('events', 1500, sequence_length=144, crops=8, visual_tokens=32) | frames(8)
WHEN = records('when', 1500, sequence_length=96, crops=5, visual_tokens=20) | frames(5)

# The first arm of a study is its baseline. The first arms of pooling, layers and projector are one run.
STUDIES = dict(
  pooling=dict(
    claim='Attention pooling with the mean of its window as the query beats averaging and stacking.',
    tasks=('tiles', 'detail'),
    settings=together(TILES, DETAIL),
    arms={'mean query': {},
          'learned query': {'model.connector.pooling': 'attention'},
          'mean': {'model.connector.pooling': 'mean'},
          'stack': {'model.connector.pooling': 'stack'}}),
  layers=dict(
    claim='Features of two layers of the image tower beat those of one.',
    tasks=('tiles', 'detail'),
    settings=together(TILES, DETAIL),
    arms={'last two': {},
          'last': {'model.connector.vit_layers': (-1,)},
          'last but one': {'model.connector.vit_layers': (-2,)}}),
  projector=dict(
    claim='The gated projector beats a linear one; two of them in a row are no better than one.',
    tasks=('tiles', 'detail'),
    settings=together(TILES, DETAIL),
    arms={'gated': {},
          'linear': {'model.connector.projector': 'linear'},
          'two gated': {'model.connector.projector': '2mlp'}}),
  bidirectional=dict(
    claim='Visual tokens that see each other in both directions help where several pictures must be related.',
    tasks=('match', 'missing'),
    settings=together(MATCH, MISSING),
    arms={'all pictures': {},
          'within a picture': {'model.bidirectional': 'within_image'},
          'none': {'model.bidirectional': 'none'}}),
  layout=dict(
    claim='Layout information, as tokens or as learned vectors, is needed for space and counting.',
    tasks=('tiles', 'blinks'),
    settings=together(TILES, BLINKS),
    arms={'tokens and vectors': {},
          'tokens': {'model.connector.layout_embedding': False},
          'vectors': {'preprocess.image.use_col_tokens': False, 'preprocess.image.use_low_res_start': False,
                      'preprocess.video.per_frame_special_token': False},
          'neither': {'preprocess.image.use_col_tokens': False, 'preprocess.image.use_low_res_start': False,
                      'preprocess.video.per_frame_special_token': False, 'model.connector.layout_embedding': False}}),
  columns=dict(
    claim='Column tokens carry the aspect ratio of an image.',
    tasks=('aspect',),
    settings=ASPECT | {'model.connector.layout_embedding': False},
    arms={'column tokens': {},
          'none': {'preprocess.image.use_col_tokens': False}}),
  crops=dict(
    claim='More crops help with small detail in large images.',
    tasks=('detail',),
    settings=DETAIL,
    arms={'8 crops': {},
          '4 crops': crops(4),
          'global view only': {'preprocess.image.mode': 'resize'}}),
  window=dict(
    claim='Pooling windows of 3 × 3 patches are enough for the frames of a video.',
    tasks=('missing',),
    settings=MISSING | {'model.vit.patch_size': 8, 'preprocess.image.patch_size': 8, 'data.sequence_length': 96,
                        'data.visual_tokens': 36},
    arms={'3 × 3': {},
          '2 × 2': {'preprocess.video.pooling': (2, 2), 'model.connector.pool_slots': 4},
          '6 × 6': {'preprocess.video.pooling': (6, 6), 'model.connector.pool_slots': 36}}),
  frames=dict(
    claim='More frames help to count over time and to see the order of events.',
    tasks=('blinks', 'events'),
    settings=together(BLINKS, EVENTS),
    arms={'8 frames': {},
          '4 frames': frames(4),
          '2 frames': frames(2)}),
  timestamps=dict(
    claim='Timestamps between frames tell when something happened.',
    tasks=('when',),
    settings=WHEN,
    arms={'times': {},
          'numbers': {'preprocess.video.time_mode': 'numbered-frames'},
          'none': {'preprocess.video.time_mode': 'none'}}),
)
