"""Manifests of a few datasets of every released stage, made from tables with the
public columns.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from molmo_jax.datasets import TRAINING
from molmo_jax.datasets.files import url_name
from molmo_jax.datasets.training import convert
from tests.datasets.public_tables import write_table

DATASETS = {
  'pretrain': ('pixmo_cap_with_transcripts', 'pixmo_points', 'pixmo_count', 'tulu4_max_2304'),
  'sft': ('pixmo_cap', 'pixmo_ask_model_anything', 'molmo2_human_qa', 'molmo2_captions_min_3',
          'clevrer',
          'coco_2014_vqa_multi', 'mevis_track', 'molmo2_video_points_0_5', 'pixmo_points', 'tulu4')}


def write_stage(folder: Path, stage: str, records: int = 4, size: int = 24) -> Path:
  """Writes `folder`/<dataset>.jsonl for some datasets of a stage, with pictures and clips of `size`
  pixels.
  """
  root = folder / 'files'
  for i in range(records):
    write_picture(root / 'images' / url_name(_url(i)), i, size)
    write_clip(root / f'clip{i}.mp4', i, size)
  write_table(root / 'pixmo-points-eval/test-0.parquet', [{'image_url': 'https://example.org/x'}])
  for name in DATASETS[stage]:
    table = root / f'{name}.jsonl'
    table.write_text(''.join(json.dumps(row) + '\n' for i in range(records)
                             for row in [_row(name, i, size)]))
    convert(TRAINING[name], root, folder / f'{name}.jsonl', files=table.name)
  return folder


def write_picture(path: Path, seed: int, size: int) -> None:
  """A PNG file of noise, whatever the path's suffix."""
  path.parent.mkdir(parents=True, exist_ok=True)
  noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
  Image.fromarray(noise).save(path, 'PNG')


def write_clip(path: Path, seed: int, size: int, frames: int = 12, fps: int = 6) -> None:
  """A clip of noise."""
  rng = np.random.default_rng(seed)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('mpeg4', rate=fps)
    stream.width = stream.height = size
    stream.pix_fmt = 'yuv420p'
    for _ in range(frames):
      frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (size, size, 3), np.uint8),
                                         format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _url(i: int) -> str:
  return f'https://example.org/{i}.jpg'


def _row(name: str, i: int, size: int) -> dict[str, Any]:
  image, video = dict(image_url=_url(i)), dict(video_id=f'clip{i}')
  points = [{'x': 10.0 * k, 'y': 50.0} for k in range(1, 3)]
  chat = [dict(role='user', content='a question?'), dict(role='assistant', content=f'number {i}')]
  return {
    'pixmo_cap': image | dict(caption=f'number {i}', transcripts=['a number']),
    'pixmo_points': image | dict(points=points, count=2, label='number',
                                 collection_method='pointing'),
    'pixmo_count': image | dict(points=[{'x': 3.0, 'y': 5.0}], count=1, label='number'),
    'pixmo_ask_model_anything': image | dict(question='a question?', answer=f'number {i}'),
    'coco_2014_vqa_multi': dict(image=f'images/{url_name(_url(i))}', message_list=[
      dict(question='a question?', answers=[f'number {i}'])]),
    'molmo2_human_qa': video | dict(question='a question?', answer=f'number {i}'),
    'molmo2_captions_min_3': video
    | dict(annotation_score=3, merged_caption='number', video_caption=None,
           video_frame_merged_caption=f'number {i}'),
    'molmo2_video_points_0_5': video
    | dict(video_duration=2.0, clip_start=None, clip_end=None, label='number', count=1,
           question='a question?',
           two_fps_timestamps=[0.5], points=[points[:1]], annotator_unsure=False),
    'clevrer': dict(video_filename=f'clip{i}.mp4',
                    questions=[dict(question='a question?', answer=f'number {i}')]),
    'mevis_track': dict(video=f'clip{i}', expression='number', fps=6, sampling_fps=2, width=size,
                        height=size,
                        mask_id=['1'], frame_trajectories=[dict(frame=0, time=0.0, points=[
                          dict(id=1, point=[3.0, 5.0], occluded=False)])]),
    'tulu4': dict(category='general', source='s', first_message_qwen3_tokens=3,
                  empty_messages=False,
                  has_special_token=False, messages=chat),
  }[{'pixmo_cap_with_transcripts': 'pixmo_cap', 'tulu4_max_2304': 'tulu4'}.get(name, name)]
