"""How much host memory the import and the export of a Hugging Face checkpoint take above the model
itself.

  python -m tests.checkpoint.peak_memory        # 2 billion parameters, bfloat16, one device
  python -m tests.checkpoint.peak_memory --layers=1 --devices=8

Makes a random checkpoint in the released layout, with the sizes of Molmo2-4B and fewer layers, in a
temporary folder; loads it in a fresh process, saves it again, and prints that process's peak
resident memory (VmHWM of Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from molmo_jax.checkpoint.hf import SHARD_BYTES, load_params, save_params
from molmo_jax.checkpoint.hf_config import model_config_dict, read_model_config
from molmo_jax.checkpoint.hf_files import Planned, TensorFolder, new_folder, write_shards
from molmo_jax.checkpoint.hf_plan import plan_export
from molmo_jax.model.config import ConnectorConfig, LlmConfig, ModelConfig
from molmo_jax.model.molmo import Network
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.parallel.sharding import shardings_of
from molmo_jax.parameters import count
from molmo_jax.training.state import init_params

MIB = 2 ** 20


def abstract_params(config: ModelConfig):
  """Shapes and shardings of the parameters, split over all devices."""
  shapes = jax.eval_shape(lambda: init_params(Network(config), jax.random.key(0)))
  return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16, sharding=s), shapes,
                      shardings_of(shapes, make_mesh(MeshConfig())))


def make_checkpoint(folder: Path, layers: int) -> None:
  """A random checkpoint with the sizes of Molmo2-4B but for the number of layers."""
  config = ModelConfig(connector=ConnectorConfig(hidden=9728),
                       llm=LlmConfig(width=2560, layers=layers, mlp=9728, rope_theta=5e6))
  noise = np.random.default_rng(0).normal(0, 0.02, 1 << 20).astype(ml_dtypes.bfloat16)

  def rows(shape):
    width = int(np.prod(shape[1:]))
    step = max(1, noise.size // width)
    for start in range(0, shape[0], step):
      yield np.resize(noise, (min(step, shape[0] - start), width))

  with new_folder(folder) as new:
    (new / 'config.json').write_text(json.dumps(model_config_dict(config, 'hub', 'bfloat16')))
    write_shards(new, [Planned(d.name, d.shape, ml_dtypes.bfloat16, lambda d=d: rows(d.shape))
                       for d in plan_export(abstract_params(config), 'hub')], SHARD_BYTES)


def peak_mib() -> int:
  """Largest resident memory of this process so far, MiB."""
  status = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
  return int(next(line for line in status if line.startswith('VmHWM')).split()[1]) // 1024


def measure(folder: Path) -> None:
  """Loads and saves; prints peaks."""
  config = read_model_config(folder)
  abstract = abstract_params(config)
  jax.block_until_ready(jax.jit(jnp.sum)(jnp.ones(8)))
  base = peak_mib()
  params = load_params(folder, abstract)
  loaded = peak_mib()
  with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
    save_params(params, config, Path(scratch))
  saved = peak_mib()
  files = TensorFolder(folder)
  largest = max(int(np.prod(t.shape)) * 2 for t in files.tensors.values()) // MIB
  model = sum(s.data.nbytes for x in jax.tree.leaves(params) for s in x.addressable_shards) // MIB
  print(f'{count(params):,} parameters on {jax.device_count()} device(s): {model} MiB · largest '
    f'tensor of the file {largest} MiB · process with jax {base} MiB')
  for what, peak in (('import', loaded), ('import and export', saved)):
    above = peak - model - base
    print(f'{what}: peak {peak} MiB, above model and process {above} MiB = {above / largest:.2f} '
      'of the largest tensor')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--layers', type=int, default=8, help='of the language model; 8 make 2 '
                      'billion parameters')
  parser.add_argument('--devices', type=int, default=1, help='CPU devices that the model is split '
                      'over')
  parser.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.folder:
    measure(args.folder)
    return
  with tempfile.TemporaryDirectory() as scratch:
    make_checkpoint(Path(scratch) / 'model', args.layers)
    environment = os.environ | dict(JAX_PLATFORMS='cpu', JAX_NUM_CPU_DEVICES=str(args.devices))
    raise SystemExit(subprocess.run(
      [sys.executable, '-m', 'tests.checkpoint.peak_memory', '--folder',
       f'{scratch}/model'], env=environment, check=False).returncode)


if __name__ == '__main__':
  main()
