"""Small Hugging Face checkpoints for the tests: the tiny model of tests/model, written in any
layout.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from molmo_jax.checkpoint.hf import load_params, save_params
from molmo_jax.checkpoint.hf_config import read_model_config
from molmo_jax.checkpoint.hf_files import new_folder
from molmo_jax.model.molmo import Network
from molmo_jax.training.state import init_params
from tests.model.tiny import build, config

GOLDEN = Path(__file__).parents[1] / 'golden'
RELEASED = [GOLDEN / 'molmo2_qwen_hub', GOLDEN / 'molmo2_olmo_hub']


@functools.cache   # tracing a model takes a second
def _shapes(c):
  return jax.eval_shape(lambda: init_params(Network(c), jax.random.key(0)))


random_params = functools.cache(lambda c: build(c)[1])


def abstract(c, shardings=None):
  """Shapes of the parameters, optionally with shardings."""
  shapes = _shapes(c)
  return shapes if shardings is None else jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings(shapes))


def load(folder, **options):
  """The parameters of a folder in the shapes of its own config.json."""
  return load_params(folder, abstract(read_model_config(folder)), **options)


def write(folder, c=None, layout='hub', **options):
  """A checkpoint of a tiny random model; returns its parameters."""
  c = c or config(connector=dict(pool_slots=9))
  params = random_params(c)
  with new_folder(folder) as new:
    save_params(params, c, new, layout, **options)
  return params


def tensors(folder):
  """All tensors of a folder by name, read by the safetensors library."""
  return {name: x for file in sorted(Path(folder).glob('*.safetensors'))
          for name, x in load_file(file).items()}


def rewrite(folder, change):
  """Replaces the tensors of a one-file checkpoint by what `change` makes of them."""
  file = Path(folder) / 'model.safetensors'
  save_file(change(load_file(file)), file)


def edit_config(folder, change):
  """Lets `change` edit the decoded config.json."""
  file = Path(folder) / 'config.json'
  contents = json.loads(file.read_text())
  change(contents)
  file.write_text(json.dumps(contents))


def equal(a, b):
  """Whether two trees are the same bit for bit."""
  return jax.tree.structure(a) == jax.tree.structure(b) and all(
    x.dtype == y.dtype and x.shape == y.shape and np.asarray(x).tobytes() == np.asarray(y).tobytes()
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def same_files(a, b):
  """Whether two folders hold the same tensors byte for byte."""
  a, b = tensors(a), tensors(b)
  return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and a[n].tobytes() == b[n].tobytes()
                                      for n in a)
