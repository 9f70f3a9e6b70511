"""What the generated dataset looks like and how hard it is."""

from __future__ import annotations

import dataclasses

from molmo_jax.configuration import Count, NonNegative, Seed, Size

TASKS = ('colour', 'shape', 'count', 'position', 'pointing', 'reading', 'comparison', 'motion',
         'order')
# each is a kind, too
LAB_TASKS = ('detail', 'aspect', 'tiles', 'match', 'blinks', 'when', 'events', 'missing')
COMPARISONS = ('same_colour', 'same_shape', 'which_image')


def _check(config: object, *rules: tuple[bool, str, str]) -> None:
  """Raises ValueError for the first rule that does not hold: (holds, its fields, what is asked)."""
  for holds, names, what in rules:
    if not holds:
      fields = ', '.join(f'{name}={getattr(config, name)}' for name in names.split())
      raise ValueError(f'{fields}: {what}')


@dataclasses.dataclass(frozen=True)
class SceneCounts:
  """Training records of every kind; each has all its questions as the branches of one message tree.

  A kind without training records has no validation questions either.
  """
  objects: Count = 3000                       # one image with several objects
  reading: Count = 1500                       # one image with a number
  comparison: Count = 1500                    # two images with one object each
  motion: Count = 600                         # a clip with one moving object
  order: Count = 600                          # a clip with two objects, one after the other
  # The others are for ablations: each needs something that an arm of a study takes away.

  detail: Count = 0                           # a large image with small rings that have a gap
  aspect: Count = 0                           # a plain image, wide, tall or square
  tiles: Count = 0                            # a mosaic of coloured tiles
  match: Count = 0                            # two images with one colour in common
  blinks: Count = 0                           # a clip in which an object comes and goes
  # a clip of unknown speed with three objects, one after the other
  when: Count = 0
  events: Count = 0                           # a clip with four objects, one after the other
  missing: Count = 0                          # a clip in which one of four objects vanishes

  def scaled(self, total: int) -> SceneCounts:
    """The same proportions with about `total` records, at least one of every kind that has any."""
    now = dataclasses.asdict(self)
    return SceneCounts(**{kind: max(1, round(total * count / sum(now.values()))) if count else 0
                          for kind, count in now.items()})


@dataclasses.dataclass(frozen=True)
class QuestionLimits:
  """The most questions of each task in the message tree of an `objects` image."""
  colour: Count = 1                           # What colour is the ring?
  shape: Count = 2                            # What shape is the red object?
  count: Count = 1                            # How many objects are there?
  position: Count = 2                         # Relative to the middle, where is the red object?
  pointing: Count = 2                         # Point to the red object.
  caption: Count = 1                          # all objects in reading order; asked in training only


@dataclasses.dataclass(frozen=True)
class LabConfig:
  """Sizes and difficulty of the kinds for ablations.

  Lengths are in pixels, sizes are (height, width).
  """
  detail_size: tuple[Count, Count] = (72, 120)  # of the image
  # rings lie in the middle of different cells of this side
  detail_cell: Count = 12
  rings: Count = 3                            # in an image
  ring_size: NonNegative = 9.0                # outer diameter
  ring_stroke: NonNegative = 2.0              # width of the line
  ring_gap: NonNegative = 2.5                 # width of the gap
  # largest distance from the middle of the cell, along each axis
  ring_jitter: NonNegative = 1.0
  aspect_unit: Count = 24                     # pixels
  aspect_margin: Count = 0                    # the sides are whole numbers of units and this …
  aspect_scale: tuple[NonNegative, NonNegative] = (0.85, 1.0)  # … times a factor in this range
  # (height, width) in units, one of them is drawn
  aspect_grids: tuple[tuple[Size, Size], ...] = (
      (1, 1), (2, 2), (1, 2), (1, 3), (1, 4), (2, 4), (2, 1), (3, 1), (4, 1), (4, 2))
  tile_side: Count = 12                       # side of a tile
  tile_grids: tuple[tuple[Size, Size], ...] = ((4, 4),)   # (rows, columns), one of them is drawn
  tile_questions: Count = 6                   # in the message tree of one mosaic
  match_objects: Count = 3                    # in each image
  frame_size: Count = 36                      # side of the frames with one object
  missing_size: Count = 48                    # side of the frames with several objects
  blink_frames: Count = 8                     # in a clip
  blink_objects: Count = 1                    # of different colours
  blink_most: Count = 6                       # most frames in which an object is seen
  when_frames: Count = 5                      # the first and the last are empty
  # seconds between frames, one of them is drawn for a clip
  when_spacings: tuple[Count, ...] = (1, 2, 3)
  event_frames: Count = 6                     # in a clip
  event_objects: Count = 4                    # of different colours
  missing_frames: Count = 4                   # in a clip
  missing_objects: Count = 4                  # of different colours

  def __post_init__(self):
    _check(
      self,
      (all(side >= 16 and side % 2 == 0 for side in (self.frame_size, self.missing_size)),
       'frame_size missing_size', 'H.264 needs even sides of at least 16 px'),
      (1 <= self.rings <= 6, 'rings', 'must lie in 1…6: each has a colour of its own'),
      (self.ring_size + 2 * self.ring_jitter <= self.detail_cell,
       'ring_size ring_jitter detail_cell', 'a jittered ring does not fit into its cell'),
      (all(max(grid) % min(grid) == 0 for grid in self.aspect_grids), 'aspect_grids',
       'the longer side must be a whole multiple of the shorter one'),
      (0 < self.aspect_scale[0] <= self.aspect_scale[1], 'aspect_scale',
       'must be a range of positive numbers'),
      (1 <= self.match_objects <= 3, 'match_objects',
       'must lie in 1…3: two images show all six colours at most, one of them twice'),
      (1 <= self.blink_objects <= 6 and self.blink_objects * self.blink_most <= self.blink_frames,
       'blink_frames blink_objects blink_most', 'the frames must hold all objects (1…6)'),
      (self.when_frames >= 3 and min(self.when_spacings) > 0, 'when_frames when_spacings',
       'there must be 3 frames or more, and the spacings must be positive'),
      ((self.when_frames - 2) * max(self.when_spacings) <= 9, 'when_frames when_spacings',
       'answers must be one digit'),
      (2 <= self.event_objects <= min(self.event_frames, 6), 'event_objects event_frames',
       'there must be 2…6 objects, and a frame for each'),
      (self.missing_frames >= 2 and 2 <= self.missing_objects <= 6,
       'missing_frames missing_objects', 'there must be 2 frames or more, and 2…6 objects'))


@dataclasses.dataclass(frozen=True)
class ScenesConfig:
  """Everything that decides the dataset: the same configuration gives the same dataset.

  Lengths are in pixels.

  The defaults are easy on purpose: a tiny model learns all tasks from scratch in minutes on a CPU.
  Harder: smaller and more objects, three digits, larger jitter, a shorter way to travel.
  """
  seed: Seed = 0                              # of everything that is drawn
  train: SceneCounts = SceneCounts()
  questions: QuestionLimits = QuestionLimits()
  lab: LabConfig = LabConfig()
  # validation questions of every task; multiples of 48 balance every form
  val_per_task: Count = 96
  image_size: Count = 72                      # side of the images with objects and numbers
  tile_size: Count = 48                       # side of the two images that are compared
  max_objects: Count = 4                      # in an image
  max_pointing_objects: Count = 1             # in an image with questions that ask to point
  # answers give the middle of the object's cell, not the object's own
  point_to_cells: bool = True
  min_object_size: NonNegative = 19.0         # diameter of an object
  max_object_size: NonNegative = 21.0         # diameter of an object
  cell_size: Count = 24                       # objects lie in different cells of this side
  # largest distance from the middle of the cell, along each axis
  cell_jitter: NonNegative = 1.0
  colour_jitter: Count = 10                   # largest change of an object's colour channel, of 255
  background: tuple[Count, Count] = (222, 244)  # range of the background's grey
  # standard deviation of the pixel noise in images, of 255
  noise: NonNegative = 0.0
  digits: Count = 2                           # of the number
  min_digit_height: NonNegative = 39.0        # of the digits
  max_digit_height: NonNegative = 40.0        # of the digits
  # largest distance of the number from the centre, along each axis
  digit_shift: NonNegative = 1.0
  comparisons: tuple[str, ...] = ('same_colour', 'which_image')  # questions about two images
  clip_size: Count = 48                       # side of the frames
  clip_fps: Count = 4                         # encoded rate, a multiple of `sample_fps`
  sample_fps: Count = 2                       # the rate at which readers sample
  # frames that a reader keeps at `sample_fps`, the last frame included
  clip_frames: Count = 6
  min_travel: NonNegative = 0.6               # way of a moving object, fraction of the free way
  subtitle_share: NonNegative = 0.1           # fraction of clips with subtitles

  def __post_init__(self):
    _check(
      self,
      (self.clip_size % 2 == 0 and self.clip_size >= 16, 'clip_size',
       'H.264 needs an even side of at least 16 px'),
      (self.clip_fps % self.sample_fps == 0, 'clip_fps sample_fps',
       'clip_fps must be a multiple of sample_fps'),
      (self.clip_fps > self.sample_fps, 'clip_fps sample_fps',
       'clip_fps must be larger than sample_fps, so that all clip_frames frames differ'),
      (self.clip_frames >= 4, 'clip_frames', 'an order takes at least 4 sampled frames'),
      (2 <= self.max_objects <= 6, 'max_objects', 'must lie in 2…6: a position needs two objects, '
       'and each object of an image has a colour of its own'),
      (1 <= self.max_pointing_objects <= self.max_objects, 'max_pointing_objects max_objects',
       'max_pointing_objects must lie in 1…max_objects'),
      (self.image_size // self.cell_size == 3, 'image_size cell_size',
       'an image must be three times a cell, or a little more: cells name the places'),
      *((0 < getattr(self, f'min_{name}') <= getattr(self, f'max_{name}'), f'min_{name} max_{name}',
         'must be a range of positive numbers') for name in ('object_size', 'digit_height')),
      (self.comparisons and set(self.comparisons) <= set(COMPARISONS), 'comparisons',
       f'must be chosen from {", ".join(COMPARISONS)}'),
      (self.max_object_size + 2 * self.cell_jitter <= self.cell_size,
       'max_object_size cell_jitter cell_size',
       'an object with the jitter on both sides does not fit into the cell'),
      *((getattr(self, name) >= self.cell_size, f'cell_size {name}',
         f'cell_size must not be larger than {name}')
        for name in ('image_size', 'tile_size', 'clip_size')))

  @property
  def clip_length(self) -> int:
    """Encoded frames of a clip: `(clip_frames - 1) / sample_fps` seconds.

    The last sample is the clip's end.
    """
    return (self.clip_frames - 1) * self.clip_fps // self.sample_fps
