"""Formatting: what training sets and benchmarks become in words, against draws of the original."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.data.formatting import Formatter
from molmo_jax.data.manifest import read_manifest
from molmo_jax.data.record import parse_record
from molmo_jax.datasets import TRAINING, resolve_tasks, write_manifest
from molmo_jax.datasets.dataset import facts_of, media_of
from molmo_jax.datasets.files import Files, MissingTable
from molmo_jax.datasets.recipes import STAGES
from molmo_jax.datasets.training import Reading
from molmo_jax.preprocess import chat
from molmo_jax.preprocess.frame_sampling import sample_times
from molmo_jax.preprocess.sequence import LOSS_WEIGHTS
from molmo_jax.preprocess.types import Example, PreprocessConfig

DRAWS = 600
TOLERANCE = 0.03                            # of a share, beside the error of both samples
STAGE = {'pretrain': ('style_only', 'style_and_length_v2'), 'sft': ('molmo2', 'demo_or_style_v2')}
# Names of the original's registry where ours differ; '_qa' and the like say how labels are asked.
NAMES = {'kinetics': 'kinetics710', 'kinetics_qa': 'kinetics710',
         'news_video_qa_filtered': 'news_video_qa',
         'pixmo_multi_image_qa_multi_only_max5': 'pixmo_multi_image_qa',
         'pixmo_points_train': 'pixmo_points', 'pixmo_count_train': 'pixmo_count',
         'pixmo_points_high_freq_train': 'pixmo_points_high_freq',
         'molmo2_video_track_ground': 'molmo2_video_ground',
         'molmo2_captions': 'molmo2_captions_min_3',
         'vixmo3_top_level_captions_min_3': 'molmo2_captions_min_3',
         'vixmo_syn_video_capqa_v2': 'molmo2_syn_captions_qa',
         'vixmo_syn_video_capqa_with_sub_v2': 'molmo2_syn_captions_subtitle_qa',
         'academic_video_points': 'academic_points',
         'academic_points_clip_63s_2fps': 'academic_points'}
SIZES = ((640, 480), (333, 777), (1200, 301), (512, 512), (1024, 768), (97, 1203))
# The lists of these kinds are ours, so that where the original has one sentence we have many.
OWN_WORDS = re.compile(r'.*(_exp|_label|_short_answer|_caption|charades_sta)$')


def recognises(folder: Path) -> bool:
  """True for a folder with cases of training sets or of benchmarks."""
  return any('records' in json.loads(path.read_text()) for part in ('training', 'evaluation')
             for path in sorted((folder / part).glob('*.json'))[:1])


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Checks every record of every case, and the settings; (name, None) or (name, what is wrong)."""
  results = []
  for path in sorted(folder.glob('training/*.json')):
    results += _results(path.stem, functools.partial(_training, json.loads(path.read_text())))
  for path in sorted(folder.glob('evaluation/*.json')):
    results += _results(path.stem, functools.partial(_evaluation, json.loads(path.read_text())))
  if (folder / 'settings.json').exists():
    results += _results('settings', functools.partial(
      _settings, json.loads((folder / 'settings.json').read_text())))
  return results


def _results(name: str, check) -> Iterator[tuple[str, str | None]]:
  try:
    for case, problem in check():
      yield f'{name} {case}', problem
  except Exception as error:   # whatever goes wrong is this case's result
    yield name, f'{type(error).__name__}: {error}'


# ---- training ------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class GivenRows(Files):
  """The rows of a case in the place of the first table of a dataset; the others are not there."""
  rows: tuple[dict[str, Any], ...] = ()
  read: list[bool] = dataclasses.field(default_factory=list)

  def tables(self, patterns: Any, **reading: Any) -> Iterator[dict[str, Any]]:
    if self.split != 'train':               # a table of what is held out
      return iter(())
    if self.read:
      raise MissingTable('one table is given')
    self.read.append(True)
    return ({**row, '_file': 'rows'} for row in self.rows)

  def picture(self, value: Any, name: str = '') -> str:
    return str(value)

  def video(self, name: str) -> str:
    return name

  def size(self, path: str) -> tuple[int, int]:
    return SIZES[int(re.sub(r'\D', '', Path(path).name) or 0)]


def _use(name: str):
  name = NAMES.get(name, name)
  name = name.replace('mantis_instruct_', 'mantis_').removesuffix('_multi_only').replace('-', '_')
  if name.startswith(('vixmo_points_minmax_', 'molmo2_video_point_minmax_')):
    name = 'molmo2_video_points_' + name.split('minmax_')[1]
  object_track = name.replace('_single_point_track', '_single_object_track')
  for known in (name, object_track):
    if known in TRAINING:
      return TRAINING[known]
  prefixes = [known for known in TRAINING if name.startswith(known + '_')]
  if not prefixes:
    raise KeyError(f'there is no dataset {name}')
  return TRAINING[max(prefixes, key=len)]


def _records(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """The manifest records that the project makes of rows."""
  use = _use(name)
  reading = Reading(use, GivenRows(Path(), 'train', Path(), rows=tuple(rows)))
  try:
    trees = list(reading.trees())
  except Exception:   # the rows are what is left of an example: no media, or one step of a video
    trees = [[row] for row in rows]
    if use.grouped:
      trees = [[row | {'mode': mode} for row in rows] for mode in use.modes or ('',)]
  records = []
  for tree in trees:
    try:
      record = media_of(tree[0], reading.use, reading.files)
    except Exception:
      record = {}
    size = functools.partial(lambda of: reading.files.size(of['image']), record)
    facts = [fact for row in tree for fact in facts_of(row | {'_size': size}, reading.use)]
    if facts:
      records += [record | part for part in reading.parts(facts)]
  return records


def _training(case: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
  records = _records(case['dataset'], case['rows'])
  if len(records) != len(case['records']):
    yield 'records', f'{len(records)} records, expected {len(case["records"])}'
    return
  for number, (record, expected) in enumerate(zip(records, case['records'])):
    yield str(number), next(_problems(record, expected, case['stage']), None)


def _problems(record: dict[str, Any], expected: dict[str, Any], stage: str) -> Iterator[str]:
  example = parse_record(record, 'case')
  yield from _media_problems(example, record, expected)
  weights = {json.dumps(f.get('weight')) for f in record['facts']}
  weight = expected['weight'] if expected['weight'] is None else {'weight': expected['weight']}
  if weights != {json.dumps(weight)}:
    yield f'weight {weights}, expected {weight}'
  draws = list(_draws(example, stage))
  for i, conversation in enumerate(expected['conversations']):
    drawn = [talks[i] for talks in draws if len(talks) > i]
    yield from (f'conversation {i}: {problem}' for problem in _talk_problems(
      drawn, conversation, expected, i))
  counts = {len(talks) for talks in draws}
  if max(counts) != len(expected['conversations']):
    yield f'{max(counts)} conversations, expected {len(expected["conversations"])}'


def _media_problems(example: Example, record: dict[str, Any], expected: dict[str, Any]
                    ) -> Iterator[str]:
  if expected['clip'] is not None and (example.clip is None
                                       or list(example.clip) != expected['clip']):
    yield f'clip {example.clip}, expected {expected["clip"]}'
  if expected['images'] is not None and len(example.images) != expected['images']:
    yield f'{len(example.images)} images, expected {expected["images"]}'
  if expected['subtitle'] and _lines(record.get('subtitles')) != _lines(expected['subtitle']):
    yield f'subtitles {record.get("subtitles")}, expected {expected["subtitle"]}'
  if expected['video_sampler'] is not None:
    sampler = {'frame_sample_mode': example.sampling.get('frame_sample_mode'),
               'candidate_sampling_fps': example.sampling.get('candidate_fps'),
               'min_fps': example.facts[0].get('fps')}
    if sampler != expected['video_sampler']:
      yield f'sampler {sampler}, expected {expected["video_sampler"]}'


def _lines(subtitles: Any) -> Any:
  if not isinstance(subtitles, list):
    return subtitles
  return [[s['start'], s['end'], s['text']] if isinstance(s, dict) else list(s) for s in subtitles]


@dataclasses.dataclass(frozen=True)
class Talk:
  """One drawn conversation."""
  prompts: tuple[str, ...]
  answers: tuple[str, ...]
  style: str

  @property
  def tag(self) -> str:
    match = re.match(rf'{re.escape(self.style)}( \d+)?:', self.prompts[0])
    return '' if match is None else self.style + (' N' if match[1] else '')


def _draws(example: Example, stage: str) -> Iterator[list[Talk]]:
  prompts, prefix = STAGE[stage]
  formatter = Formatter(prompts)
  for seed in range(DRAWS):
    rng = np.random.default_rng(seed)
    worded = formatter(example, rng)
    styles = worded.styles or [worded.style]
    talks = []
    for messages, style in zip(worded.conversations, styles):
      texts = [m.content for m in messages]
      texts[0] = chat.add_style_prefix(texts[0], style, prefix, answer=texts[-1], rng=rng)
      talks.append(Talk(tuple(texts[::2]), tuple(texts[1::2]), style))
    yield talks


def _talk_problems(drawn: list[Talk], expected: dict[str, Any], record: dict[str, Any],
                   number: int) -> Iterator[str]:
  styles = record['styles'] if isinstance(record['styles'], list) else [record['styles']]
  style = styles[min(number, len(styles) - 1)]
  if style not in {talk.style for talk in drawn}:
    yield f'style {drawn[0].style}, expected {style}'
  shares = collections.Counter(talk.tag for talk in drawn)
  wanted: dict[str, float] = collections.Counter()
  for tag, share in expected['style_tag'].items():   # a wording such as 'Track: …' looks like a tag
    wanted[tag if tag.removesuffix(' N') in {t.style for t in drawn} else ''] += share
  for tag in shares.keys() | wanted.keys():
    share, other = shares[tag] / DRAWS, wanted[tag]
    error = 2.5 * math.sqrt(other * (1 - other) * (1 / DRAWS + 1 / record['draws']))
    if abs(share - other) > TOLERANCE + error:
      yield f'tag {tag!r} in {share:.3f} of the draws, expected {other:.3f}'
  ours = {tuple(map(_shortened, talk.answers)) for talk in drawn}
  theirs = {tuple(map(_shortened, answers)) for answers in expected['answers']}
  if not theirs <= ours:
    yield f'never the answer {sorted(theirs - ours)[0]}; {sorted(ours)[:3]}'
  if expected['distinct_answers'] == len(theirs) and ours != theirs:
    yield f'an answer {sorted(ours - theirs)[0]} that never occurs'
  if expected['prompt'] is not None:
    prompts = {talk.prompts for talk in drawn}
    if len(prompts) > 1 and OWN_WORDS.fullmatch(style):
      return
    if prompts != {tuple(expected['prompt'])}:
      yield f'prompt {sorted(prompts)[0]}, expected {expected["prompt"]}'


def _shortened(text: str) -> tuple[int, str]:
  """Length and beginning of an answer; long ones are given as 'beginning… (n characters)'."""
  match = re.fullmatch(r'(.*)… \((\d+) characters\)', text, re.DOTALL)
  return (int(match[2]), match[1][:100]) if match else (len(text), text[:100]
                                                        if len(text) > 600 else text)


# ---- benchmarks ----------------------------------------------------------------------------------

def _evaluation(case: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
  from tests.datasets.builders import BUILDERS
  task = resolve_tasks(case['task'])[0]
  if task.max_new_tokens != case['max_new_tokens']:
    yield 'tokens', f'{task.max_new_tokens} new tokens, expected {case["max_new_tokens"]}'
  with tempfile.TemporaryDirectory() as folder:
    root = Path(folder, task.folder)
    BUILDERS[task.folder](root)
    write_manifest(task, root, Path(folder, 'task.jsonl'))
    examples = list(read_manifest(Path(folder, 'task.jsonl')))
  if len(examples) != len(case['records']):   # the original asks the first question of an image
    examples = list({e.images or e.video: e for e in reversed(examples)}.values())[::-1]
  if len(examples) != len(case['records']):
    yield 'records', f'{len(examples)} records, expected {len(case["records"])}'
    return
  for number, (example, expected) in enumerate(zip(examples, case['records'])):
    yield str(number), next(_question_problems(example, expected), None)


def _asked(example: Example, seed: int) -> tuple[str, str]:
  """The whole first message as it is sent, and its style."""
  worded = Formatter()(example, np.random.default_rng(seed), training=False)
  text = chat.add_style_prefix(worded.conversations[0][0].content, worded.style, 'demo_or_style_v2')
  return chat.format_messages([text], 'qwen3')[0], worded.style


def _question_problems(example: Example, expected: dict[str, Any]) -> Iterator[str]:
  prompts = {_asked(example, seed)[0] for seed in range(12)}
  style = _asked(example, 0)[1]
  if style != expected['style']:
    yield f'style {style}, expected {expected["style"]}'
  if expected['prompt'] is not None and prompts != {expected['prompt']}:
    yield f'asked {sorted(prompts)[0]!r}, expected {expected["prompt"]!r}'
  if expected['prompt'] is None and len(prompts) < 2:
    yield f'always asked {sorted(prompts)[0]!r}; this is drawn'
  if len(example.images) != expected['images']:
    yield f'{len(example.images)} images, expected {expected["images"]}'
  clip = expected['clip'] if expected['clip'] and None not in expected['clip'] else None
  if (example.clip and list(example.clip)) != clip:
    yield f'clip {example.clip}, expected {clip}'
  if expected['subtitles'] and _lines([dataclasses.asdict(s) for s in example.subtitles or ()]
                                      ) != expected['subtitles']:
    yield f'subtitles {example.subtitles}, expected {expected["subtitles"]}'
  if expected['video_sampler']:
    yield from _media_problems(example, {}, expected | {
      'clip': None, 'images': None, 'subtitle': None})


# ---- settings ------------------------------------------------------------------------------------

def _settings(case: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
  from configs import stages
  crops, task = case['image_crops'], resolve_tasks('muir_bench')[0]
  sft = stages.config('video', 'size=4b', ('sft',)).preprocess.image
  asked = task.preprocess(PreprocessConfig()).image
  ours = {'pretrain': (sft.max_crops,),
          'sft': (sft.max_crops, min(sft.max_crops, asked.max_multi_image_crops), sft.max_images),
          'evaluation': (asked.max_crops_eval, asked.max_multi_image_crops, asked.max_images_eval)}
  for stage, values in ours.items():
    expected = tuple(crops[stage][k] for k in ('single', 'several', 'images') if k in crops[stage])
    yield f'crops {stage}', None if values == expected else f'{values}, expected {expected}'
  for given in case['tracking_frames'].get('examples_128', ()):
    times = sample_times(given['duration'], 128, 'fps', None, None, (1, 2, 3, 6))
    yield (f'tracking {given["duration"]}', None if len(times) == given['frames']
           else f'{len(times)} frames, expected {given["frames"]}')
  rates = {name: group.rate for name, group in STAGES['sft'].items()}
  yield 'groups', None if rates == case['groups'] else f'{rates}, expected {case["groups"]}'
  usual = LOSS_WEIGHTS['root_subsegments_root_tokens'].with_terms({'weight': 2 * 20901 / 28299})
  for given in case['message_weights']['chart_example']:
    weight = usual.value(given['loss_tokens'], 1)
    yield (f'weight of {given["loss_tokens"]} tokens', None
           if abs(weight - given['weight']) < 1e-6 else f'{weight}, expected {given["weight"]}')
