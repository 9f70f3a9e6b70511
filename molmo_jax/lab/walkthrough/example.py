"""The user's files as the model's arrays, and where each image and view lies in them.

Everything that the walkthrough shows is read off these arrays; nothing is computed a second time.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from molmo_jax.configuration import ConfigError
from molmo_jax.experiment import Experiment
from molmo_jax.lab.walkthrough.media import Source
from molmo_jax.preprocess import images
from molmo_jax.preprocess.encode import encode
from molmo_jax.preprocess.layout import extra_tokens
from molmo_jax.preprocess.tokenizer import CHAT_TOKENS, Tokenizer, train_tokenizer
from molmo_jax.preprocess.types import Encoded, Example, ImageConfig, Message

QUESTIONS = ('What is in this image?', 'What is in these images?', 'What happens in this video?')
ANSWER = 'This is where the answer stands.'

PATCH, ROW_END, START, END = 'patch', 'column', 'start', 'end'
KINDS = {'<im_patch>': PATCH, '<im_low>': PATCH, '<im_col>': ROW_END, '<row_end>': ROW_END,
         '<im_start>': START, '<low_res_im_start>': START, '<frame_start>': START,
         '<img_start_lowres>': START, '<image_start>': START, '<im_end>': END, '<frame_end>': END,
         '<image_end>': END}

# What the stand-in for a tokenizer is trained on, beside the user's question and answer.
_TEXT = (*QUESTIONS, ANSWER, ' User: Assistant: user assistant\n', 'Image 1 Image 2\n',
         ' 0 1 2 3 4 5 6 7 8 9.')


@dataclasses.dataclass(frozen=True)
class View:
  """A grid of pooled features in row-major order: the global view, stitched crops, or a frame."""
  kind: int                                   # images.GLOBAL, CROP or FRAME
  grid: tuple[int, int]                       # pooling windows (rows, columns)
  rows: slice                                 # of `pool_index`
  crops: range                                # of `crops`
  tokens: slice                               # of the sequence, its start and end markers included

  @property
  def features(self) -> int:
    """Pooled features."""
    return self.rows.stop - self.rows.start


@dataclasses.dataclass(frozen=True)
class Part:
  """What became of one file."""
  source: Source
  views: tuple[View, ...]
  # of the sequence, from the first view's first to the last view's last
  tokens: slice
  tiling: tuple[int, int] | None              # crops (rows, columns); None without crops

  @property
  def features(self) -> int:
    """Pooled features."""
    return sum(view.features for view in self.views)

  @property
  def crops(self) -> range:
    """Numbers of all its crops."""
    return range(self.views[0].crops.start, self.views[-1].crops.stop)


@dataclasses.dataclass(frozen=True)
class Walkthrough:
  """An example, encoded as `run` encodes it."""
  run: Experiment
  # whether the numbers of crops and frames are those of training
  training: bool
  parts: tuple[Part, ...]
  encoded: Encoded
  tokenizer: Tokenizer
  # False: a stand-in; its text tokens are not those of the release
  real_tokenizer: bool
  # of every token: a value of KINDS, 'bos', 'text' or 'answer'
  kinds: tuple[str, ...]

  @property
  def is_video(self) -> bool:
    """Whether it shows a video; images otherwise."""
    return self.parts[0].source.is_video

  @property
  def has_crops(self) -> bool:
    """Whether an image has crops besides its global view."""
    return any(part.tiling for part in self.parts)

  @property
  def image(self) -> ImageConfig:
    """How images are cut."""
    return self.run.preprocess.image

  @property
  def max_crops(self) -> int:
    """Most crops of an image, as in training or as in evaluation."""
    return self.image.max_crops if self.training else self.image.max_crops_eval

  @property
  def grid(self) -> int:
    """Patches along one side of a crop."""
    return self.image.grid

  @property
  def side(self) -> int:
    """Pixels along one side of a crop."""
    return self.image.crop_size

  @property
  def patches(self) -> int:
    """Patches of all crops."""
    return len(self.encoded.crops) * self.grid ** 2

  @property
  def features(self) -> int:
    """Pooled features of all files."""
    return len(self.encoded.pool_index)

  def kept(self, crops: range) -> np.ndarray:
    """Patches of `crops` that some pooling window reads: bool [n,P]."""
    index = self.encoded.pool_index
    flags = np.zeros(self.patches, bool)
    flags[index[index >= 0]] = True
    return flags.reshape(-1, self.grid ** 2)[crops.start:crops.stop]

  def visual_tokens(self, tokens: slice = slice(None)) -> int:
    """Tokens that are no text: patches and layout tokens."""
    return sum(kind in KINDS.values() for kind in self.kinds[tokens])


def walk(sources: Sequence[Source], run: Experiment, question: str | None = None,
         answer: str = ANSWER, training: bool = True) -> Walkthrough:
  """Encodes the files with a question, and finds the images and views in the arrays.

  Args:
    sources: images, or one video (`read_sources`).
    run: the configuration; its limits of length do not hold here (`table.limit_notes` compares with
      them).
    question: None takes one that fits.
    answer: only used in training.
    training: numbers of crops and frames for training, and an answer with loss; False: a prompt for
      inference.

  Raises:
    MediaError, EncodingError: files or texts that cannot be encoded.
    ConfigError: a tokenizer that does not fit the configuration.
  """
  if question is None:
    question = QUESTIONS[2 if sources[0].is_video else len(sources) > 1]
  paths = tuple(source.path for source in sources)
  media = {'video': paths[0]} if sources[0].is_video else {'images': paths}
  example = Example(conversations=((Message('user', question), Message('assistant', answer)),),
                    **media)
  tokenizer, real = _tokenizer(run, f'{question} {answer}')
  config = dataclasses.replace(run.preprocess, text=dataclasses.replace(
      run.preprocess.text, max_sequence_length=None, max_sequence_length_eval=None))
  encoded = encode(example, config, tokenizer, training=training)
  kinds = _kinds(encoded, tokenizer, training)
  w = Walkthrough(run, training, (), encoded, tokenizer, real, kinds)
  parts = []
  for source, views in zip(sources, _views_of_parts(_views(w)), strict=True):
    tiling = images.image_tiling(source.height, source.width, w.image, w.max_crops)
    parts.append(Part(source, views, slice(views[0].tokens.start, views[-1].tokens.stop),
                      tiling if views[-1].kind == images.CROP else None))
  return dataclasses.replace(w, parts=tuple(parts))


def canvas_places(part: Part, walkthrough: Walkthrough) -> tuple[tuple[int, int], np.ndarray]:
  """Rows and columns of patches of an image's canvas, and int [n,2], each crop's (row, column)."""
  rows, columns = part.tiling or (0, 0)
  stitched = images.stitched_patches(rows, columns, walkthrough.image)
  patches = walkthrough.grid ** 2
  # one patch of every crop, and where it lies
  _, first = np.unique(stitched // patches, return_index=True)
  own = np.stack(np.divmod(stitched.ravel()[first] % patches, walkthrough.grid), axis=1)
  return stitched.shape, np.stack(np.divmod(first, stitched.shape[1]), axis=1) - own


def _tokenizer(run: Experiment, text: str) -> tuple[Tokenizer, bool]:
  """The configuration's tokenizer; without its file, one in which our words are tokens."""
  first, special = run.model.llm.first_extra_id, extra_tokens(run.preprocess.layout_format)
  try:
    if Path(run.data.tokenizer).exists():
      return Tokenizer.from_file(run.data.tokenizer, base_vocab_size=first,
                                 special_tokens=special), True
  except ValueError as error:
    raise ConfigError(f'data.tokenizer: {error}') from None
  for name in (*CHAT_TOKENS, *special):
    text = text.replace(name, '')
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / 'tokenizer.json'
    train_tokenizer([f' {text}', text, *_TEXT], min(first, 4096), path)
    return Tokenizer.from_file(path, base_vocab_size=first, special_tokens=special), False


def _kinds(encoded: Encoded, tokenizer: Tokenizer, training: bool) -> tuple[str, ...]:
  names = {index: KINDS[name] for name, index in tokenizer.special.items() if name in KINDS}
  kinds = [names.get(index, 'text') for index in encoded.tokens.tolist()]
  if training:
    # a weight belongs to the token that is predicted
    for place in np.flatnonzero(encoded.loss_weights[:-1] > 0) + 1:
      kinds[place] = 'answer'
  kinds[0] = 'bos'
  return tuple(kinds)


def _views(w: Walkthrough) -> list[View]:
  """Views in order: each begins with the window at row 0, column 0 of its grid."""
  index = w.encoded.layout_index
  starts = np.flatnonzero((index[:, :2] == 0).all(axis=1)).tolist()
  places = np.flatnonzero(w.encoded.feature_index >= 0).tolist()
  views = []
  for start, stop in zip(starts, [*starts[1:], len(index)], strict=True):
    windows = w.encoded.pool_index[start:stop]
    crops = (windows[windows >= 0] // w.grid ** 2).tolist()
    first, last = places[start], places[stop - 1] + 1
    while w.kinds[first - 1] == START:
      first -= 1
    while last < len(w.kinds) and w.kinds[last] in (ROW_END, END):
      last += 1
    grid = (index[start:stop, :2].max(axis=0) + 1).tolist()
    views.append(View(int(index[start, 3]), tuple(grid), slice(start, stop),
                      range(min(crops), max(crops) + 1), slice(first, last)))
  return views


def _views_of_parts(views: list[View]) -> list[tuple[View, ...]]:
  """An image begins with its global view; all frames are one video."""
  groups: list[list[View]] = []
  for view in views:
    if view.kind == images.GLOBAL or not groups:
      groups.append([])
    groups[-1].append(view)
  return [tuple(group) for group in groups]
