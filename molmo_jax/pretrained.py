"""The public API: a released checkpoint as one object that answers about images and videos.

    import molmo_jax
    molmo = molmo_jax.from_pretrained('allenai/Molmo2-8B', dtype='bfloat16')
    molmo.generate([{'role': 'user', 'content': [{'type': 'image', 'image': 'cat.jpg'},
                                                 {'type': 'text', 'text': 'What is the cat
                                                 doing?'}]}])

Inputs are numpy arrays with the names of a batch's fields (docs/data.md). Shapes are rounded up to
a small set before anything is compiled, so that prompts of similar length share a program.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from molmo_jax.checkpoint import hf
from molmo_jax.checkpoint.hf_config import read_model_config, read_serving_settings
from molmo_jax.checkpoint.hf_files import find_checkpoint, new_folder
from molmo_jax.data.batching import Row, bucket, pad_row, shape_of, stack_rows
from molmo_jax.inference.generate import NO_TOKEN
from molmo_jax.inference.generator import computing_on
from molmo_jax.inference.loaded import LoadedModel
from molmo_jax.inference.settings import GenerationConfig
from molmo_jax.inference.stop import certain_length
from molmo_jax.model.config import ModelConfig
from molmo_jax.model.molmo import Network
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.parallel.sharding import shard_batch, to_host
from molmo_jax.preprocess.types import PADDING_VALUES, EncodingError
from molmo_jax.processor.processor import Processor
from molmo_jax.progress import Display
from molmo_jax.terminal import Terminal
from molmo_jax.training.state import abstract_params

DTYPES = ('float32', 'bfloat16')

Inputs = Mapping[str, np.ndarray]
Messages = Sequence[Mapping[str, Any]]


def from_pretrained(path: str | os.PathLike[str],
                    dtype: Literal['float32', 'bfloat16'] = 'bfloat16',
                    mesh: Mesh | MeshConfig | None = None) -> Molmo:
  """Loads a checkpoint: configuration, tokenizer, processor and weights.

  Args:
    path: a folder in the released or in transformers' own layout, or the id of a repository on the
      Hugging Face Hub, which is downloaded (safetensors and JSON only).
    dtype: of the weights and of the computation. Residual stream, norms and softmax are float32 in
      either case.
    mesh: what the weights are spread over; None: the first device, or all of them where there are
      several processes.

  Raises:
    CheckpointError: files that are missing, damaged, or do not fit each other; one error lists them
      all.
    ValueError: an unknown dtype, or a name that is neither a folder nor on the Hub.
  """
  if dtype not in DTYPES:
    raise ValueError(f'dtype={dtype!r} must be one of {", ".join(DTYPES)}')
  folder = find_checkpoint(path)
  config = dataclasses.replace(read_model_config(folder), dtype=dtype, remat='none')
  processor = Processor.from_pretrained(folder)
  if mesh is None:
    mesh = make_mesh(MeshConfig(), jax.devices()[:None if jax.process_count() > 1 else 1])
  elif isinstance(mesh, MeshConfig):
    mesh = make_mesh(mesh)
  shapes = abstract_params(config, mesh, dtype)
  with Display(Terminal(stderr=True), f'loading {folder.name}', 1) as display:
    params = hf.load_params(folder, shapes, progress=display.of)
  return Molmo(config, params, processor, mesh, read_serving_settings(folder))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Molmo(LoadedModel):
  """A model with its weights and its processor."""
  # what config.json tells other programs alone
  serving: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def logits(self, inputs: Inputs) -> np.ndarray:
    """Scores of the next token at every position: float32 [S, vocab], or [B, S, vocab] for a batch.

    Those at padding have no meaning.

    Raises:
      EncodingError: inputs that do not fit the model or each other.
    """
    rows, is_batch = self._rows(inputs)
    length, slots = len(rows[0]['tokens']), rows[0]['pool_index'].shape[1]
    shape = bucket(shape_of(rows[0], slots))
    with computing_on(self.mesh, self.config.dtype):
      batch = shard_batch(stack_rows([pad_row(row, shape) for row in rows]), self.mesh, whole=True)
      scores = to_host(_logits(Network(self.config), self.params, batch))[:, :length]
    return scores if is_batch else scores[0]

  def generate_ids(self, inputs: Inputs, max_new_tokens: int = 64, **settings: Any) -> np.ndarray:
    """The answer as ids, greedy by default: int32 [n], n ≤ `max_new_tokens`, with the end token.

    For a batch: [B, n] with n of the longest answer; shorter ones are filled with −1. `settings`
    are the fields of `GenerationConfig`: temperature, top_p, beams, stop, … (docs/generation.md).

    Raises:
      EncodingError: inputs that do not fit the model or each other.
      ValueError: settings that contradict each other.
    """
    rows, is_batch = self._rows(inputs)
    answers = self.generator.generate(rows, GenerationConfig(max_new_tokens, **settings))
    if not is_batch:
      return answers[0]
    ids = np.full((len(answers), max(map(len, answers))), NO_TOKEN, np.int32)
    for row, answer in zip(ids, answers):
      row[:len(answer)] = answer
    return ids

  def stream_ids(self, inputs: Inputs, max_new_tokens: int = 64, chunk: int = 1, **settings: Any
                 ) -> Iterator[np.ndarray]:
    """Like `generate_ids`, `chunk` tokens at a time: int32 [≤ chunk], or [B, ≤ chunk]."""
    rows, is_batch = self._rows(inputs)
    settings = GenerationConfig(max_new_tokens, **settings)
    for piece in self.generator.stream(rows, settings, chunk):
      yield piece if is_batch else piece[0]

  def generate(self, messages: Messages | Sequence[Messages], max_new_tokens: int = 64,
               **settings: Any) -> str | list[str]:
    """The answer to a conversation in Hugging Face's chat format; a list of them gives a list.

    `settings` are the fields of `GenerationConfig`: temperature, top_p, beams, stop, …
    (docs/generation.md). Visual features are computed once for all questions about the same media,
    also in later calls (`Generator`).

    Raises:
      EncodingError: messages that cannot become a prompt.
      MediaError: an image or a video that cannot be read.
      ValueError: settings that contradict each other.
    """
    stop = GenerationConfig(max_new_tokens, **settings).stop
    ids = self.generate_ids(self.processor(messages), max_new_tokens, **settings)
    return self.text(ids, stop) if ids.ndim == 1 else [self.text(row, stop) for row in ids]

  def stream(self, messages: Messages, max_new_tokens: int = 64, **settings: Any) -> Iterator[str]:
    """The answer to one conversation, piece by piece; a possible stop string is held back."""
    ids, shown, stop = [], '', GenerationConfig(max_new_tokens, **settings).stop
    for piece in self.stream_ids(self.processor(messages), max_new_tokens, **settings):
      ids += piece.tolist()
      text = self.text(np.array(ids), stop)
      certain = text[:certain_length(text, stop)]
      # else a character has not all its bytes yet, or a stop string is complete
      if certain.startswith(shown):
        yield certain[len(shown):]
        shown = certain
    yield self.text(np.array(ids), stop)[len(shown):]

  def save_pretrained(self, directory: str | os.PathLike[str],
                      layout: Literal['hub', 'native'] = 'hub',
                      max_shard_size: int = 5_000_000_000) -> None:
    """Writes weights, configuration, tokenizer and processor, for transformers and vLLM, too.

    Args:
      directory: a folder that does not exist or is empty. It is written beside and renamed:
        complete or absent.
      layout: 'hub' as Ai2 released the model, 'native' as transformers names things.
      max_shard_size: bytes of a safetensors file at most.

    Raises:
      CheckpointError: the folder holds something, or the model has parameters that the layout has
        no place for.
    """
    with new_folder(Path(directory), keep=jax.process_index() == 0) as folder:
      serving = {'special': self.processor.tokenizer.special, **self.serving}
      hf.save_params(self.params, self.config, folder, layout, shard_bytes=max_shard_size,
                     **serving)
      self.processor.save(folder)

  def _rows(self, inputs: Inputs) -> tuple[list[Row], bool]:
    """The checked inputs row by row, and whether they are a batch."""
    inputs = {k: np.asarray(v) for k, v in inputs.items() if k in PADDING_VALUES and v is not None}
    check_inputs(inputs, self.config, self.processor.tokenizer.special['<im_patch>'])
    if inputs['tokens'].ndim == 1:
      return [inputs], False
    return [{k: v[i] for k, v in inputs.items()} for i in range(len(inputs['tokens']))], True


def check_inputs(inputs: Inputs, config: ModelConfig, patch_id: int) -> None:
  """Raises EncodingError, before anything is compiled, for inputs that do not fit the model."""
  needed = ['tokens', 'positions', 'segments', 'visual', 'feature_index', 'crops', 'pool_index']
  if config.connector.padding_embed is not None:
    needed.append('patch_mask')
  missing = [name for name in needed if name not in inputs]
  if missing:
    raise EncodingError(f'the inputs lack {", ".join(missing)}; take what '
      'molmo.processor(messages) gives')
  tokens, side = inputs['tokens'], config.tower.image_size
  rows = config.llm.vocab + config.llm.extra_vocab
  if tokens.size == 0 or tokens.ndim > 2:
    raise EncodingError(f'tokens has shape {tokens.shape}; it must be [S] or [B, S] with at least '
      'one token')
  if tokens.max() >= rows or tokens.min() < -1:
    raise EncodingError(f'tokens has ids from {tokens.min()} to {tokens.max()}; the model has 0 to '
      f'{rows - 1}, and -1 for padding')
  if inputs['crops'].shape[-3:] != (side, side, 3):
    raise EncodingError(f'crops has shape {inputs["crops"].shape}; the model takes crops of '
      f'{side}×{side}×3')
  patches, features = (tokens == patch_id).sum(-1), (inputs['pool_index'] >= 0).any(-1).sum(-1)
  if not np.array_equal(patches, features):
    raise EncodingError(f'{patches.tolist()} <im_patch> tokens, but {features.tolist()} pooled '
      'features: every image needs its placeholder, and every placeholder its image')
  if inputs['pool_index'].max(initial=-1) >= inputs['crops'].shape[-4] * config.tower.patches:
    raise EncodingError(f'pool_index reaches patch {inputs["pool_index"].max()}; the crops have '
                        f'{inputs["crops"].shape[-4] * config.tower.patches}')


@functools.partial(jax.jit, static_argnums=0)
def _logits(module: Network, params: Any, batch: Any) -> jax.Array:
  hidden = module.apply({'params': params}, batch)
  logits: Any = module.apply({'params': params}, hidden, method='logits')
  return logits.astype(jnp.float32)
