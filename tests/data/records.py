"""A handful of pictures with questions, written in milliseconds, and the settings that read them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from molmo_jax.data.pipeline import DataConfig, TrainingData, read_sources
from molmo_jax.data.unusable import Shard
from molmo_jax.preprocess.tokenizer import Tokenizer, train_tokenizer
from molmo_jax.preprocess.types import ImageConfig, PreprocessConfig, TextConfig, VideoConfig

VOCAB = 300
PREPROCESS = PreprocessConfig(ImageConfig(crop_size=12, patch_size=4, mode='resize'),
                              VideoConfig(pooling=(2, 2)),
                              TextConfig(message_format='none', max_sequence_length=64))


def write_records(folder: Path, count: int, broken: tuple[int, ...] = ()) -> Path:
  """A manifest of `count` records whose answers are their numbers; the images of those in `broken`
  are no images.
  """
  lines = []
  for i in range(count):
    name = f'{i}.png'
    Image.fromarray(np.full((12, 12, 3), 5 * i, np.uint8)).save(folder / name)
    if i in broken:
      (folder / name).write_bytes(b'no image')
    lines.append(json.dumps({'image': name, 'question': 'Which number?', 'answer': f'number {i}'}))
  (folder / 'train.jsonl').write_text('\n'.join(lines) + '\n')
  return folder / 'train.jsonl'


def tokenizer_in(folder: Path) -> Tokenizer:
  """A tokenizer with digits of their own."""
  if not (folder / 'tokenizer.json').exists():
    train_tokenizer([' Which number?', *(f' number {i}' for i in range(10))], VOCAB,
                    folder / 'tokenizer.json')
  return Tokenizer.from_file(folder / 'tokenizer.json', base_vocab_size=VOCAB)


def training_data(manifest: Path, process: int = 0, processes: int = 1, start: int = 0,
                  ahead: int = 0, skipped_file: Path | None = None,
                  **fields) -> TrainingData:
  """The training data of a manifest; `fields` replace those of the configuration."""
  config = DataConfig(**dict(train=str(manifest), validation='', tokenizer='', batch_size=2,
                             sequence_length=40,
                             crops=1, visual_tokens=4, threads=1, prefetch=2) | fields)
  return TrainingData(config, PREPROCESS, read_sources(config), tokenizer_in(manifest.parent), 4,
                      Shard(process, processes, start), ahead, skipped_file)


def skipped(data: TrainingData) -> int:
  """Records that could not be used so far."""
  return sum(data.skipped_by_dataset.values())


def numbers(batch: dict[str, np.ndarray]) -> list[int]:
  """Which records the rows of a batch are, from the colour of their pictures."""
  return (batch['crops'][:, 0, 0, 0, 0] // 5).tolist()
