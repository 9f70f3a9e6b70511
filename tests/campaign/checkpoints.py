"""Damaged checkpoints: Hugging Face folders, which are read up to the plan of their tensors and
give a prompt; and steps that a run saved, of which the newest is damaged.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from molmo_jax.checkpoint import hf, native
from molmo_jax.checkpoint.hf_config import read_model_config, read_serving_settings
from molmo_jax.checkpoint.hf_files import TensorFolder
from molmo_jax.checkpoint.hf_plan import plan_import
from molmo_jax.errors import CheckpointError
from molmo_jax.processor.processor import Processor
from molmo_jax.training.state import TrainState, abstract_params
from tests.campaign.engine import Case
from tests.campaign.mutate import (
  NASTY,
  Rng,
  damage_bytes,
  damage_json,
  damage_text,
  pick,
  to_text,
)
from tests.checkpoint import v1_hub

GOLDEN = Path(__file__).parents[1] / 'golden'
TEMPLATE = 'chat_template.jinja'
LARGEST = 30_000                 # tokens of a prompt of one small picture
# values that are in range of nothing, more often than the others
NUMBERS = (2**63, 2**63 - 1, 10**9, -1, 0, 1e-45, 1e39, float('nan'), float('inf'), [0, 0],
           [2**40, 1], [-1, -1], [0.0, 0.0, 0.0], [1e400] * 3, True)
BOMBS = (
  '{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}',
  "{{ 'a' * 10 ** 10 }}", '{{ 10 ** (10 ** 9) }}', '{{ range(10 ** 9) | list }}',
  "{{ '%999999999d' % 1 }}",
  "{{ '{:>999999999}'.format(1) }}", '{{ lipsum(10 ** 6) }}',
  '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
  "{{ ''.__class__.__mro__[1].__subclasses__() }}",
  "{{ cycler.__init__.__globals__.os.system('id') }}",
  "{% include '/etc/passwd' %}", '{% set ns = namespace(x="a") %}{% for i in range(60) %}'
  '{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}', '{{ 1 / 0 }}', '{% if %}', '{{ x',
  '{{ (' * 3000,
  '{% if 1 %}' * 3000, "{{ messages | map('upper') | list | batch(10**9, 'x') | list }}",
  "{{ ['a'] * 10 ** 10 }}", "{{ 'a' | center(10 ** 10) }}", "{{ [] | slice(10**9) | list }}",
  '{{ raise_exception("\x1b[2J" * 3000) }}', '{{ strftime_now("%Y" * 10 ** 7) }}',
  "{{ ('a' * 30 ~ 'b') | replace('', 'a' * 99999) | replace('', 'a' * 99999) }}")


class Inputs:
  """The area of checkpoints."""

  def __init__(self, base: Path, port: int):
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    self._folders = [_copied(GOLDEN / name, base / name)
                     for name in ('molmo2_qwen_hub', 'molmo2_olmo_hub')]
    if not (base / 'v1').exists():
      v1_hub.write_case(base / 'v1', 'qwen2_openai')
    self._folders += [base / 'v1', _sharded(self._folders[0], base / 'sharded')]
    self._params = {folder: _load(folder) for folder in self._folders[:3]}
    self._run = base / 'run'
    self._states = {step: state(step) for step in (3, 5)}
    if not self._run.exists():
      with native.open_checkpoints(self._run) as checkpoints:
        for step, saved in self._states.items():
          native.save(checkpoints, step, saved, {'0': {'position': step}})

  def case(self, rng: Rng, folder: Path) -> Case:
    kind = rng.random()
    if kind < 0.02:
      return self._control(rng)
    if kind < 0.14:
      return self._step(rng, folder / 'checkpoints')
    source = pick(rng, self._folders)
    folder = folder / 'hub7'
    _linked(source, folder)
    if kind < 0.18:
      return self._template(rng, folder)
    if kind < 0.4:
      return self._weights(rng, folder)
    if kind < 0.5:
      return self._file(rng, folder)
    names = [p.name for p in folder.iterdir() if p.suffix == '.json']
    name = pick(rng, [n for n in names if 'tokenizer' not in n or rng.random() < 0.3] or names)
    text = (folder / name).read_text()
    if rng.random() < 0.75 and name != 'tokenizer.json':
      contents, how = damage_json(json.loads(text), rng, (*NASTY, *NUMBERS, *NUMBERS))
      data = to_text(contents).encode()
    else:
      data, how = damage_text(text, rng)
    return self._opened(folder, name, data, f'{name}: {how}')

  def _opened(self, folder: Path, name: str, data: bytes, what: str,
              wanted: Any = 'either') -> Case:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(data)
    return Case(f'{folder.name} {what}', lambda: _open(folder), is_opened, folder.name, wanted)

  def _control(self, rng: Rng) -> Case:
    folder = pick(rng, self._params)

    def check(found: Any) -> None:
      is_opened(found)
      assert equal(_load(folder), self._params[folder]), 'other parameters'
    return Case(f'control: {folder.name}', lambda: _open(folder), check, folder.name, 'value')

  def _template(self, rng: Rng, folder: Path) -> Case:
    bomb = pick(rng, BOMBS)
    data = bomb.encode()
    if rng.random() < 0.3:
      data, how = damage_bytes(data, rng)
      return self._opened(folder, TEMPLATE, data, f'template damaged: {how}, {bomb[:40]}')
    return self._opened(folder, TEMPLATE, data, f'template: {bomb[:60]}', 'error')

  def _weights(self, rng: Rng, folder: Path) -> Case:
    """Damage to the header of a safetensors file, or to the file."""
    name = pick(rng, [p.name for p in folder.glob('*.safetensors')])
    data = (folder / name).read_bytes()
    size = int.from_bytes(data[:8], 'little')
    if rng.random() < 0.4:
      data, how = damage_bytes(data, rng, size + 8)
    else:
      header, how = damage_json(json.loads(data[8:8 + size]), rng)
      text = to_text(header).encode()
      shown = pick(rng, (len(text), len(text), len(text), 2**63, 0, 10**9, len(text) - 1))
      data = shown.to_bytes(8, 'little') + text + data[8 + size:]
    return self._opened(folder, name, data, f'{name}: {how}')

  def _file(self, rng: Rng, folder: Path) -> Case:
    """A file that is missing, empty, a folder, a FIFO, a device."""
    name = pick(rng, [p.name for p in folder.iterdir()])
    path, kind = folder / name, pick(rng, ('missing', 'empty', 'folder', 'FIFO', 'device', 'loop'))
    path.unlink()
    if kind == 'empty':
      path.touch()
    elif kind == 'folder':
      path.mkdir()
    elif kind == 'FIFO':
      os.mkfifo(path)
    elif kind != 'missing':
      path.symlink_to('/dev/zero' if kind == 'device' else name)
    return Case(f'{kind}: {name}', lambda: _open(folder), is_opened, folder.name)

  def _step(self, rng: Rng, folder: Path) -> Case:
    """The newest step of a run is damaged: it is restored, or the one before."""
    shutil.copytree(self._run, folder)
    path = pick(rng, sorted(p for p in (folder / '5').rglob('*') if p.is_file()))
    how = pick(rng, ('missing', 'empty', 'damage', 'damage', 'damage', 'noise'))
    data, kinds = damage_bytes(path.read_bytes(), rng)
    path.unlink()
    if how != 'missing':
      path.write_bytes({'empty': b'', 'damage': data, 'noise': rng.bytes(50)}[how])
    what = f'step: {path.relative_to(folder)} {how} {kinds if how == "damage" else ""}'
    return Case(what, lambda: restored(folder), self._is_step, folder.name, 'value')

  def _is_step(self, found: Any) -> None:
    step = int(found.step)
    assert step in self._states and equal(found, self._states[step]), f'another state, {step}'


def _open(folder: Path) -> tuple[Any, Any]:
  """What `from_pretrained` does, up to the reading of the tensors, and a prompt. That a file is
  missing or a folder may be said by the operating system's error, which commands print as one line.
  """
  try:
    return _opened(folder)
  except (FileNotFoundError, IsADirectoryError) as error:
    raise CheckpointError(f'{error.filename}: {error.strerror}') from error


def _opened(folder: Path) -> tuple[Any, Any]:
  config = read_model_config(folder)
  read_serving_settings(folder)
  processor = Processor.from_pretrained(folder)
  plan_import(TensorFolder(folder), _abstract(config), {})
  picture = np.zeros((30, 40, 3), np.uint8)
  return config, processor([{'role': 'user', 'content': [
    {'type': 'image', 'image': picture}, {'type': 'text', 'text': 'Which?'}]}])


_abstract = functools.lru_cache(maxsize=64)(abstract_params)


def is_opened(found: tuple[Any, Any]) -> None:
  """What holds for every checkpoint that is read."""
  config, prompt = found
  assert 0 < prompt['tokens'].size < LARGEST, prompt['tokens'].size
  assert prompt['tokens'].max() < config.llm.vocab + config.llm.extra_vocab, 'ids beyond the table'
  assert len(prompt['crops']) <= 200, len(prompt['crops'])
  for value in (config.llm.norm_eps, config.llm.rope_theta):
    assert np.isfinite(value) and value > 0, value


def _load(folder: Path) -> Any:
  return hf.load_params(folder, _abstract(read_model_config(folder)))


def restored(folder: Path) -> Any:
  """The newest state that is whole."""
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state(0))
  with native.open_checkpoints(folder) as checkpoints:
    return native.restore(checkpoints, None, shapes)[0]


@functools.cache
def state(step: int) -> TrainState:
  """A small state; another one for every step."""
  rng = np.random.default_rng(step)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  params = {'decoder': {'kernel': draw(2, 4), 'norm': draw(4)}, 'vit': {'up': draw(3)}}
  moments = {'mu': jax.tree.map(lambda x: 2 * x, params)}
  return TrainState(jnp.asarray(step, jnp.int32), params, moments,
                    jax.random.key_data(jax.random.key(9)))


def equal(a: Any, b: Any) -> bool:
  """Whether two trees of arrays are the same."""
  return jax.tree.structure(a) == jax.tree.structure(b) and all(
    np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def _copied(source: Path, folder: Path) -> Path:
  if not folder.exists():
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns('cases', 'README.md'))
  return folder


def _sharded(source: Path, folder: Path) -> Path:
  """The same checkpoint in several files with an index."""
  if not folder.exists():
    params = _load(source)
    _linked(source, folder)
    (folder / 'model.safetensors').unlink()
    hf.save_params(params, read_model_config(source), folder, 'native', shard_bytes=60_000)
  return folder


def _linked(source: Path, folder: Path, link: Callable[..., None] = os.link) -> None:
  folder.mkdir()
  for file in source.iterdir():
    link(file, folder / file.name)
