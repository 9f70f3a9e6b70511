"""What a run writes while it trains, and the tables that it prints before."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from molmo_jax.errors import MolmoError
from molmo_jax.progress import Display
from molmo_jax.terminal import Terminal
from molmo_jax.training.telemetry import MetricsLog, Reports, batch_table, parameter_table
from tests.model.tiny import batch, row


def steps_of(workdir):
  return [json.loads(line)['step'] for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def write(workdir, start, steps, **options):
  log = MetricsLog(workdir, start, **options)
  for step in steps:
    log.write(step, {'loss': step / 2, 'accuracy': 0.5})
  log.close()


def test_rows_are_json_with_the_step_first(tmp_path):
  write(tmp_path / 'run', 0, [1, 2])
  assert (tmp_path / 'run' / 'metrics.jsonl').read_text() == ('{"step": 1, "loss": 0.5, '
    '"accuracy": 0.5}\n{"step": 2, "loss": 1.0, "accuracy": 0.5}\n')
  assert list((tmp_path / 'run' / 'tensorboard').iterdir())


def test_a_resumed_run_drops_the_rows_after_the_step_that_it_resumes_from(tmp_path):
  write(tmp_path, 0, [1, 2, 3, 4])
  write(tmp_path, 2, [3])
  assert steps_of(tmp_path) == [1, 2, 3]


def test_a_run_that_begins_anew_drops_all_rows(tmp_path):
  write(tmp_path, 0, [1, 2])
  write(tmp_path, 0, [])
  assert steps_of(tmp_path) == []


def test_a_line_that_was_cut_is_dropped(tmp_path):
  write(tmp_path, 0, [1])
  with open(tmp_path / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 2, "lo')
  write(tmp_path, 2, [3])
  assert steps_of(tmp_path) == [1, 3]


def test_rows_are_on_disk_at_once(tmp_path):
  log = MetricsLog(tmp_path, 0)
  log.write(1, {'loss': 1.0})
  assert steps_of(tmp_path) == [1]
  log.close()


def test_other_processes_write_nothing(tmp_path):
  write(tmp_path / 'run', 0, [1], enabled=False)
  assert not (tmp_path / 'run').exists()


def printed(table):
  out = io.StringIO()
  Terminal(width=160, file=out).print(table)
  return out.getvalue()


def test_the_table_of_parameters_has_shapes_and_sums():
  text = printed(parameter_table(
    {'vit': {'up': np.zeros((3, 1000))}, 'decoder': {'norm': np.zeros(7)}}))
  assert 'vit/up' in text and '3 × 1000' in text and '3,000' in text
  assert 'decoder/…' in text and '3,007' in text


def test_the_table_of_a_batch_says_how_much_is_in_use():
  rows = batch(row(4, -2, 2), row(4))
  text = printed(batch_table(rows))
  line = next(line for line in text.splitlines() if line.startswith('tokens '))
  assert '2 × 8' in line and '75 %' in line
  assert all(name in text for name in rows)


def test_fields_without_elements_have_no_share_in_use():
  text = printed(batch_table(batch(row(4))))
  assert 'pool_index' in text
  assert 'nan' not in text


def reports(named=lambda records: [f'm.jsonl:{n}' for n in records]):
  display = Display(Terminal(file=io.StringIO()), 'training', 9)
  written = []
  return Reports(display, SimpleNamespace(write=lambda step, values: written.append(step)),
                 named), written


RATES = {'time/data': 0.0, 'tokens_per_second': 1.0}


def ran(to, losses, gradients=()):
  for step, loss in enumerate(losses, start=1):
    gradient = dict(enumerate(gradients, start=1)).get(step, 1.0)
    yield step, {'loss': loss, 'gradient_norm': gradient, 'accuracy': 0.5}
    to.ran(step, {'loss': loss, 'gradient_norm': gradient, 'accuracy': 0.5}, [10 * step])


@pytest.mark.parametrize('losses, gradients', [
  ((1.0, float('nan'), float('nan'), float('nan')), ()), ((1.0, float('inf'), 1.0, 1.0), ()),
  ((1.0, 1.0, float('nan'), 1.0), (1.0, float('nan')))])
def test_a_loss_that_is_not_finite_names_the_first_such_step_and_its_records(losses, gradients):
  found, written = reports()
  metrics = list(ran(found, losses, gradients))
  if losses[-1] == 1.0:
    metrics[-1] = (4, {'loss': float('nan'), 'gradient_norm': 1.0, 'accuracy': 0.5})
  found.due(*metrics[-1], RATES)
  with pytest.raises(MolmoError, match=r'at step 2,.* no checkpoint .*: m.jsonl:20$'):
    found.flush()
  assert written == [4]


def test_no_checkpoint_is_written_of_a_step_that_is_not_finite():
  found, _ = reports()
  metrics = list(ran(found, (1.0, 1.0, float('nan'))))
  found.check(*metrics[1])
  with pytest.raises(MolmoError, match='at step 3'):
    found.check(*metrics[2])


def test_metrics_are_reported_one_log_later():
  found, written = reports()
  for entry in ran(found, (1.0, 2.0, 3.0)):
    found.due(*entry, RATES)
  assert written == [1, 2]
  found.flush()
  found.flush()
  assert written == [1, 2, 3]
