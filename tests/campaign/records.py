"""Lines of a manifest, damaged; each is read, worded and encoded as in training and in evaluation,
and its messages are given to the processor.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from molmo_jax.data.batching import RowShape
from molmo_jax.data.formatting import Formatter
from molmo_jax.data.manifest import read_manifest
from molmo_jax.data.mixture import DatasetConfig, MixedDataset
from molmo_jax.data.pipeline import BadRecordError, EncodeRecord
from molmo_jax.evaluation import runner
from molmo_jax.preprocess.tokenizer import Tokenizer, train_tokenizer
from molmo_jax.preprocess.types import ImageConfig, PreprocessConfig, TextConfig, VideoConfig
from molmo_jax.processor.processor import Processor
from tests.campaign import videos
from tests.campaign.engine import Case
from tests.campaign.mutate import (
  DEEP,
  DEEP_OBJECT,
  NASTY,
  Rng,
  damage_json,
  damage_text,
  pick,
  to_text,
)

VOCAB = 400
PREPROCESS = PreprocessConfig(ImageConfig(crop_size=12, patch_size=4, mode='resize'),
                              VideoConfig(max_frames=4, max_frames_eval=4, pooling=(2, 2)),
                              TextConfig(message_format='qwen3', max_sequence_length=900))
SHAPE = RowShape(1000, 20, 200, 4)
ASK = [{'role': 'user', 'content': 'Which color?'}, {'role': 'assistant', 'content': 'red'}]
RECORDS: tuple[dict[str, Any], ...] = (
  {'image': 'a.png', 'question': 'Which color?', 'answer': 'red', 'id': 'x', 'task': 'colors'},
  {'images': ['a.png', 'b.png'], 'messages': ASK, 'style': 'demo', 'weights': [0.5]},
  {'question': 'How many?', 'answer': 'two', 'answers': ['2', 'two'], 'metadata': {'a': [1]}},
  {'image': 'a.png', 'conversations': [ASK, [*ASK, *ASK]], 'styles': ['demo', 'vqa2'],
   'weights': [1, {'weight': 0.5, 'root_length': True}]},
  {'video': 'a.mp4', 'question': 'What happens?', 'answer': 'it gets light', 'clip': [1, 2],
   'subtitles': [{'start': 0, 'end': 1.5, 'text': 'hello'}]},
  {'video': 'a.mp4', 'messages': ASK, 'subtitles': 'hello',
   'sampling': {'frame_sample_mode': 'fps', 'candidate_fps': [1, 2]}},
  {'image': 'a.png', 'question': 'Where?', 'answer': 'here', 'points': [[0.1, 0.2]],
   'metric': 'exact_match', 'options': ['A', 'B']},
  {'image': 'a.png', 'facts': [{'style': 'pointing', 'label': 'dog', 'points': [[10.0, 20.0]]}]},
  {'image': 'a.png', 'facts': [{'style': 'demo', 'question': 'Which?', 'answers': ['red', 'blue']}],
   'dialogue': 0.5},
  {'image': 'a.png', 'facts': [{'style': 'a_okvqa_mc', 'question': 'Which?', 'right': 1,
                                'options': ['red', 'blue']}]})
# keys whose absence means nothing in particular: null and [] are the same as none
OPTIONAL = ('subtitles', 'clip', 'weights', 'style', 'id', 'styles', 'options', 'points', 'answers',
            'images', 'video', 'image', 'metadata')


class Inputs:
  """The area of records."""

  def __init__(self, base: Path, port: int):
    Image.fromarray(np.full((20, 30, 3), (250, 10, 10), np.uint8)).save(base / 'a.png')
    Image.fromarray(np.full((20, 30, 3), (10, 250, 10), np.uint8)).save(base / 'b.png')
    videos.encode(base / 'a.mp4', 'mpeg4', {}, count=21)
    train_tokenizer([' Which color? red blue How many? two What happens? it gets light hello'],
                    VOCAB, base / 'tokenizer.json')
    self._tokenizer = Tokenizer.from_file(base / 'tokenizer.json', base_vocab_size=VOCAB)
    self._processor, self._base = Processor(self._tokenizer, PREPROCESS), base
    self._nasty = (*NASTY, 'missing.png', 'a.mp4', 'a.png', 'tokenizer.json', f'{base}/a.png',
                   f'http:/127.0.0.1:{port}/a.mp4', f'http://127.0.0.1:{port}/a.png', 'fifo')
    self._number, self._right = 0, {}
    os.mkfifo(base / 'fifo') if not (base / 'fifo').exists() else None

  def case(self, rng: Rng, folder: Path) -> Case:
    kind = rng.random()
    if kind < 0.04:
      return self._control(rng)
    if kind < 0.1:
      return self._absent(rng)
    if kind < 0.13:
      return self._unusable(rng)
    record = pick(rng, RECORDS)
    if kind < 0.23:
      return self._messages(rng)
    if kind < 0.7:
      record, how = damage_json(record, rng, self._nasty)
      data = to_text(record).encode()
    elif kind < 0.75:
      key = pick(rng, ('image', 'video', 'images', 'id', 'task', 'metric', 'question', 'facts'))
      data, how = to_text(record | {key: pick(rng, self._nasty)}).encode(), f'{key} added'
    else:
      data, how = damage_text(to_text(record), rng)
    return self._line(rng, data.replace(b'\n', b' ') or b'{}', f'damaged: {how}')

  def _line(self, rng: Rng, data: bytes, what: str, wanted: Any = 'either',
            check: Callable[[Any], None] | None = None) -> Case:
    # names that never come again: a reader of the file before may not be what is read
    manifest = self._base / f'{self._number % 1000}_{rng.integers(1 << 30)}.jsonl'
    manifest.write_bytes(data + b'\n')
    (manifest.parent.parent / 'input' / 'line.jsonl').write_bytes(data + b'\n')
    self._number += 1
    run = self._train if rng.random() < 0.7 or check else self._evaluate
    prompts = 'molmo2' if check else pick(rng, ('molmo2', 'style_only', 'molmo_v1'))

    def call() -> Any:
      try:
        return run(manifest, prompts)
      finally:
        manifest.unlink()
    return Case(f'{run.__name__.strip("_")} {what}', call, check or self._is_example, manifest.name,
                wanted)

  def _train(self, manifest: Path, prompts: Any) -> dict[str, Any]:
    """As a reader of training data with data.on_error=raise."""
    dataset = MixedDataset('data.train', read_manifest(manifest), DatasetConfig(str(manifest)))
    encode = EncodeRecord((dataset,), PREPROCESS, self._tokenizer, SHAPE, False, Formatter(prompts))
    found = encode.random_map(0, np.random.default_rng(0))
    if 'error' in found:
      raise BadRecordError(found['error'])
    return found

  def _evaluate(self, manifest: Path, prompts: Any) -> dict[str, Any]:
    """As an evaluation, up to the model."""
    (_, found), = runner._encoded(read_manifest(manifest), [0], self._processor)
    if isinstance(found, str):
      raise BadRecordError(found)
    return found.encoded

  def _control(self, rng: Rng) -> Case:
    record = pick(rng, RECORDS[:7])

    def check(found: dict[str, Any]) -> None:
      self._is_example(found)
      weighted = found['tokens'][np.flatnonzero(found['loss_weights'] > 0)]
      answer = record.get('answer', 'red')
      assert answer in self._tokenizer.decode(weighted.tolist()), 'the answer is not learned'
      media = 'video' in record or 'image' in record or 'images' in record
      assert (len(found['crops']) > 0) == media, f'{len(found["crops"])} crops'
    return self._line(rng, to_text(record).encode(), 'control', 'value', check)

  def _absent(self, rng: Rng) -> Case:
    """null and [] are the same as no key at all."""
    number = int(rng.integers(7))
    record = RECORDS[number]
    added = {key: pick(rng, (None, None, [])) for key in OPTIONAL
             if key not in record and rng.random() < 0.3}
    for key in ('image', 'video', 'id', 'style', 'clip', 'metadata'):
      if key in added:
        added[key] = None

    def check(found: dict[str, Any]) -> None:
      plain = self._train_record(record)
      different = [k for k in plain if not np.array_equal(plain[k], found[k])]
      assert not different, f'{different} differ from the record without these keys'
    return self._line(rng, to_text(record | added).encode(), f'absent: {sorted(added)}', 'value',
                      check)

  def _train_record(self, record: dict[str, Any]) -> dict[str, Any]:
    manifest = self._base / 'plain.jsonl'
    manifest.write_text(json.dumps(record) + '\n')
    return self._train(manifest, 'molmo2')

  def _unusable(self, rng: Rng) -> Case:
    """Lines that only an error is right for."""
    data, how = pick(rng, (
      (to_text(DEEP).encode(), 'deep'), (to_text(DEEP_OBJECT).encode(), 'deep object'),
      (b'{"question": "a", "answer": "b", "answer": "c"}', 'a key twice'),
      (b'{"question": "a", "answer": "b", "weights": [1e39]}', 'weight beyond float32'),
      (b'{"question": "a", "answer": "b", "weights": [NaN]}', 'weight not finite'),
      (b'{"question": "a", "answer": "b", "weights": [' + b'9' * 400 + b']}',
       'weight of 400 digits'),
      (b'{"question": "a\xff", "answer": "b"}', 'not UTF-8'), (b'null', 'null'), (b'[1]', 'list'),
      (b'{"video": "a.mp4\\u0000b", "question": "a"}', 'NUL in a path'),
      (b'{"image": "fifo", "question": "a", "answer": "b"}', 'FIFO'),
      (b'{"video": "fifo", "question": "a", "answer": "b"}', 'FIFO as video'),
      (b'{"image": "missing.png", "question": "a", "answer": "b"}', 'missing image'),
      (b'{"image": "tokenizer.json", "question": "a", "answer": "b"}', 'no image')))
    return self._line(rng, data, f'unusable: {how}', 'error')

  def _messages(self, rng: Rng) -> Case:
    """Messages in Hugging Face's format, given to the processor."""
    messages = pick(rng, (
      [{'role': 'user', 'content': [{'type': 'image', 'image': f'{self._base}/a.png'},
                                    {'type': 'text', 'text': 'Which?'}]}],
      [{'role': 'subtitle', 'content': [{'start': 0, 'end': 1, 'text': 'hello'}]},
       {'role': 'user', 'content': [{'type': 'video', 'video': f'{self._base}/a.mp4'},
                                    {'type': 'text', 'text': 'Which?'}]}],
      [{'role': 'user', 'content': 'Which?'}, {'role': 'assistant', 'content': 'red'}]))
    damaged, how = damage_json(messages, rng, self._nasty)
    return Case(f'messages: {how}', lambda: self._processor(damaged), self._is_prompt, '')

  def _is_example(self, found: dict[str, Any]) -> None:
    """What holds for every encoded example."""
    self._is_prompt(found)
    for name in ('segments', 'targets', 'loss_weights'):
      if name in found:
        assert found[name].shape == found['tokens'].shape, name
    weights = found['loss_weights']
    assert np.isfinite(weights).all() and (weights >= 0).all(), 'weights'
    assert np.isfinite(found['layout_box']).all(), 'layout_box'

  def _is_prompt(self, found: dict[str, Any]) -> None:
    tokens, special = found['tokens'], self._tokenizer.special
    if tokens.ndim == 2:           # a list of conversations
      return
    assert tokens.ndim == 1 and tokens.size and tokens.min() >= 0, tokens.shape
    assert tokens.max() < VOCAB + 128, tokens.max()
    patches = (tokens == special['<im_patch>']).sum()
    assert patches == (found['pool_index'] >= 0).any(-1).sum(), 'visual tokens'
    assert found['crops'].dtype == np.uint8
    reach = len(found['crops']) * 9
    assert found['pool_index'].max(initial=-1) < reach, 'pool_index'
