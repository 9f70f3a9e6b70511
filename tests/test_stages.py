"""Twenty steps of every released stage: its own recipe and data adapters, tiny sizes, fake media of
the real schema.
"""

from __future__ import annotations

import json

import pytest

from molmo_jax.preprocess.tokenizer import train_tokenizer
from tests.datasets.stages import write_stage
from tests.programs import command, finish

STEPS = 20
SHRUNK = '''
from configs import {file}


def get_config():
  c = {file}.get_config('stage={stage},data={data}')
  c.name = 'stage'
  c.data.tokenizer, c.data.validation = '{data}/tokenizer.json', '{data}/{validation}.jsonl'
  c.data.batch_size, c.data.workers = 4, 0
  c.data.sequence_length, c.data.visual_tokens = 512, 256
  c.data.crops = min(c.data.crops, 24)
  c.data.packing.buffer = 8
  c.preprocess.image.update(crop_size=24, patch_size=4, max_crops=2, overlap_margins=(1, 1))
  c.preprocess.video.max_frames = 4
  c.model.vit.update(image_size=24, patch_size=4, width=8, layers=10, heads=2, head_dim=4, mlp=8)
  c.model.connector.update(heads=2, kv_heads=2, head_dim=4, width=8, hidden=8)
  c.model.llm.update(vocab=400, extra_vocab=16, width=16, layers=1, heads=2, kv_heads=1, head_dim=8,
                     mlp=16)
  c.training.update(steps={steps}, log_every=1, checkpoint_every=10, validate_every=10,
                    validation_batches=2)
  for group in c.optimizer.groups.values():
    group.update(learning_rate=100 * group.learning_rate, warmup=5)
  return c
'''


def texts(folder):
  """Everything that the manifests say, for the tokenizer."""
  for path in folder.glob('*.jsonl'):
    for line in path.read_text().splitlines():
      yield from _strings(json.loads(line))


def _strings(value):
  if isinstance(value, str):
    yield f' {value}'
  elif isinstance(value, list | dict):
    for item in value.values() if isinstance(value, dict) else value:
      yield from _strings(item)


@pytest.mark.parametrize('file, stage, validation', [
  ('image', 'pretrain', 'pixmo_cap_with_transcripts'), ('image', 'sft', 'coco_2014_vqa_multi'),
  ('video', 'sft', 'clevrer'), ('video', 'long_context', 'molmo2_human_qa')])
def test_a_stage_trains(tmp_path, file, stage, validation):
  data = write_stage(tmp_path / 'data', 'pretrain' if stage == 'pretrain' else 'sft')
  train_tokenizer(texts(data), 400, data / 'tokenizer.json')
  text = SHRUNK.format(file=file, stage=stage, data=data, validation=validation, steps=STEPS)
  (tmp_path / 'stage.py').write_text(text)
  status, printed = finish(
    command(tmp_path, 'train.py', '--config=stage.py', '--workdir=run', '--noevaluate'))
  assert status == 0, printed
  rows = [json.loads(line) for line in (tmp_path / 'run'
                                        / 'metrics.jsonl').read_text().splitlines()]
  losses = [row['loss'] for row in rows if 'loss' in row]
  assert len(losses) == STEPS
  assert sum(losses[-4:]) < sum(losses[:4])
  assert [row['step'] for row in rows if 'validation/loss' in row] == [10, 20]
  # rows are packed
  assert min(row['padding/tokens'] for row in rows if 'padding/tokens' in row) < 0.5
  assert {'learning_rate/connector', 'learning_rate/vit', 'learning_rate/llm'} <= rows[0].keys()
  assert (tmp_path / 'run' / 'checkpoints' / str(STEPS)).is_dir()
