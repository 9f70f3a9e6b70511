"""Trains Molmo. Reads top to bottom: configuration, data, mesh, model, state, loop, evaluation.

  python train.py                                                      # tiny scenes, minutes on a CPU → runs/scenes
  python train.py --config=configs/image.py:size=8b --workdir=runs/8b   # a real size
  python train.py --config.model.connector.pooling=mean --workdir=runs/mean   # an ablation is a flag
  python train.py --config=configs/finetune.py --config.init_from=DIR   # from a released checkpoint

A run that was interrupted goes on where its last checkpoint was, to the same bytes: start it again with the same
command. Another configuration needs another --workdir.
"""

import math
import signal
import time
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console

from molmo_jax import experiment as experiment_lib
from molmo_jax import finetune
from molmo_jax.checkpoint import native
from molmo_jax.configuration import ConfigError
from molmo_jax.data.manifest import ManifestError, read_manifest
from molmo_jax.data.pipeline import BadRecordError, TrainingData
from molmo_jax.data.prepare import prepare
from molmo_jax.data.scenes.generate import ScenesError
from molmo_jax.evaluation.curves import read_metrics, write_curves
from molmo_jax.evaluation.session import run_evaluation
from molmo_jax.model.molmo import Molmo
from molmo_jax.parallel.mesh import make_mesh
from molmo_jax.parallel.sharding import batch_sharding, shardings_of
from molmo_jax.progress import Display
from molmo_jax.training.optimizer import make_optimizer
from molmo_jax.training.state import init_params, init_state, state_from
from molmo_jax.training.step import make_train_step
from molmo_jax.training.telemetry import MetricsLog, batch_table, parameter_table

CONFIG = config_flags.DEFINE_config_file('config', str(Path(__file__).parent / 'configs/scenes.py'),
                                         'what to train; override with --config.a.b=c')
WORKDIR = flags.DEFINE_string('workdir', None, 'folder of the run; default: runs/<name of the configuration>')
EVALUATE = flags.DEFINE_bool('evaluate', True, 'evaluate on data.validation at the end')


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments: {argv[1:]}; flags look like --config.training.steps=10')
  console = Console()

  # ---- configuration -------------------------------------------------------------------------------------------------
  config = CONFIG.value
  workdir = Path(WORKDIR.value or f'runs/{config.name}')
  if config.get('init_from'):
    config = finetune.adopt(config, workdir)
  run = experiment_lib.from_config(config)
  experiment_lib.claim(workdir, config)
  console.rule(f'{run.name} → {workdir}')

  # ---- data ----------------------------------------------------------------------------------------------------------
  tokenizer = prepare(run.data, run.scenes, run.model.llm.first_extra_id, console)
  slots = run.model.connector.pool_slots
  data = TrainingData(run.data, run.preprocess, read_manifest(run.data.train), tokenizer, slots,
                      jax.process_index(), jax.process_count())

  # ---- mesh ----------------------------------------------------------------------------------------------------------
  mesh = make_mesh(run.mesh)
  jax.set_mesh(mesh)
  console.print(f'devices: {jax.device_count()} × {jax.devices()[0].device_kind}, {jax.process_count()} processes; '
                f'mesh: {dict(mesh.shape)}', highlight=False)

  # ---- model and state -----------------------------------------------------------------------------------------------
  model = Molmo(run.model)
  shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
  console.print(parameter_table(shapes))
  optimizer = make_optimizer(run.optimizer, run.training.steps, shapes)
  key = jax.random.key(run.seed)
  make_state = lambda: init_state(model, optimizer, key)
  abstract = jax.eval_shape(make_state)
  shardings = shardings_of(abstract, mesh)
  abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings)

  checkpoints = native.open_checkpoints(workdir / 'checkpoints', run.training.keep_checkpoints)
  if checkpoints.latest is not None:
    state = native.restore(checkpoints, None, abstract, data.iterator)
    console.print(f'resuming from step {int(state.step)}', highlight=False)
  elif run.init_from:
    params = finetune.load_params(run, abstract.params, console)
    state = jax.jit(lambda p: state_from(p, optimizer, key), out_shardings=shardings, donate_argnums=0)(params)
  else:
    state = jax.jit(make_state, out_shardings=shardings)()

  # ---- loop ----------------------------------------------------------------------------------------------------------
  to_devices = batch_sharding(mesh)
  def place(batch):
    return {k: jax.make_array_from_process_local_data(to_devices, v) for k, v in batch.items()}

  train_step = jax.jit(make_train_step(model, optimizer, run.training, run.optimizer), donate_argnums=0)
  stop = _stop_on_signal()
  start, steps = int(state.step), run.training.steps
  log = MetricsLog(workdir, start, enabled=jax.process_index() == 0)
  pending, since, last = None, time.monotonic(), start   # metrics are fetched late: the device never waits for them
  with Display(console, 'training', steps, start) as display:
    for step in range(start + 1, steps + 1):
      batch = next(data)
      if step == start + 1:
        console.print(batch_table(batch))
        _check_loss_tokens(batch, run.data.train)
      state, metrics = train_step(state, place(batch))
      if step % run.training.log_every == 0 or step == steps:
        if pending:
          _report(display, log, *pending)
        now = time.monotonic()
        pending, since, last = (step, metrics, now - since, step - last), now, step
      stopping = bool(stop)   # asked once: a signal between the two lines below must not lose the step
      if step % run.training.checkpoint_every == 0 or step == steps or stopping:
        native.save(checkpoints, step, state, data.iterator)
      if stopping:
        break
    if pending:
      _report(display, log, *pending)
  checkpoints.close()   # waits for the last write
  log.close()
  if data.skipped:
    console.print(f'[yellow]{data.skipped} records could not be used and were skipped; their names are in the log')
  if stop and step < steps:
    console.print(f'stopped by {stop[0]} after step {step}; the same command goes on from there', highlight=False)
    return

  # ---- evaluation ----------------------------------------------------------------------------------------------------
  curves = read_metrics(workdir / 'metrics.jsonl')
  write_curves(workdir / 'curves.html', curves, title=run.name)
  if EVALUATE.value:
    run_evaluation(model, state.params, read_manifest(run.data.validation), run.preprocess, tokenizer, run.evaluation,
                   slots, mesh, workdir / 'evaluation', console, title=f'{run.name}, step {steps}',
                   settings=config.to_dict(), curves=curves)


def _report(display: Display, log: MetricsLog, step: int, metrics: dict, seconds: float, steps: int) -> None:
  """Fetches the metrics of a step that is done by now, shows and writes them."""
  values = {name: float(x) for name, x in jax.device_get(metrics).items()}
  tokens = values.pop('tokens')
  values['tokens_per_second'] = tokens * steps / seconds
  log.write(step, values)
  if not math.isfinite(values['loss']):
    raise FloatingPointError(f'the loss is {values["loss"]} at step {step}; go on from an earlier checkpoint with a '
                             'lower learning rate, or look at the records before it')
  display.update(step, f'loss {values["loss"]:.3f}  accuracy {values["accuracy"]:.3f}  '
                       f'{values["tokens_per_second"]:,.0f} tokens/s')


def _check_loss_tokens(batch: dict, manifest: str) -> None:
  if not (batch['loss_weights'] > 0).any():
    raise ManifestError(f'{manifest}: the first batch has no token with a loss weight; answers need weights above 0')


def _stop_on_signal() -> list[str]:
  """A list that gets the name of a SIGTERM or Ctrl-C; a second Ctrl-C ends the program at once."""
  received: list[str] = []
  def handle(number, frame):
    received.append(signal.Signals(number).name)
    signal.signal(signal.SIGINT, signal.default_int_handler)
  signal.signal(signal.SIGTERM, handle)
  signal.signal(signal.SIGINT, handle)
  return received


def run_main() -> None:
  """Faults of the user's input end with one line instead of a traceback."""
  logging.set_verbosity(logging.WARNING)
  try:
    app.run(main, flags_parser=experiment_lib.parse_flags)
  except (ConfigError, ManifestError, BadRecordError, ScenesError, native.CheckpointError,
          FloatingPointError) as error:
    raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
  run_main()
