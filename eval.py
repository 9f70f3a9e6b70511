"""Evaluates a checkpoint, trained here or released, by generation on a manifest.

  python eval.py                                             # runs/scenes on its own validation set
  python eval.py --workdir=runs/blind --step=1000
  python eval.py --manifest=mine/questions.jsonl --out=runs/scenes/mine
  python eval.py --model=allenai/Molmo2-4B --manifest=mine/questions.jsonl   # a released checkpoint → runs/Molmo2-4B

Writes summary.json, predictions.jsonl and report.html (pictures, points, predictions, answers) into
<workdir>/evaluation, or the folder of --out. The configuration is the one that the run was trained with; for --model
it is configs/finetune.py, whose values can be set by flags when it is given as --config.
"""

from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console

from configs import finetune as finetune_config
from molmo_jax import experiment as experiment_lib
from molmo_jax import finetune
from molmo_jax.checkpoint import native
from molmo_jax.configuration import ConfigError
from molmo_jax.data.manifest import ManifestError, read_manifest
from molmo_jax.data.prepare import prepare
from molmo_jax.data.scenes.generate import ScenesError
from molmo_jax.evaluation.session import run_evaluation
from molmo_jax.model.molmo import Molmo
from molmo_jax.parallel import processes
from molmo_jax.parallel.mesh import make_mesh
from molmo_jax.parallel.sharding import shardings_of
from molmo_jax.training.state import init_params

MODEL = flags.DEFINE_string('model', None, "a released checkpoint in place of a run's: folder, or id on the Hub")
CONFIG = config_flags.DEFINE_config_file('config', None, 'default: the one that the run was trained with')
WORKDIR = flags.DEFINE_string('workdir', None, 'folder of the run; default: runs/<name of the run or model>')
MANIFEST = flags.DEFINE_string('manifest', None, 'what to evaluate on; default: data.validation')
OUT = flags.DEFINE_string('out', None, 'where the results go; default: <workdir>/evaluation')
OVERWRITE = flags.DEFINE_bool('overwrite', False, 'ask again what was answered before')
DISTRIBUTED = flags.DEFINE_string('distributed', '', processes.HELP)
STEP = flags.DEFINE_integer('step', None, 'checkpoint; default: the newest')


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments: {argv[1:]}; flags look like --workdir=runs/scenes')
  processes.join(DISTRIBUTED.value)
  console = Console(quiet=not processes.is_first())
  if MODEL.value:
    workdir = Path(WORKDIR.value or f'runs/{Path(MODEL.value).name}')
    config = experiment_lib.complete(CONFIG.value or finetune_config.get_config())
    config.init_from = MODEL.value
    config = finetune.adopt(config)
  else:
    workdir = Path(WORKDIR.value or f'runs/{CONFIG.value.name if CONFIG.value else "scenes"}')
    config = CONFIG.value or experiment_lib.load(workdir / 'config.json')
  run = experiment_lib.from_config(config)
  tokenizer = prepare(run.data, run.scenes, run.model.llm.first_extra_id, console)
  manifest = read_manifest(MANIFEST.value or run.data.validation)

  mesh = make_mesh(run.mesh)
  jax.set_mesh(mesh)
  model = Molmo(run.model)
  shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
  shardings = shardings_of(shapes, mesh)
  if MODEL.value:
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, run.model.dtype, sharding=s), shapes, shardings)
    params, step = finetune.load_params(run, abstract, console), 0
    title = MODEL.value
  else:
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    checkpoints = native.open_checkpoints(workdir / 'checkpoints', run.training.keep_checkpoints)
    params, step = native.restore_params(checkpoints, STEP.value, abstract)
    title = f'{run.name}, step {step}'
  console.rule(f'{title} on {manifest.path}')

  out = Path(OUT.value) if OUT.value else workdir / 'evaluation'
  run_evaluation(model, params, manifest, run.preprocess, tokenizer, run.evaluation, run.model.connector.pool_slots,
                 mesh, out, console, title=title, settings=config.to_dict() | {'step': step},
                 overwrite=OVERWRITE.value)


def run_main() -> None:
  """Faults of the user's input end with one line instead of a traceback."""
  logging.set_verbosity(logging.WARNING)
  try:
    app.run(main, flags_parser=experiment_lib.parse_flags)
  except (ConfigError, ManifestError, ScenesError, native.CheckpointError) as error:
    raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
  run_main()
