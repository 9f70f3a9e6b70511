"""A benchmark: a dataset with one way of asking, as the evaluation runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

from molmo_jax.datasets.dataset import Dataset, Fields, Rows
from molmo_jax.datasets.files import Files, Row
from molmo_jax.metrics.versions import MOLMO2
from molmo_jax.preprocess.types import PreprocessConfig

# tokens; the group script of Molmo2 raises the limit to this
LONGEST_PROMPT = 64_000


@dataclasses.dataclass(frozen=True)
class Task:
  """One benchmark. Its records are those of `docs/data.md`."""
  name: str
  metric: str
  media: Literal['image', 'images', 'video'] = 'image'
  # the first is the one that is evaluated unless another is asked for
  splits: tuple[str, ...] = ('test',)
  style: str = ''                             # '': the dataset's
  max_new_tokens: int = 12
  groups: tuple[str, ...] = ()
  # other names, those of the published registry among them
  aliases: tuple[str, ...] = ()
  note: str = ''
  # in the place of the dataset's
  rows: Rows | None = None
  fields: Fields | None = None
  arrange: Callable[[list[Row], str], list[Row]] | None = None
  # whole records, for datasets whose references are no answers in a column
  records: Callable[[Files], Iterator[dict[str, Any]]] | None = None
  split: str = ''                             # '': the first of `splits`
  # crops of a single image, at least; more if the configuration has more
  max_crops: int = 24
  max_images: int = 20                        # images of an example, at least
  max_frames: int | None = None               # frames of a video; None: as configured
  # of the model that is asked; 'v1': prompts and metrics of Molmo v1
  version: str = MOLMO2
  dataset: Dataset | None = dataclasses.field(default=None, repr=False, compare=False)

  @property
  def folder(self) -> str:
    """Of the dataset, below the data root."""
    return self.dataset.folder

  @property
  def asked_style(self) -> str:
    """The style of the prompt (`preprocess.chat`), unless a record has its own."""
    style = self.style or (self.fields or self.dataset.fields).style
    return style if isinstance(style, str) else ''

  @property
  def asked_split(self) -> str:
    """The split that is evaluated."""
    return self.split or self.splits[0]

  @property
  def label(self) -> str:
    """Name in tables and file names: with the split where it is not the usual one."""
    return self.name if self.asked_split == self.splits[0] else f'{self.name}_{self.asked_split}'

  def preprocess(self, config: PreprocessConfig) -> PreprocessConfig:
    """`config` with the numbers of crops, images, frames and tokens that the task is evaluated
    with.
    """
    image = dataclasses.replace(config.image,
                                max_crops_eval=max(config.image.max_crops_eval, self.max_crops),
                                max_images_eval=max(config.image.max_images_eval, self.max_images))
    frames = config.video.max_frames_eval if self.max_frames is None else self.max_frames
    longest = config.text.max_sequence_length_eval
    text = dataclasses.replace(config.text, max_sequence_length_eval=None
                               if longest is None else max(longest, LONGEST_PROMPT))
    return dataclasses.replace(config, image=image, text=text,
                               video=dataclasses.replace(config.video, max_frames_eval=frames))
