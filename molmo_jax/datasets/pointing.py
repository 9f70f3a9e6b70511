"""Benchmarks of counting and pointing that nothing is trained on."""

from __future__ import annotations

from molmo_jax.datasets import places
from molmo_jax.datasets.dataset import Dataset, Fields, clip_of, hub, optional, table
from molmo_jax.datasets.files import Row
from molmo_jax.datasets.image_qa import AI2
from molmo_jax.datasets.task import Task

IMAGE, VIDEO, MORE = ('image_pointing',), ('video_pointing',), ('more_pointing',)
FIND_GROUPS = ('{kind}', '{kind}-{data_type}')
HUB = 'huggingface.co/datasets'
TWO_FPS = 'videos as its card says, re-encoded at 2 frames/s as <id>_2fps.mp4'


def count_of(row: Row) -> int:
  """The count of a row, whose column has one of two names."""
  return int(row['count'] if 'count' in row else row['number'])


def _screens(name: str, files: str | tuple[str, ...], folder: str, corner_and_size: bool,
             groups: tuple[str, ...], source: str, licence: str) -> Dataset:
  """Pictures of screens, asked for with the instruction as it is and with 'Find' before it."""
  return Dataset(name, table(files), Fields(style='user_qa'), source, licence, 'loader',
                 benchmarks=tuple(
    Task(name + suffix, 'point_in_box', max_new_tokens=128, groups=MORE,
         records=places.screens(files, folder, corner_and_size, groups, prompt))
    for suffix, prompt in (('', '{}'), ('_find', 'Find {}'))))


DATASETS = (
  Dataset('countbench_qa', table(hub()),
          Fields('question', 'image', style='point_count', metadata={'count': count_of},
                 id=optional('example_id')),
          f'{HUB}/vikhyatk/CountBenchQA', 'CC BY 4.0', benchmarks=(
            Task('countbench_qa', 'point_count', max_new_tokens=192,
                 groups=IMAGE + ('single_image_test',)),)),
  Dataset('point_bench', table('data.json'), Fields(style='pointing'),
          f'{HUB}/PointArena/pointarena-data (zips unpacked)', 'MIT', 'loader', benchmarks=(
            Task('point_bench', 'point_bench', max_new_tokens=256, groups=IMAGE,
                 records=places.point_bench),)),
  _screens('screen_spot_v2', 'screenspot_*_v2.json', 'screenspotv2_image', True, FIND_GROUPS,
           f'{HUB}/OS-Copilot/ScreenSpot-v2', 'Apache-2.0'),
  _screens('screen_spot_pro', 'annotations/*.json', 'images', False,
           ('{group}', '{group}-{application}'), f'{HUB}/likaixin/ScreenSpot-Pro', 'MIT'),
  _screens('os_worldg', hub(), 'images', True, ('{box_type}',),
           f'{HUB}/MMInstruction/OSWorld-G', 'Apache-2.0'),
  Dataset('molmo2_video_count', table(hub()),
          Fields('question', video=places.find_video, clip=clip_of('clip_start', 'clip_end'),
                 style='video_count', id=lambda r: f'{r["video_id"]}_{r["label"]}',
                 metadata={'count': count_of, 'subset': 'category'}),
          f'{AI2}/Molmo2-VideoCountEval; {TWO_FPS}', 'ODC-BY', 'loader', benchmarks=(
            Task('vixmo_points_count_clip_63s', 'video_point_count', 'video', ('val',),
                 max_new_tokens=2048, groups=VIDEO,
                 aliases=('molmo2_video_count_eval', 'video_count')),)),
  Dataset('molmo2_video_point', table(hub()), Fields(style='video_point_count'),
          f'{AI2}/Molmo2-VideoPointEval; {TWO_FPS}', 'ODC-BY', 'loader', benchmarks=(
            Task('vixmo_points_point_eval', 'video_pointing', 'video', ('val',),
                 max_new_tokens=2048, groups=VIDEO, records=places.video_points,
                 aliases=('molmo2_video_point_eval', 'video_point')),)),
)
