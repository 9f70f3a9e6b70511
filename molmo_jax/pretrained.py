"""The public face: a released checkpoint as one object that answers questions about images and
videos.

    import molmo_jax
    molmo = molmo_jax.from_pretrained('allenai/Molmo2-8B', dtype='bfloat16')
    molmo.generate([{'role': 'user', 'content': [{'type': 'image', 'image': 'cat.jpg'},
                                                 {'type': 'text', 'text': 'What is the cat
                                                 doing?'}]}])

Inputs are numpy arrays with the names of a batch's fields (docs/data.md). Shapes are rounded up to
a small set before anything is compiled, so that prompts of similar length share a program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console

from molmo_jax.checkpoint import hf
from molmo_jax.checkpoint.hf_config import read_model_config, read_serving_settings
from molmo_jax.checkpoint.hf_files import new_folder
from molmo_jax.data.batching import RowShape, bucket
from molmo_jax.errors import CheckpointError
from molmo_jax.inference.generator import STOP_CHUNK, Generator
from molmo_jax.inference.settings import GenerationConfig
from molmo_jax.inference.stop import certain_length, text_before_stop
from molmo_jax.model import molmo as network
from molmo_jax.model.config import ModelConfig
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.parallel.sharding import BATCH, shardings_of
from molmo_jax.preprocess.types import PADDING, SEQUENCE_FIELDS, VISUAL_FIELDS, EncodingError
from molmo_jax.processor.processor import Processor
from molmo_jax.progress import Display
from molmo_jax.training.state import init_params

DTYPES = ('float32', 'bfloat16')
DOWNLOADED = ('*.safetensors', '*.json', '*.jinja')   # never a pickle, never code

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
  mesh = _mesh(mesh)
  shapes = abstract_params(config, mesh)
  with Display(Console(stderr=True), f'loading {folder.name}', 1) as display:
    params = hf.load_params(folder, shapes, progress=display.of)
  return Molmo(config, params, processor, mesh, read_serving_settings(folder))


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
  """The folder at `path`, or the local copy of the repository of that name on the Hub.

  Raises:
    CheckpointError: neither exists.
  """
  folder = Path(path).expanduser()
  if folder.exists():
    return folder
  try:
    return Path(huggingface_hub.snapshot_download(str(path), allow_patterns=list(DOWNLOADED)))
  except (OSError, ValueError) as error:
    # the library's errors for bad ids, missing repositories and no network
    raise CheckpointError(f'{path}: no such folder, and no such repository on the Hugging '
                          f'Face Hub ({str(error).splitlines()[0]})') from None


def abstract_params(config: ModelConfig, mesh: Mesh) -> Any:
  """Shapes, dtypes and shardings of the parameters."""
  module = network.Molmo(config)
  shapes = jax.eval_shape(lambda: init_params(module, jax.random.key(0)))
  return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, config.dtype, sharding=s), shapes,
                      shardings_of(shapes, mesh))


@dataclasses.dataclass(frozen=True, eq=False)
class Molmo:
  """A model with its weights and its processor."""
  config: ModelConfig
  params: Any                            # nested dict of jax.Arrays
  processor: Processor
  mesh: Mesh
  # what config.json tells other programs alone
  serving: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def logits(self, inputs: Inputs) -> np.ndarray:
    """Scores of the next token after every position: float32 [S, vocab], or [B, S, vocab] for a
    batch.

    Rows at padding hold numbers without meaning.
    """
    batch, length = self._batch(inputs)
    with self._context():
      scores = _logits(network.Molmo(self.config), self.params, self._place(batch))
      scores = np.asarray(scores[:len(batch['tokens'])])[:, :length]
    return scores if inputs['tokens'].ndim == 2 else scores[0]

  def generate_ids(self, inputs: Inputs, max_new_tokens: int = 64, **settings: Any) -> np.ndarray:
    """The answer, token by token the most likely one: int32 [n], n ≤ `max_new_tokens`, the end
    token included.

    For a batch: [B, n] with n of the longest answer; shorter ones are filled with −1. `settings`
    are the fields of `GenerationConfig`: temperature, top_p, beams, stop, … (docs/generation.md).
    """
    pieces = list(self.stream_ids(inputs, max_new_tokens, chunk=_chunk(max_new_tokens, settings),
                                  **settings))
    ids = np.concatenate(pieces, axis=-1)
    used = (ids >= 0).any(0).sum() if ids.ndim == 2 else (ids >= 0).sum()
    return ids[..., :used]

  def stream_ids(self, inputs: Inputs, max_new_tokens: int = 64, chunk: int = 1, **settings: Any
                 ) -> Iterator[np.ndarray]:
    """Like `generate_ids`, `chunk` tokens at a time as they are made: int32 [≤ chunk], or [B, ≤
    chunk].
    """
    settings = GenerationConfig(max_new_tokens=max_new_tokens, **settings)
    inputs = {k: np.asarray(v) for k, v in inputs.items() if k in PADDING and v is not None}
    check_inputs(inputs, self.config, self.processor.tokenizer.special['<im_patch>'])
    is_batch = inputs['tokens'].ndim == 2
    rows = [{k: v[i] for k, v in inputs.items()}
            for i in range(len(inputs['tokens']))] if is_batch else [inputs]
    for piece in self.generator.stream(rows, settings, chunk):
      yield piece if is_batch else piece[0]

  def generate(self, messages: Messages | Sequence[Messages], max_new_tokens: int = 64,
               **settings: Any
               ) -> str | list[str]:
    """The answer to one conversation in Hugging Face's chat format; a list of conversations gives a
    list.

    `settings` are the fields of `GenerationConfig`: temperature, top_p, beams, stop, …
    (docs/generation.md). Visual features are computed once for all questions about the same media,
    also in later calls (`Generator`).
    """
    stop = GenerationConfig(max_new_tokens=max_new_tokens, **settings).stop
    ids = self.generate_ids(self.processor(messages), max_new_tokens, **settings)
    return self.text(ids, stop) if ids.ndim == 1 else [self.text(row, stop) for row in ids]

  def stream(self, messages: Messages, max_new_tokens: int = 64, **settings: Any) -> Iterator[str]:
    """The answer to one conversation, piece by piece as it is made; what may become a stop string
    is held back.
    """
    ids, shown, stop = [], '', GenerationConfig(max_new_tokens=max_new_tokens, **settings).stop
    for piece in self.stream_ids(self.processor(messages), max_new_tokens, **settings):
      ids += piece.tolist()
      text = self.text(np.array(ids), stop)
      certain = text[:certain_length(text, stop)]
      # else a character has not all its bytes yet, or a stop string is complete
      if certain.startswith(shown):
        yield certain[len(shown):]
        shown = certain
    yield self.text(np.array(ids), stop)[len(shown):]

  @functools.cached_property
  def generator(self) -> Generator:
    """What answers: its `programs` are those that were compiled so far."""
    return Generator(network.Molmo(self.config), self.params, self.processor.eos_ids,
                     mesh=self.mesh,
                     decode=self.processor.decode)

  def text(self, ids: np.ndarray, stop: Sequence[str] = ()) -> str:
    """The text of generated ids, without end tokens and padding, and without the stop string that
    ended it.
    """
    kept = [i for i in ids.tolist() if i >= 0 and i not in self.processor.eos_ids]
    return text_before_stop(kept, self.processor.decode, stop)

  def save_pretrained(self, directory: str | os.PathLike[str],
                      layout: Literal['hub', 'native'] = 'hub',
                      max_shard_size: int = 5_000_000_000) -> None:
    """Writes weights, configuration, tokenizer and processor; transformers and vLLM read the
    folder.

    Args:
      directory: a folder that does not exist or is empty. It is written beside and renamed:
        complete or absent.
      layout: 'hub' as Ai2 released the model, 'native' as transformers names things.
      max_shard_size: bytes of a safetensors file at most.

    Raises:
      CheckpointError: the folder holds something, or the model has parameters that the layout has
        no place for.
    """
    with new_folder(directory, keep=jax.process_index() == 0) as folder:
      serving = {'special': self.processor.tokenizer.special, **self.serving}
      hf.save_params(self.params, self.config, folder, layout, shard_bytes=max_shard_size,
                     **serving)
      self.processor.save(folder)

  def _batch(self, inputs: Inputs) -> tuple[dict[str, np.ndarray], int]:
    """Rows padded to a bucketed shape, and the length they had."""
    inputs = {k: np.asarray(v) for k, v in inputs.items() if k in PADDING and v is not None}
    check_inputs(inputs, self.config, self.processor.tokenizer.special['<im_patch>'])
    if inputs['tokens'].ndim == 1:
      inputs = {k: v[None] for k, v in inputs.items()}
    rows, length = inputs['tokens'].shape
    slots = inputs['pool_index'].shape[2]
    shape = bucket(RowShape(length, inputs['crops'].shape[1], inputs['pool_index'].shape[1], slots))
    return {name: _pad(x, name, shape) for name, x in inputs.items()}, length

  def _place(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Onto the mesh: rows are spread where their number allows, else every device has all."""
    spread = self.mesh.shape['data'] * self.mesh.shape['fsdp']
    sharding = NamedSharding(self.mesh, BATCH if len(batch['tokens']) % spread == 0 else P())
    return jax.tree.map(lambda x: jax.device_put(x, sharding), batch)

  @contextlib.contextmanager
  def _context(self) -> Iterator[None]:
    """The mesh; and float32 means float32 on accelerators too, whose default is less."""
    precision = 'highest' if self.config.dtype == 'float32' else None
    with jax.set_mesh(self.mesh), jax.default_matmul_precision(precision):
      yield


def check_inputs(inputs: Inputs, config: ModelConfig, patch_id: int) -> None:
  """Raises EncodingError for inputs that do not fit the model or each other, before anything is
  compiled.
  """
  needed = ['tokens', 'positions', 'segments', 'visual', 'feature_index', 'crops', 'pool_index']
  if config.connector.padding_embed is not None:
    needed.append('patch_mask')
  missing = [name for name in needed if name not in inputs]
  if missing:
    raise EncodingError(f'the inputs lack {", ".join(missing)}; take what '
      'molmo.processor(messages) gives')
  tokens, side = inputs['tokens'], config.vit.image_size
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
  if inputs['pool_index'].max(initial=-1) >= inputs['crops'].shape[-4] * config.vit.patches:
    raise EncodingError(f'pool_index reaches patch {inputs["pool_index"].max()}; the crops have '
                        f'{inputs["crops"].shape[-4] * config.vit.patches}')


def _chunk(max_new_tokens: int, settings: Mapping[str, Any]) -> int:
  """How many tokens are generated at a time without streaming: all, or as many as between two
  searches for stop strings.
  """
  return STOP_CHUNK if settings.get('stop') else max_new_tokens


def _mesh(mesh: Mesh | MeshConfig | None) -> Mesh:
  if isinstance(mesh, Mesh):
    return mesh
  if mesh is None:
    return make_mesh(MeshConfig(), jax.devices() if jax.process_count() > 1 else jax.devices()[:1])
  return make_mesh(mesh)


def _pad(x: np.ndarray, name: str, shape: RowShape) -> np.ndarray:
  size = (shape.sequence if name in SEQUENCE_FIELDS else shape.visual if name in VISUAL_FIELDS
          else shape.crops)
  out = np.full((len(x), size, *x.shape[2:]), PADDING[name], x.dtype)
  out[:, :x.shape[1]] = x
  return out


@functools.partial(jax.jit, static_argnums=0)
def _logits(module: network.Molmo, params: Any, batch: Any) -> jax.Array:
  hidden = module.apply({'params': params}, batch)
  return module.apply({'params': params}, hidden, method='logits').astype(jnp.float32)
