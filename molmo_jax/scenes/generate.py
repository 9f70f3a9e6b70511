"""Writes the dataset: `{train,val}.jsonl`, `images/*.png`, `clips/*.mp4` and `dataset.json`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.configuration import flatten
from molmo_jax.data.manifest import read_manifest
from molmo_jax.errors import MolmoError
from molmo_jax.files import open_alone, read_json
from molmo_jax.scenes.config import LAB_TASKS, TASKS, ScenesConfig
from molmo_jax.scenes.drawing import add_noise, save_clip, save_image
from molmo_jax.scenes.kinds import KIND_OF_TASK, SCENES, SUBTITLED
from molmo_jax.scenes.scene import Media, Scene
from molmo_jax.scenes.tasks import Question, balanced_targets

FORMAT = 1                                    # raised when the same configuration gives other files
SPLITS = ('train', 'val')
ATTEMPTS = 20_000                             # scenes drawn in search of one with the wanted answer

# Names that a record's random numbers follow from by their place: new ones come at the end.
_NAMES = (*(kind for kind in SCENES if kind not in LAB_TASKS), *TASKS, *LAB_TASKS)

Record = dict[str, Any]


class ScenesError(MolmoError):
  """The dataset cannot be written or read here; the message says what to do."""


def generate(config: ScenesConfig, out_dir: str | Path,
             on_progress: Callable[[int, int], None] | None = None) -> None:
  """Writes the dataset of `config` into `out_dir`; returns at once if it is already there.

  The files are written to a sibling folder that gets its name at the end: `out_dir` is complete or
  absent, and what a killed process left there is written anew. Other processes wait meanwhile. The
  same configuration gives the same bytes (clips: the same frames, which the encoder may write
  differently).

  Args:
    config: what to write.
    out_dir: a folder that does not exist, is empty, or holds the dataset of the same configuration.
    on_progress: called with (records done, all records) after each record.

  Raises:
    ScenesError: `out_dir` holds something else.
    ValueError: the configuration does not fit, e.g. objects that are too large for the image.
  """
  out_dir = Path(out_dir).absolute()
  if _is_done(config, out_dir):
    return
  out_dir.parent.mkdir(parents=True, exist_ok=True)
  partial, lock = (out_dir.with_name(f'.{out_dir.name}.{kind}') for kind in ('partial', 'lock'))
  with open_alone(lock):
    try:
      shutil.rmtree(partial, ignore_errors=True)
      if not _is_done(config, out_dir):       # another process may have been faster
        for folder in ('images', 'clips'):
          (partial / folder).mkdir(parents=True)
        _write(config, partial, on_progress)
        partial.rename(out_dir)
    finally:
      shutil.rmtree(partial, ignore_errors=True)
      lock.unlink()


def all_text(out_dir: str | Path) -> Iterator[str]:
  """Every message and subtitle of the training records, for training a tokenizer.

  Raises:
    ScenesError: `out_dir` holds no dataset.
  """
  path = Path(out_dir) / 'train.jsonl'
  if not path.exists():
    raise ScenesError(f'{path} does not exist; write it with `molmo-jax scenes --out {out_dir}`')
  for example in read_manifest(path):
    yield from (message.content for conversation in example.conversations
                for message in conversation)
    yield from (s if isinstance(s, str) else s.text for s in example.subtitles or ())


def _is_done(config: ScenesConfig, out_dir: Path) -> bool:
  """Whether `out_dir` holds exactly this dataset; an error if it holds anything else."""
  if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
    return False
  description = out_dir / 'dataset.json'
  if not description.is_file():
    raise ScenesError(f'{out_dir} exists and is not a scenes dataset; choose another folder')
  found, wanted = read_json(description), json.loads(_description(config))
  if found == wanted:
    return True
  before, now = flatten(found), flatten(wanted)
  changed = [f'{key}: {before.get(key)} there, {now.get(key)} wanted'
             for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
  raise ScenesError(f'{out_dir} holds a dataset of another configuration ({"; ".join(changed)}); '
                    'choose another folder, or delete this one')


def _description(config: ScenesConfig) -> str:
  """The configuration; what concerns the kinds for ablations only where there are any."""
  tree = dataclasses.asdict(config)
  tree['train'] = {kind: n for kind, n in tree['train'].items() if n or kind not in LAB_TASKS}
  if not tree['train'].keys() & set(LAB_TASKS):
    del tree['lab']
  return json.dumps({'format': FORMAT, 'config': tree}, indent=2) + '\n'


def _write(config: ScenesConfig, folder: Path,
           on_progress: Callable[[int, int], None] | None) -> None:
  counts = dataclasses.asdict(config.train)
  tasks = [task for task in (*TASKS, *LAB_TASKS) if counts[KIND_OF_TASK[task]]]
  train = [(_train_record, kind, i) for kind, count in counts.items() for i in range(count)]
  val = [(_val_record, task, i) for i in range(config.val_per_task) for task in tasks]
  seen: set[bytes] = set()                    # digests of all training media
  lines: list[str] = []
  for make, name, index in (*train, *val):
    record = make(config, name, index, folder, seen)
    lines.append(json.dumps(record, ensure_ascii=False) + '\n')
    if on_progress is not None:
      on_progress(len(lines), len(train) + len(val))
  order = np.random.default_rng([config.seed, len(SPLITS)]).permutation(len(train))
  for name, members in (('train', [lines[i] for i in order]), ('val', lines[len(train):])):
    (folder / f'{name}.jsonl').write_text(''.join(members), encoding='utf-8')
  (folder / 'dataset.json').write_text(_description(config))


def _stream(config: ScenesConfig, split: str, name: str, index: int) -> np.random.Generator:
  """The random numbers of one record: independent of every other record and of their order."""
  return np.random.default_rng([config.seed, SPLITS.index(split), _NAMES.index(name), index])


def _train_record(config: ScenesConfig, kind: str, index: int, folder: Path,
                  seen: set[bytes]) -> Record:
  """One scene with its questions as the branches of a message tree."""
  rng = _stream(config, 'train', kind, index)
  scene = SCENES[kind](rng, config)
  media = _painted(scene, config, rng)
  seen.update(_digests(media))
  limits = {'objects': dataclasses.asdict(config.questions),
            'tiles': {'tiles': config.lab.tile_questions}}
  questions = _limited(scene.questions, limits[kind], rng) if kind in limits else scene.questions
  name = f'train-{kind}-{index:05d}'
  conversations = [[{'role': 'user', 'content': q.text}, {'role': 'assistant', 'content': q.answer}]
                   for q in questions]
  return {'id': name, 'task': kind, **_save_media(config, kind, name, scene, media, folder, rng),
          'conversations': conversations}


def _limited(questions: tuple[Question, ...], limits: dict[str, int],
             rng: np.random.Generator) -> list[Question]:
  """At most `limits` questions of each task, chosen at random; in the order of the tasks."""
  chosen = []
  for task, limit in limits.items():
    group = [q for q in questions if q.task == task]
    chosen += [group[i] for i in sorted(rng.permutation(len(group))[:limit])]
  return chosen


def _val_record(config: ScenesConfig, task: str, index: int, folder: Path,
                seen: set[bytes]) -> Record:
  """One question, with balanced answers in every form, and media that training does not contain."""
  targets = balanced_targets(task, config)
  text, answer = targets[index % len(targets)]
  kind = KIND_OF_TASK[task]
  rng = _stream(config, 'val', task, index)
  for _ in range(ATTEMPTS):
    scene = SCENES[kind](rng, config)
    question = _matching(scene, task, text, answer, rng)
    if question is None:
      continue
    media = _painted(scene, config, rng)
    if seen.isdisjoint(_digests(media)):
      break
  else:
    raise ScenesError(f'no scene with the answer {answer!r} to {text or task!r} was found; '
                      'the configuration makes it impossible (e.g. max_objects too small)')
  name = f'val-{task}-{index:05d}'
  record = {'id': name, 'task': task, **_save_media(config, kind, name, scene, media, folder, rng),
            'question': question.text, 'answer': question.answer}
  if question.points:
    return record | {'metric': 'points', 'points': [list(p) for p in question.points]}
  return record | {'metric': 'exact_match', 'answers': [question.answer],
                   'options': list(question.options)}


def _matching(scene: Scene, task: str, text: str | None, answer: str | None,
              rng: np.random.Generator) -> Question | None:
  """A random one of the scene's questions of `task` with this text and answer; None stands for any.
  """
  fits = [q for q in scene.questions if q.task == task and text in (None, q.text)
          and answer in (None, q.answer)]
  return fits[rng.integers(len(fits))] if fits else None


def _painted(scene: Scene, config: ScenesConfig, rng: np.random.Generator) -> Media:
  """The pixels of a scene; images with their noise."""
  media = scene.paint()
  return media if scene.fps else tuple(add_noise(image, config.noise, rng) for image in media)


def _digests(media: Media) -> list[bytes]:
  return [hashlib.blake2b(pixels.tobytes(), digest_size=16).digest() for pixels in media]


def _save_media(config: ScenesConfig, kind: str, name: str, scene: Scene, media: Media,
                folder: Path, rng: np.random.Generator) -> Record:
  """Writes the files of one record; returns the record's media keys."""
  if scene.fps is not None:
    path = f'clips/{name}.mp4'
    save_clip(folder / path, media[0], scene.fps)
    keys: Record = {'video': path}
    if kind in SUBTITLED and rng.random() < config.subtitle_share:
      keys['subtitles'] = _subtitles((config.clip_frames - 1) / config.sample_fps)
    return keys
  paths = [f'images/{name}.png'] if len(media) == 1 else [f'images/{name}-{i}.png'
                                                          for i in range(1, len(media) + 1)]
  for path, pixels in zip(paths, media, strict=True):
    save_image(folder / path, pixels)
  return {'image': paths[0]} if len(media) == 1 else {'images': paths}


def _subtitles(duration: float) -> list[Record]:
  """Two lines that say nothing about any answer; times in seconds."""
  return [{'start': 0.0, 'end': duration / 2, 'text': 'here it begins'},
          {'start': duration / 2, 'end': duration, 'text': 'here it ends'}]
