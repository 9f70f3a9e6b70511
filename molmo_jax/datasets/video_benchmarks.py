"""Benchmarks about a video: short and long ones, with letters to choose from or texts to write."""

from __future__ import annotations

from molmo_jax.datasets import video_columns as columns
from molmo_jax.datasets.dataset import Dataset, Fields, clip_of, hub, optional, table
from molmo_jax.datasets.prompts import (
  LETTER_DIRECTLY,
  LETTER_ONLY,
  options_as_given,
  plain,
  video_mme,
  with_instruction,
)
from molmo_jax.datasets.task import Task
from molmo_jax.datasets.video_columns import MC, MC_SUBTITLES, in_folder, stem

SHORT, LONG, MORE = ('short_video',), ('long_video',), ('more_video',)
HUB = 'huggingface.co/datasets'
ON_REQUEST = 'test has no answers: predictions only'
CAPTION = 'video_long_caption'

VIDEO_MME = Fields('question', video=in_folder('data', 'videoID', '.mp4'), options='options',
                   letter='answer', prompt=video_mme, style=MC, id='question_id',
                   metadata={name: name for name in ('duration', 'sub_category', 'task_type')})
LONG_VIDEO = Fields('question', video=in_folder('videos', 'video_path'), options='candidates',
                    index=optional('correct_choice'), prompt=with_instruction(LETTER_DIRECTLY),
                    style=MC, id='id',
                    groups=(lambda r: f'duration_{r["duration_group"]}', 'question_category'))
MLVU = Fields('question', video=columns.mlvu_video, options='candidates',
              index=columns.index_of_answer, prompt=with_instruction(LETTER_DIRECTLY), style=MC,
              groups=(columns.mlvu_subset,))
VIDEO_OCR = Fields('question', video=lambda f, r: f.video(f'Video/{r["video_index"]}.mp4'),
                   options=lambda r: r['option'] or None, answers='answer',
                   prompt=with_instruction(LETTER_DIRECTLY),
                   style=lambda r: MC if columns.is_choice(r) else 'video_eval_short_answer',
                   id=lambda r: f'{r["video_index"]}_{r["index"]}',
                   metadata={'eval_method': 'eval_method', 'task': 'task'}, groups=('task_type',))
TEMPORAL = Fields('question', video=lambda f, r: f.file(r['video_name']), letter='GT', id='idx',
                  style='video_short_answer', metadata={'kind': 'kind', 'video': 'video_name'})


def _with_subtitles(fields: Fields, subtitles) -> Fields:
  return Fields(**vars(fields) | {'style': MC_SUBTITLES, 'subtitles': subtitles})


DATASETS = (
  Dataset('mvbench', table('**/json/*.json'),
          Fields('question', video=columns.mvbench_video, options='candidates',
                 index=columns.index_of_answer, prompt=with_instruction(LETTER_ONLY), style=MC,
                 clip=clip_of('start', 'end'), groups=(stem,)),
          f'{HUB}/OpenGVLab/MVBench (videos unpacked, data0613/ merged; NTU RGB+D by request; the '
          'frames of episodic_reasoning as video.mp4 with 3 frames/s)',
          'MIT; videos as their sources', 'loader', benchmarks=(
            Task('mvbench', 'starts_with_answer', 'video', ('val',), max_new_tokens=32,
                 groups=SHORT),)),
  Dataset('tomato', table('data/*.json', key='_id'),
          Fields('question', options='options', index='answer', id='_id', groups=(stem,),
                 style='video_multiple_choice', video=lambda f, r: f.video(
                   f'videos/{r["demonstration_type"]}/{r["key"]}.mp4')),
          'github.com/yale-nlp/TOMATO', 'CC BY-SA 4.0', 'loader', benchmarks=(
            Task('tomato', 'tomato', 'video', max_new_tokens=32, groups=SHORT),)),
  Dataset('motionbench', table('**/video_info.meta.jsonl'),
          Fields('question', video=columns.motionbench_video, parts='qa', style=MC,
                 id=lambda r: f'{r["uid"]}_{r["key"]}', groups=(optional('question_type'),),
                 answers=lambda r: None if r['answer'] == 'NA' else r['answer']),
          f'{HUB}/zai-org/MotionBench', 'CC BY-NC 4.0', 'loader',
          lambda rows, split: [r for r in rows if split == 'test' or r['answer'] != 'NA'],
          benchmarks=(Task('motionbench', 'starts_with_answer', 'video', ('validation', 'test'),
                           groups=SHORT, note='test: all questions; those without an answer (NA) '
                                              'are predicted only'),)),
  Dataset('temp_compass', table('*/test-*.parquet', each=columns.temp_compass_questions),
          Fields('question', video=in_folder('videos', 'video_id', '.mp4'), answers='answer',
                 options='options', prompt=plain,
                 style=lambda r: 'video_eval_short_answer' if r['task'] == 'yes_no' else MC,
                 metadata={'task': 'task', 'question': 'whole_question'},
                 groups=('task', lambda r: f'{r["task"]}_{r["dim"]}')),
          f'{HUB}/lmms-lab/TempCompass', 'CC BY-NC 4.0', 'fork', benchmarks=(
            Task('temp_compass', 'temp_compass', 'video', max_new_tokens=192, groups=SHORT,
                 aliases=('temp_compass_internal',),
                 note='multiple choice, yes or no, caption matching (its answer is the option as '
                      'it is printed)'),)),
  Dataset('egoschema', table({'validation': 'Subset/test-*.parquet', 'test': 'MC/test-*.parquet'}),
          Fields('question', video=in_folder('videos', 'video_idx', '.mp4'), options='option',
                 index=lambda r: None if r.get('answer') in (None, '') else r['answer'],
                 style=MC, id='question_idx',
                 prompt=options_as_given(LETTER_DIRECTLY)),
          f'{HUB}/lmms-lab/egoschema', 'Ego4D licence', 'loader', benchmarks=(
            Task('ego_schema', 'ego_schema', 'video', ('validation', 'test'), max_new_tokens=32,
                 groups=SHORT, note=ON_REQUEST),)),
  Dataset('video_mme', table('**/test-*.parquet'), VIDEO_MME,
          f'{HUB}/lmms-lab/Video-MME; subtitles.json of {HUB}/allenai/Molmo2-VideoMME',
          'research only', 'loader', benchmarks=(
            Task('video_mme', 'video_mme', 'video', ('validation',), groups=LONG),
            Task('video_mme_w_subtitle', 'video_mme', 'video', ('validation',), groups=LONG,
                 fields=_with_subtitles(VIDEO_MME, columns.video_mme_subtitles)))),
  Dataset('long_video_bench', table({'validation': 'lvb_val.json', 'test': 'lvb_test_wo_gt.json'}),
          LONG_VIDEO, f'{HUB}/longvideobench/LongVideoBench (by request)', 'CC BY-NC-SA 4.0',
          'loader', benchmarks=(
            Task('long_video_bench_no_subtitle', 'long_video_bench', 'video',
                 ('validation', 'test'), groups=LONG, aliases=('long_video_bench',),
                 note=ON_REQUEST),
            Task('long_video_bench_w_subtitle', 'long_video_bench', 'video',
                 ('validation', 'test'), groups=LONG, note=ON_REQUEST,
                 fields=_with_subtitles(LONG_VIDEO, columns.long_subtitles)),
            Task('long_video_bench_caption', 'judged_caption', 'video', max_new_tokens=768,
                 groups=MORE, rows=table('lvb_test_caption.json', key='_id'),
                 fields=Fields(video=in_folder('videos', 'video_path'), style=CAPTION, id='id',
                               metadata={'statements': 'statements', 'reference': 'caption'},
                               groups=(lambda r: f'duration_{r["duration_group"]}',
                                       'topic_category')),
                 note='statements are not published: lvb_test_caption.json with video_path, '
                      'caption, statements'))),
  Dataset('lvbench', table('video_info.meta.jsonl'),
          Fields(columns.lvbench_question, video=in_folder('.', 'key', '.mp4'), letter='answer',
                 parts='qa', style=MC, id='uid',
                 groups=(lambda r: ', '.join(r['question_type']),)),
          f'{HUB}/zai-org/LVBench (table; videos from YouTube)', 'CC BY-NC-SA 4.0', 'loader',
          benchmarks=(Task('lvbench', 'lvbench', 'video', groups=LONG),)),
  Dataset('mlvu', table(columns.mlvu_files('1-7')), MLVU,
          f'{HUB}/MLVU/MVLU (by request); test: {HUB}/MLVU/MLVU_Test', 'CC BY-NC-SA 4.0', 'loader',
          benchmarks=(
            Task('mlvu_mc', 'starts_with_answer', 'video', ('validation', 'test'), groups=LONG),
            Task('mlvu_gen', 'judged_mlvu', 'video', ('validation',), max_new_tokens=192,
                 groups=MORE, rows=table(columns.mlvu_files('89')),
                 fields=Fields('question', video=columns.mlvu_video, answers='answer',
                               style='demo', groups=(columns.mlvu_subset,),
                               metadata={'task_type': columns.mlvu_subset,
                                         'scoring_points': optional('scoring_points')})))),
  Dataset('video_eval_pro', table('data/test-*.parquet'),
          Fields('question', video=in_folder('videos_filtered', 'video'), options='options',
                 letter='answer', prompt=options_as_given(LETTER_ONLY), style=MC,
                 groups=('qa_type', 'qa_subtype')),
          f'{HUB}/TIGER-Lab/VideoEval-Pro', 'MIT', 'loader', benchmarks=(
            Task('video_eval_pro_mc', 'starts_with_answer', 'video', max_new_tokens=32,
                 groups=LONG),)),
  Dataset('molmo2_cap_eval', table(hub()),
          Fields(video=lambda f, r: f.file(f'{r["source"]}/{r["video_id"]}'), id='video_id',
                 style=CAPTION, clip=clip_of('video_start', 'video_end'),
                 metadata={'statements': 'atomic_statements', 'categories': 'statement_categories',
                           'reference': 'aggregated_caption'}),
          f'{HUB}/allenai/Molmo2-CapEval; videos in vimeo/, bdd100k/, ego4d/', 'ODC-BY', 'loader',
          benchmarks=(Task('vixmo_caps_eval2', 'judged_caption', 'video', max_new_tokens=2048,
                           groups=LONG, aliases=('molmo2_captions_eval',)),)),
  Dataset('dream1k', table('**/metadata.json'),
          Fields(video=lambda f, r: f.file(f'video/{r["idx"]}.mp4'), id='idx', style=CAPTION,
                 answers='description', metadata={'events': 'events'}),
          f'{HUB}/omni-research/DREAM-1K', 'Apache-2.0', benchmarks=(
            Task('dream1k', 'judged_events', 'video', max_new_tokens=2048, groups=MORE),)),
  Dataset('mme_videoocr', table('dataset.json'), VIDEO_OCR,
          f'{HUB}/DogNeverSleep/MME-VideoOCR_Dataset', 'research only', 'fork', benchmarks=(
            Task('mme_videoocr', 'mme_videoocr', 'video', max_new_tokens=192, groups=MORE),
            Task('mme_videoocr_mc', 'mme_videoocr', 'video', max_new_tokens=32, groups=MORE,
                 rows=table('dataset.json', keep=columns.is_choice)))),
  Dataset('vinoground', table('**/vinoground_*score.json', each=columns.vinoground_sides),
          Fields('question', video=lambda f, r: f.file(r['video_name']), letter='GT', id='idx',
                 options=lambda r: ['A', 'B'], prompt=plain, style=MC,
                 metadata={n: n for n in ('kind', 'pair', 'side')}),
          f'{HUB}/HanSolo9682/Vinoground', 'Apache-2.0', 'fork', benchmarks=(
            Task('vinoground', 'vinoground', 'video', groups=MORE,
                 note="the form of 'idx' is from memory"),)),
  Dataset('video_hallucer', table('*/*.json'),
          Fields(lambda r: f'{r["question"]}\nPlease answer yes or no:',
                 video=lambda f, r: f.video(f'{r["category"]}/videos/{r["video"]}'),
                 answers='answer', options=lambda r: ['yes', 'no'], prompt=plain,
                 style='video_eval_short_answer',
                 metadata={n: n for n in ('question_group', 'category')}),
          f'{HUB}/bigai-nlco/VideoHallucer', 'MIT', 'fork',
          lambda rows, split: [question for number, row in enumerate(rows)
                               for question in columns.hallucer(row | {'_number': number})],
          benchmarks=(Task('video_hallucer', 'video_hallucer', 'video', ('validation',),
                           groups=MORE),)),
  Dataset('temporal_bench', table('temporalbench_*_qa.json',
                                  each=lambda r: [columns.with_kind(r)]), TEMPORAL,
          f'{HUB}/microsoft/TemporalBench', 'MIT', 'loader', benchmarks=(
            Task('temporal_bench', 'temporal_bench', 'video', max_new_tokens=32, groups=MORE,
                 note='the published scorer counts every answer as right; ours compares the '
                      'letter'),
            Task('temporal_bench_mc', 'temporal_bench', 'video', max_new_tokens=32, groups=MORE,
                 rows=table('temporalbench_*_qa.json', each=columns.temporal_choice),
                 fields=Fields(**vars(TEMPORAL) | {'options': 'options',
                                                   'style': 'video_multiple_choice'})))),
)
