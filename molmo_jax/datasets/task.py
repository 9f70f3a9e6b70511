"""A benchmark: a dataset with one way of asking, as the evaluation runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from molmo_jax.datasets.dataset import Use, is_fixed
from molmo_jax.datasets.files import Files
from molmo_jax.metrics.versions import MOLMO2
from molmo_jax.preprocess.types import PreprocessConfig

# tokens; the group script of Molmo2 raises the limit to this
LONGEST_PROMPT = 64_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(Use):
  """One benchmark. Its records are those of `docs/data.md`."""
  metric: str
  # the first is the one that is evaluated unless another is asked for
  splits: tuple[str, ...] = ('test',)
  max_new_tokens: int = 12
  groups: tuple[str, ...] = ()
  # other names, those of the published registry among them
  aliases: tuple[str, ...] = ()
  # whole records, for datasets whose references are no answers in a column
  records: Callable[[Files], Iterator[dict[str, Any]]] | None = None
  split: str = ''                             # '': the first of `splits`
  # crops of a single image, at least; more if the configuration has more
  max_crops: int = 24
  max_images: int = 20                        # images of an example, at least
  # of the model that is asked; 'v1': prompts and metrics of Molmo v1
  version: str = MOLMO2

  @property
  def asked_style(self) -> str:
    """The style of the prompt (`preprocess.chat`), unless a record has its own."""
    return str(self.style) if is_fixed(self.style) else ''

  @property
  def asked_split(self) -> str:
    """The split that is evaluated."""
    return self.split or self.splits[0]

  @property
  def label(self) -> str:
    """Name in tables and file names: with the split where it is not the usual one."""
    return self.name if self.asked_split == self.splits[0] else f'{self.name}_{self.asked_split}'

  def preprocess(self, config: PreprocessConfig) -> PreprocessConfig:
    """`config` with the numbers of crops, images and tokens that the task is evaluated
    with.
    """
    image = dataclasses.replace(config.image,
                                max_crops_eval=max(config.image.max_crops_eval, self.max_crops),
                                max_images_eval=max(config.image.max_images_eval, self.max_images))
    longest = config.text.max_sequence_length_eval
    text = dataclasses.replace(config.text, max_sequence_length_eval=None
                               if longest is None else max(longest, LONGEST_PROMPT))
    return dataclasses.replace(config, image=image, text=text)
