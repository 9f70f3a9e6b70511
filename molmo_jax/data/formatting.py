"""From facts to conversations: what a manifest keeps (label, points, options, captions, …) is said
in words between a dataset and its encoding, with the example's own random numbers, anew in every
epoch (docs/training.md §4).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from molmo_jax.data.backdrops import draw_backdrop
from molmo_jax.data.conversations import Drawing, Prompts, Times, conversation
from molmo_jax.data.forms import ManifestError
from molmo_jax.data.manifest import Manifest
from molmo_jax.data.wordings import Wordings, read_wordings
from molmo_jax.preprocess.types import Example, Message


@dataclasses.dataclass(frozen=True)
class Formatter:
  """Facts → conversations, as a stage of training words them."""
  prompts: Prompts = 'molmo2'
  wordings: str = ''                        # a file that replaces wordings; '': the project's own

  @property
  def content(self) -> tuple[Prompts, Wordings]:
    """What prompts depend on: the stage, and the wordings themselves wherever they were read."""
    return self.prompts, read_wordings(self.wordings)

  def __call__(self, example: Example, rng: np.random.Generator, *, training: bool = True,
               times: Times | None = None) -> Example:
    """`example` with conversations in the place of its facts; one without facts stays as it is.

    Args:
      rng: of this example in this epoch.
      training: False gives the question alone, in the layout of evaluation.
      times: of the frames that will be shown, for tracks; None: every annotated moment is seen.

    Raises:
      ManifestError: facts that lack what their style needs.
    """
    if not example.facts:
      return example
    drawing = Drawing(rng, read_wordings(self.wordings), self.prompts, training, times)
    try:
      talks = [conversation(fact, drawing) for fact in example.facts]
    except KeyError as error:
      raise ManifestError(f'{example.source}: facts of which no conversation can be made: {error} '
                          'is missing') from None
    weights = [fact.get('weight') for fact in example.facts]
    if training and len(talks) > 1 and example.dialogue and rng.random() < example.dialogue:
      talks = [([text for messages, _ in talks for text in messages], talks[0][1])]
      weights = weights[:1]
    media = draw_backdrop(example.backdrop, rng) if example.backdrop else {}
    return dataclasses.replace(
      example, facts=(), dialogue=0.0, backdrop='', **media,
      conversations=tuple(tuple(Message(('user', 'assistant')[i % 2], text)
                                for i, text in enumerate(messages)) for messages, _ in talks),
      styles=tuple(style for _, style in talks) if len(talks) > 1 else (), style=talks[0][1],
      weights=tuple(weights) if any(w is not None for w in weights) else None)


class WordedManifest:
  """A manifest whose records are formatted for evaluation, each with random numbers of its own."""

  def __init__(self, manifest: Manifest, formatter: Formatter):
    self._manifest, self.formatter, self.path = manifest, formatter, manifest.path

  def __len__(self) -> int:
    return len(self._manifest)

  def source(self, index: int) -> str:
    """File and line of a record: 'file.jsonl:12'."""
    return self._manifest.source(index)

  def __getitem__(self, index: int) -> Example:
    return self.formatter(self._manifest[index], np.random.default_rng(index), training=False)
