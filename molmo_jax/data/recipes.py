"""The datasets of the released training stages as data: what, how often, from where, under which
licence.

Source: docs/training.md §2.2–§2.4. A dataset's name is that of its adapter (`data/adapters`) where
there is one. Licences are those of the annotations as far as they are known here; media have their
own. Read the source's terms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

HUB = 'https://huggingface.co/datasets/'
ASK = 'see source'
ODC = 'ODC-BY-1.0'
Kind = Literal['image', 'images', 'video', 'text', 'mixed']


@dataclasses.dataclass(frozen=True)
class Entry:
  """One dataset of a stage; `size`, `rate`, `message_weight` and `p_high_res` as in
  `mixture.DatasetConfig`.
  """
  name: str
  kind: Kind
  style: str
  source: str                     # a page, or owner/name on the Hugging Face Hub
  licence: str = ASK
  size: float | None = None
  rate: float = 1.0
  message_weight: float | None = None
  p_high_res: float = 0.0

  @property
  def url(self) -> str:
    """Where to get it."""
    return self.source if '://' in self.source else HUB + self.source


@dataclasses.dataclass(frozen=True)
class Group:
  """Datasets that share a part of all draws."""
  rate: float
  entries: tuple[Entry, ...]


def _each(entries: Sequence[Entry], **fields: Any) -> tuple[Entry, ...]:
  return tuple(dataclasses.replace(entry, **fields) for entry in entries)


POINTING = (
  Entry('pixmo_points', 'image', 'point_count, pointing', 'allenai/pixmo-points', ODC),
  Entry('pixmo_count', 'image', 'point_count, pointing', 'allenai/pixmo-count', ODC),
  Entry('pixmo_points_high_freq', 'image', 'point_count, pointing', 'allenai/pixmo-points', ODC),
  Entry('cosyn_point', 'image', 'cosyn_point', 'allenai/CoSyn-point', ODC))
TULU = 'allenai/molmo2-tulu4-classified'

PRETRAIN = {
  'caption': Group(0.60, (Entry('pixmo_cap_with_transcripts', 'image', 'long_caption, transcript',
                                'allenai/pixmo-cap',
                                ODC),)),
  'pointing': Group(0.30, POINTING),
  'nlp': Group(0.10, (Entry('tulu4_max_2304', 'text', 'text_sft', TULU),)),
}

DEMO = (
  Entry('pixmo_ask_model_anything', 'image', 'user_qa', 'allenai/pixmo-ask-model-anything', ODC),
  Entry('pixmo_cap', 'image', 'long_caption', 'allenai/pixmo-cap', ODC, size=100_000),
  Entry('pixmo_cap_qa_as_user_qa', 'image', 'user_qa', 'allenai/pixmo-cap-qa', ODC),
  Entry('pixmo_multi_image_qa', 'images', 'correction_qa', 'allenai/Molmo2-MultiImageQA', ODC),
  Entry('molmo2_human_qa', 'video', 'user_qa', 'allenai/Molmo2-AskModelAnything', ODC),
  Entry('molmo2_captions_min_3', 'video',
        'video_merged_caption, video_short_caption, video_long_caption',
        'allenai/Molmo2-Cap', ODC, rate=1.5, message_weight=0.1))

_OPEN, _CHOICE = 'video_short_answer', 'video_multiple_choice'
_VIDEO = (                                  # name, style, source, licence, size
  ('tgif', f'{_OPEN}, {_CHOICE}', 'https://github.com/YunseokJANG/tgif-qa', ASK, 60_000),
  ('tvqa_with_sub', _CHOICE, 'https://tvqa.cs.unc.edu', ASK, 60_000),
  ('paxion', _CHOICE, 'https://github.com/MikeWangWZHL/Paxion', ASK, 60_000),
  ('llava_video_mc_academic', _CHOICE, 'lmms-lab/LLaVA-Video-178K', ASK, None),
  ('llava_video_oe_academic', _OPEN, 'lmms-lab/LLaVA-Video-178K', ASK, None),
  ('perception_test', _CHOICE, 'https://github.com/google-deepmind/perception_test', 'CC BY 4.0', None),
  ('nextqa_mc', _CHOICE, 'https://github.com/doc-doc/NExT-QA', ASK, None),
  ('news_video_qa', _OPEN, 'http://cvit.iiit.ac.in/research/projects/cvit-projects/videoqa', ASK, None),
  ('how2qa', _CHOICE, 'https://github.com/ych133/How2R-and-How2QA', ASK, None),
  ('sutd_trafficqa', _CHOICE, 'https://github.com/SUTDCV/SUTD-TrafficQA', ASK, None),
  ('social_iq2', _CHOICE, 'https://github.com/abwilf/Social-IQ-2.0-Challenge', ASK, None),
  ('sportsqa_oe', _OPEN, 'https://github.com/HopLee6/Sports-QA', ASK, None),
  ('cinepile_with_sub', f'{_CHOICE}_w_subtitle', 'tomg-group-umd/cinepile', ASK, None),
  ('clevrer', f'{_OPEN}, {_CHOICE}', 'http://clevrer.csail.mit.edu', ASK, None),
  ('funqa', _OPEN, 'https://github.com/Jingkang50/FunQA', ASK, None),
  ('star', f'{_OPEN}, {_CHOICE}', 'https://bobbywu.com/STAR', ASK, None),
  ('intent_qa', _CHOICE, 'https://github.com/JoseponLee/IntentQA', ASK, None),
  ('video_localized_narratives', _OPEN, 'https://google.github.io/video-localized-narratives', 'CC BY 4.0', None),
  ('road_text_vqa', _OPEN, 'https://cvit.iiit.ac.in/research/projects/cvit-projects/roadtextvqa', ASK, None),
  ('countix_oe', _OPEN, 'https://sites.google.com/view/repnet', ASK, None),
  ('camerabench_qa', _OPEN, 'https://github.com/sy77777en/CameraBench', ASK, None),
  ('moments_in_time', 'moments_in_time_label', 'http://moments.csail.mit.edu', ASK, 60_000),
  ('kinetics710', 'kinetics_label', 'https://github.com/cvdfoundation/kinetics-dataset', ASK, 60_000),
  ('charades_sta', 'charades_sta', 'https://github.com/jiyanggao/TALL', ASK, None),
  ('coin', 'coin_label', 'https://coin-dataset.github.io', ASK, None),
  ('youcook2', 'youcook2_label', 'http://youcook2.eecs.umich.edu', ASK, None),
  ('activitynet', 'activitynet_label', 'http://activity-net.org', ASK, None),
  ('ego4d_all', 'ego4d_nlq_temporal_grounding', 'https://ego4d-data.org', ASK, None),
  ('epic_kitchens', 'epic_kitchens_label', 'https://epic-kitchens.github.io', 'CC BY-NC 4.0', None),
  ('qv_highlights', 'video_temporal_grounding', 'https://github.com/jayleicn/moment_detr', ASK, None),
  ('motionbench_train', 'video_motion_caption', 'https://motion-bench.github.io', ASK, None),
  ('video_localized_narratives_caption', 'video_object_caption',
   'https://google.github.io/video-localized-narratives', 'CC BY 4.0', None),
  ('molmo2_syn_captions_qa', _CHOICE, 'allenai/Molmo2-VideoCapQA', ODC, None),
  ('molmo2_syn_captions_subtitle_qa', _CHOICE, 'allenai/Molmo2-VideoSubtitleQA', ODC, None))
VIDEO_ACADEMIC = tuple(Entry(name, 'video', *rest) for name, *rest in _VIDEO)

_RRC = 'https://rrc.cvc.uab.es'
_IMAGE = (                                  # name, style, source, licence, size
  ('coco_2014_vqa_multi', 'vqa2', 'allenai/molmo2-vqa2-2014', ASK, None),
  ('text_vqa', 'text_vqa', 'allenai/molmo2-text-vqa', ASK, None),
  ('okvqa', 'okvqa', 'allenai/molmo2-okvqa', ASK, None),
  ('chart_qa_weighted', 'chart_qa', 'HuggingFaceM4/ChartQA', 'GPL-3.0', None),
  ('doc_qa', 'doc_qa', f'{_RRC}/?ch=17', ASK, None),
  ('info_qa', 'info_qa', f'{_RRC}/?ch=17', ASK, None),
  ('ai2_diagram_v2_mix_transparent', 'ai2_diagram', 'https://prior.allenai.org/projects/diagram-understanding', ASK,
   None),
  ('a_okvqa_mc', 'a_okvqa_mc', 'allenai/molmo2-a-ok-vqa', ASK, None),
  ('a_okvqa_da', 'a_okvqa_da', 'allenai/molmo2-a-ok-vqa', ASK, None),
  ('science_qa_img', 'science_qa', 'derek-thomas/ScienceQA', 'CC BY-NC-SA 4.0', None),
  ('tabwmp_da', 'tabwmp_da', 'https://github.com/lupantech/PromptPG', 'CC BY-NC-SA 4.0', None),
  ('st_qa', 'st_qa', f'{_RRC}/?ch=11', ASK, None),
  ('tally_qa', 'tally_qa', 'allenai/molmo2-tally-qa', ASK, None),
  ('dv_qa', 'dv_qa', 'https://github.com/kushalkafle/DVQA_dataset', 'CC BY-NC 4.0', 10_000),
  ('figure_qa', 'figure_qa', 'https://www.microsoft.com/en-us/research/project/figureqa-dataset', ASK, 10_000),
  ('plot_qa', 'plot_qa', 'https://github.com/NiteshMethani/PlotQA', ASK, 20_000))
IMAGE_ACADEMIC = (
  *(Entry(name, 'image', *rest) for name, *rest in _IMAGE),
  *(Entry(f'mantis_{name}', 'images', 'mantis_instruct_da', 'TIGER-Lab/Mantis-Instruct')
    for name in ('llava_665k_multi', 'nlvr2', 'spot_the_diff')),
  *(Entry(f'cosyn_{kind}_exp', 'image', f'cosyn_{kind}_exp', 'allenai/CoSyn-400K', ODC)
    for kind in ('chart', 'chemical', 'diagram', 'math', 'music', 'table', 'document')),
  *(Entry(f'cosyn_multidoc_{kind}_exp', 'images', f'cosyn_{kind}_exp',
          'allenai/Molmo2-SynMultiImageQA', ODC)
    for kind in ('chart', 'chemical', 'diagram', 'doc', 'music', 'table')))

_TRACK, _GROUND = 'video_point_track_per_frame', 'video_point_ground_start_end'
_SINGLE = 'video_single_point_track_per_frame'
_OWN = Entry('molmo2_video_track', 'video', _TRACK, 'allenai/Molmo2-VideoTrack', ODC)


def _tracks(task: str, style: str, rate: float, *names: str) -> tuple[Entry, ...]:
  """Sets of the Hub; vicas counts as 30,000 records."""
  return tuple(Entry(f'{name}_{task}', 'video', style, f'allenai/molmo2-{name.replace("_", "-")}',
                     rate=rate,
                     size=30_000 if name == 'vicas' else None) for name in names)


def _objects(rate: float, *names: str) -> tuple[Entry, ...]:
  return tuple(Entry(f'{name}_single_object_track', 'video', _SINGLE,
                     'allenai/molmo2-single-object-track', rate=rate)
               for name in names)


TRACKING = _each((
  *_tracks('track', _TRACK, 0.40, 'mevis', 'ref_yt_vos', 'lv_vis', 'vicas', 'revos'),
  dataclasses.replace(_OWN, rate=0.40),
  *_tracks('track', _TRACK, 0.05, 'burst', 'ref_davis17', 'yt_vis', 'moca'),
  *_tracks('ground', _GROUND, 0.20, 'mevis', 'lv_vis', 'vicas', 'revos'),
  dataclasses.replace(_OWN, name='molmo2_video_ground', style=_GROUND, rate=0.20),
  *_tracks('ground', _GROUND, 0.01, 'burst', 'moca'),
  *_tracks('single_point_track', _SINGLE, 0.15, 'mevis', 'lv_vis', 'vicas', 'revos'),
  dataclasses.replace(_OWN, name='molmo2_video_single_point_track', style=_SINGLE, rate=0.15),
  *_objects(0.20, 'webuav', 'got10k', 'vasttrack', 'trackingnet'),
  *_tracks('single_point_track', _SINGLE, 0.10, 'burst'),
  *_objects(0.10, 'lvosv1', 'lvosv2', 'lasot', 'uwcot', 'webuot', 'latot', 'tnl2k', 'tnllt'),
), message_weight=0.2)

VIDEO_POINTING = tuple(
  Entry(name, 'video', 'video_point, video_point_count', source, licence, size=1, rate=rate,
        message_weight=0.2)
  for name, rate, source, licence in (
    ('molmo2_video_points_0_5', 0.4, 'allenai/Molmo2-VideoPoint', ODC),
    ('molmo2_video_points_6_25', 0.3, 'allenai/Molmo2-VideoPoint', ODC),
    ('molmo2_video_points_26_60', 0.1, 'allenai/Molmo2-VideoPoint', ODC),
    ('academic_points', 0.2, 'https://github.com/allenai/molmo2', ASK)))

IMAGE_POINTING = _each((
  Entry('pixmo_multi_points', 'images', 'multi_image_pointing, multi_image_point_then_count',
        'allenai/Molmo2-MultiImagePoint', ODC, size=200_000), *POINTING), message_weight=0.2,
                       p_high_res=0.3)

SFT = {
  'demo': Group(0.15, DEMO),
  'video_academic': Group(0.20, VIDEO_ACADEMIC),
  'image_academic': Group(0.25, IMAGE_ACADEMIC),
  'tracking': Group(0.15, TRACKING),
  'video_pointing': Group(0.15, VIDEO_POINTING),
  'image_pointing': Group(0.10, IMAGE_POINTING),
  'nlp': Group(0.0995, (Entry('tulu4', 'text', 'text_sft', TULU),)),
  'hardcodes': Group(0.0005,
                     (Entry('molmo2_hardcodes', 'mixed', 'user_qa', 'allenai/molmo2-hardcodes'),)),
}

STAGES: Mapping[str, Mapping[str, Group]] = {'pretrain': PRETRAIN, 'sft': SFT, 'long_context': SFT}


def recipe(stage: str, folder: str | Path, present_only: bool = False) -> dict[str, dict[str, Any]]:
  """The sections `mixture` and `groups` of `data` for a stage whose manifests are
  `folder`/<name>.jsonl.

  Args:
    stage: one of `STAGES`.
    present_only: leave out datasets without a manifest, and groups without datasets; the rates of
      the others grow in proportion.

  Raises:
    ValueError: no such stage, or no manifest at all.
  """
  if stage not in STAGES:
    raise ValueError(f'there is no stage {stage!r}; there are: {", ".join(STAGES)}')
  mixture, groups = {}, {}
  for name, group in STAGES[stage].items():
    for entry in group.entries:
      manifest = Path(folder) / f'{entry.name}.jsonl'
      if present_only and not manifest.exists():
        continue
      fields = dict(size=entry.size, message_weight=entry.message_weight)
      mixture[entry.name] = dict(manifest=str(manifest), group=name, rate=entry.rate,
                                 p_high_res=entry.p_high_res,
                                 **{k: v for k, v in fields.items() if v is not None})
      groups[name] = group.rate
  if not mixture:
    raise ValueError(f'{folder} holds none of the manifests of stage {stage}; write them with '
                     'molmo-jax prepare_dataset')
  return dict(mixture=mixture, groups=groups)
