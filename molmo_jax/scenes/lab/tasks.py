"""Questions of the kinds for ablations; the wording never depends on the answer (as in tasks.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from molmo_jax.scenes.config import ScenesConfig
from molmo_jax.scenes.drawing import COLOURS, SHAPES
from molmo_jax.scenes.tasks import ORDINALS, Question

SIDES = ('left', 'right', 'above', 'below')
OUTLINES = ('wide', 'tall', 'square')
NEIGHBOURS = ('before', 'after')
OUTLINE_TEXT = 'Is the picture wide, tall or square?'
RATIO_TEXT = 'How many times as long is the long side as the short side?'
COMMON_TEXT = 'Which colour is in both images?'
MISSING_TEXT = 'Which colour is gone at the end?'

_COLOURS = tuple(COLOURS)


def gap_question(colour: str, side: str) -> Question:
  """On which side a ring is open."""
  return Question('detail', gap_text(colour), side, SIDES)


def gap_text(colour: str) -> str:
  """The question about the gap of a ring."""
  return f'On which side is the gap of the {colour} ring?'


def aspect_questions(grid: tuple[int, int], config: ScenesConfig) -> list[Question]:
  """Outline and ratio of the sides of a picture of `grid` (height, width) units."""
  return [Question('aspect', OUTLINE_TEXT, outline(grid), OUTLINES),
          Question('aspect', RATIO_TEXT, str(ratio(grid)), ratios(config))]


def outline(grid: tuple[int, int]) -> str:
  """wide, tall or square: of a (height, width)."""
  height, width = grid
  return OUTLINES[2] if height == width else OUTLINES[height > width]


def ratio(grid: tuple[int, int]) -> int:
  """The longer side of a (height, width), in shorter ones."""
  return max(grid) // min(grid)


def ratios(config: ScenesConfig) -> tuple[str, ...]:
  """The possible ratios of the sides."""
  return tuple(str(n) for n in sorted({ratio(grid) for grid in config.lab.aspect_grids}))


def tile_questions(colours: Sequence[Sequence[str]]) -> list[Question]:
  """The colour of every tile of a mosaic, given as rows."""
  return [Question('tiles', tile_text(r, c), colour, _COLOURS)
          for r, row in enumerate(colours, 1) for c, colour in enumerate(row, 1)]


def tile_text(row: int, column: int) -> str:
  """The question for one tile, counted from 1."""
  return f'Which colour is in row {row}, column {column}?'


def match_questions(common: str, shapes: Sequence[str]) -> list[Question]:
  """The colour that two images share, and the shape that it has in each of them."""
  return [Question('match', COMMON_TEXT, common, _COLOURS),
          *(Question('match', common_shape_text(ordinal), shape, SHAPES)
            for ordinal, shape in zip(ORDINALS, shapes, strict=True))]


def common_shape_text(ordinal: str) -> str:
  """The question about the common colour in one of several images."""
  return f'What shape has the common colour in the {ordinal} image?'


def blink_questions(counts: Mapping[str, int], config: ScenesConfig) -> list[Question]:
  """In how many frames each colour is seen."""
  return [Question('blinks', blink_text(colour), str(n), blink_counts(config))
          for colour, n in counts.items()]


def blink_text(colour: str) -> str:
  """The question of how often an object appears."""
  return f'How often does the {colour} object appear?'


def blink_counts(config: ScenesConfig) -> tuple[str, ...]:
  """The possible answers."""
  return tuple(str(n) for n in range(1, config.lab.blink_most + 1))


def when_questions(seconds: Mapping[str, int], config: ScenesConfig) -> list[Question]:
  """The second at which each colour appears."""
  return [Question('when', when_text(colour), str(n), when_seconds(config))
          for colour, n in seconds.items()]


def when_text(colour: str) -> str:
  """The question of when an object appears."""
  return f'At which second does the {colour} object appear?'


def when_seconds(config: ScenesConfig) -> tuple[str, ...]:
  """The possible answers: every number of frames at every spacing."""
  lab = config.lab
  return tuple(str(n) for n in sorted(
    {k * s for k in range(1, lab.when_frames - 1) for s in lab.when_spacings}))


def event_questions(order: Sequence[str]) -> list[Question]:
  """The colours that come right before and right after each colour of `order`."""
  pairs = list(zip(order, order[1:], strict=False))
  return ([Question('events', event_text('after', a), b, others(a)) for a, b in pairs]
          + [Question('events', event_text('before', b), a, others(b)) for a, b in pairs])


def event_text(neighbour: str, colour: str) -> str:
  """The question for the colour that appears right `before` or `after` another."""
  return f'Which colour appears right {neighbour} {colour}?'


def others(colour: str) -> tuple[str, ...]:
  """All colours but one."""
  return tuple(c for c in COLOURS if c != colour)


def missing_question(colour: str) -> Question:
  """The colour that is not seen any more in the last frame."""
  return Question('missing', MISSING_TEXT, colour, _COLOURS)


def lab_targets(task: str, config: ScenesConfig) -> list[tuple[str, str]]:
  """(question text, answer) as in `tasks.balanced_targets`."""
  shapes = [common_shape_text(ordinal) for ordinal in ORDINALS]
  forms = {
    'detail': [(gap_text(c), SIDES) for c in COLOURS],
    'aspect': [(OUTLINE_TEXT, _present(config)), (RATIO_TEXT, ratios(config))],
    'tiles': [(tile_text(r, c), _COLOURS) for r, c in _addresses(config)],
    'match': [(COMMON_TEXT, _COLOURS), *((text, SHAPES) for text in shapes)],
    'blinks': [(blink_text(c), blink_counts(config)) for c in COLOURS],
    'when': [(when_text(c), when_seconds(config)) for c in COLOURS],
    'events': [(event_text(n, c), others(c)) for n in NEIGHBOURS for c in COLOURS],
    'missing': [(MISSING_TEXT, _COLOURS)],
  }[task]
  return [(text, answer) for text, answers in forms for answer in answers]


def _present(config: ScenesConfig) -> list[str]:
  found = {outline(grid) for grid in config.lab.aspect_grids}
  return [name for name in OUTLINES if name in found]


def _addresses(config: ScenesConfig) -> list[tuple[int, int]]:
  return sorted({(r, c) for rows, columns in config.lab.tile_grids
                 for r in range(1, rows + 1) for c in range(1, columns + 1)})
