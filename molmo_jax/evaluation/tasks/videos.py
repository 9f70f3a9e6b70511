"""Benchmarks about a video: short and long ones, with letters to choose from or texts to write."""

from __future__ import annotations

from molmo_jax.evaluation.tasks import video_columns as columns
from molmo_jax.evaluation.tasks.images import LOADER
from molmo_jax.evaluation.tasks.multi_image import FORK
from molmo_jax.evaluation.tasks.prompts import (
  LETTER_DIRECTLY,
  LETTER_ONLY,
  choose,
  options_as_given,
  with_instruction,
)
from molmo_jax.evaluation.tasks.rows import Fields, optional, rows
from molmo_jax.evaluation.tasks.task import Task
from molmo_jax.evaluation.tasks.video_columns import MC, MC_SUBTITLES, in_folder, stem

SHORT, LONG, MORE = ('short_video',), ('long_video',), ('more_video',)
HUB = 'huggingface.co/datasets'

SHORT_TASKS = (
  Task('mvbench', 'video', 'mvbench', ('val',), MC, 'starts_with_answer', max_new_tokens=32,
       groups=SHORT,
       records=rows('**/json/*.json', Fields(
           question='question', video=columns.mvbench_video, options='candidates',
           index=columns.index_of_answer,
           prompt=with_instruction(LETTER_ONLY), clip=columns.clip_of('start', 'end'),
           groups=(stem,))),
       source=f'{HUB}/OpenGVLab/MVBench (videos unpacked, data0613/ merged; NTU RGB+D by request; '
       'the frames of episodic_reasoning as video.mp4 with 3 frames/s)',
       licence='MIT; videos as their sources',
       schema=LOADER),
  Task('tomato', 'video', 'tomato', ('test',), 'video_multiple_choice', 'tomato', max_new_tokens=32,
       groups=SHORT,
       records=rows('data/*.json', Fields(
           question='question', options='options', index='answer', prompt=choose, id='_id',
           groups=(stem,),
           video=lambda reader, r: reader.video(f'videos/{r["demonstration_type"]}',
                                                f'{r["key"]}.mp4')), key='_id'),
       source='github.com/yale-nlp/TOMATO', licence='CC BY-SA 4.0', schema=LOADER),
  Task('motionbench', 'video', 'motionbench', ('validation', 'test'), MC, 'starts_with_answer',
       groups=SHORT,
       records=columns.motionbench, source=f'{HUB}/zai-org/MotionBench', licence='CC BY-NC 4.0',
       schema=LOADER, note='test: all questions; those without an answer (NA) are predicted only'),
  Task('temp_compass', 'video', 'temp_compass', ('test',), MC, 'temp_compass', max_new_tokens=192,
       groups=SHORT,
       aliases=('temp_compass_internal',),
       records=rows('*/test-*.parquet', Fields(
           question='question', video=in_folder('videos', 'video_id', '.mp4'), answers='answer',
           options='options',
           style=lambda r: 'video_eval_short_answer' if r['task'] == 'yes_no' else MC,
           metadata={'task': 'task', 'question': 'whole_question'},
           groups=('task', lambda r: f'{r["task"]}_{r["dim"]}')),
                    each=columns.temp_compass_questions),
       source=f'{HUB}/lmms-lab/TempCompass', licence='CC BY-NC 4.0', schema=FORK,
       note='multiple choice, yes or no, caption matching (its answer is the option as it is '
       'printed)'),
  Task('perception_test', 'video', 'perception_test', ('validation', 'test'), MC, 'perception_test',
       groups=SHORT,
       records=rows({'validation': '**/mc_question_val/*.parquet',
                     'test': '**/mc_question/test-*.parquet'}, Fields(
                         question='question', video=in_folder('videos', 'video_name', '.mp4'),
                         options='options',
                         index=lambda r: None if r.get('answer_id') is None
                         else int(r['answer_id']),
                         prompt=with_instruction(LETTER_DIRECTLY),
                         groups=(optional('area'), optional('reasoning')))),
       source=f'{HUB}/lmms-lab/PerceptionTest_Val', licence='CC BY 4.0', schema=FORK),
  Task('ego_schema', 'video', 'egoschema', ('validation', 'test'), MC, 'ego_schema',
       max_new_tokens=32, groups=SHORT,
       records=rows({'validation': 'Subset/test-*.parquet', 'test': 'MC/test-*.parquet'}, Fields(
           question='question', video=in_folder('videos', 'video_idx', '.mp4'), options='option',
           index=columns.ego_schema_index, prompt=options_as_given(LETTER_DIRECTLY),
           id='question_idx')),
       source=f'{HUB}/lmms-lab/egoschema', licence='Ego4D licence', schema=LOADER,
       note='test has no answers: predictions only'),
  Task('nextqa_mc', 'video', 'nextqa', ('test',), MC, 'nextqa', groups=SHORT,
       records=rows('MC/test-*.parquet', Fields(
           question=lambda r: r['question'].strip(), video=in_folder('NExTVideo', 'video', '.mp4'),
           options=lambda r: [r[f'a{i}'].strip() for i in range(5)], index='answer',
           prompt=with_instruction(LETTER_DIRECTLY), groups=('type',))),
       source=f'{HUB}/lmms-lab/NExTQA', licence='MIT', schema=FORK),
)

LONG_TASKS = (
  Task('video_mme', 'video', 'video_mme', ('validation',), MC, 'video_mme', groups=LONG,
       records=columns.video_mme_rows(MC, None), source=f'{HUB}/lmms-lab/Video-MME',
       licence='research only',
       schema=LOADER),
  Task('video_mme_w_subtitle', 'video', 'video_mme', ('validation',), MC_SUBTITLES, 'video_mme',
       groups=LONG,
       records=columns.video_mme_rows(MC_SUBTITLES, columns.video_mme_subtitles),
       source=f'{HUB}/lmms-lab/Video-MME; subtitles.json of {HUB}/allenai/Molmo2-VideoMME',
       licence='research only',
       schema=LOADER),
  Task('long_video_bench_no_subtitle', 'video', 'long_video_bench', ('validation', 'test'), MC,
       'long_video_bench',
       records=columns.long_video_rows(MC, None), aliases=('long_video_bench',), groups=LONG,
       source=f'{HUB}/longvideobench/LongVideoBench (by request)', licence='CC BY-NC-SA 4.0',
       schema=LOADER,
       note='test has no answers: predictions only'),
  Task('long_video_bench_w_subtitle', 'video', 'long_video_bench', ('validation', 'test'),
       MC_SUBTITLES,
       'long_video_bench', records=columns.long_video_rows(MC_SUBTITLES, columns.long_subtitles),
       groups=LONG,
       source=f'{HUB}/longvideobench/LongVideoBench (by request)', licence='CC BY-NC-SA 4.0',
       schema=LOADER,
       note='test has no answers: predictions only'),
  Task('lvbench', 'video', 'lvbench', ('test',), MC, 'lvbench', groups=LONG,
       records=rows('video_info.meta.jsonl', Fields(
           question=columns.lvbench_question, video=in_folder('.', 'key', '.mp4'), letter='answer',
           id='uid',
           groups=(lambda r: ', '.join(r['question_type']),)), each=columns.nested('qa')),
       source=f'{HUB}/zai-org/LVBench (table; videos from YouTube)', licence='CC BY-NC-SA 4.0',
       schema=LOADER),
  Task('mlvu_mc', 'video', 'mlvu', ('validation', 'test'), MC, 'starts_with_answer', groups=LONG,
       records=rows(columns.mlvu_files('1-7'), Fields(
           question='question', video=columns.mlvu_video, options='candidates',
           index=columns.index_of_answer,
           prompt=with_instruction(LETTER_DIRECTLY), groups=(columns.mlvu_subset,))),
       source=f'{HUB}/MLVU/MVLU (by request); test: {HUB}/MLVU/MLVU_Test',
       licence='CC BY-NC-SA 4.0', schema=LOADER),
  Task('video_eval_pro_mc', 'video', 'video_eval_pro', ('test',), MC, 'starts_with_answer',
       max_new_tokens=32,
       records=rows('data/test-*.parquet', Fields(
           question='question', video=in_folder('videos_filtered', 'video'), options='options',
           letter='answer',
           prompt=options_as_given(LETTER_ONLY), groups=('qa_type', 'qa_subtype'))), groups=LONG,
       source=f'{HUB}/TIGER-Lab/VideoEval-Pro', licence='MIT', schema=LOADER),
  Task('vixmo_caps_eval2', 'video', 'molmo2_cap_eval', ('test',), 'video_long_caption',
       'judged_caption', groups=LONG,
       max_new_tokens=2048, aliases=('molmo2_captions_eval',),
       records=rows('**/{split}-*.parquet', Fields(
           question=lambda r: 'Describe this video in detail.',
           video=lambda reader, r: reader.file(f'{r["source"]}/{r["video_id"]}'), id='video_id',
           clip=columns.clip_of('video_start', 'video_end'),
           metadata={'statements': 'atomic_statements', 'categories': 'statement_categories',
                     'reference': 'aggregated_caption'})),
       source=f'{HUB}/allenai/Molmo2-CapEval; videos in vimeo/, bdd100k/, ego4d/', licence='ODC-BY',
       schema=LOADER),
)

MORE_TASKS = (
  Task('dream1k', 'video', 'dream1k', ('test',), 'video_long_caption', 'judged_events',
       max_new_tokens=2048,
       records=rows('**/metadata.json', Fields(
           question=lambda r: 'Describe this video in detail.', id='idx', answers='description',
           video=lambda reader, r: reader.file(f'video/{r["idx"]}.mp4'),
           metadata={'events': 'events'})),
       source=f'{HUB}/omni-research/DREAM-1K', licence='Apache-2.0', schema='memory', groups=MORE),
  Task('mlvu_gen', 'video', 'mlvu', ('validation',), 'demo', 'judged_mlvu', max_new_tokens=192,
       groups=MORE,
       records=rows(columns.mlvu_files('89'), Fields(
           question='question', video=columns.mlvu_video, answers='answer',
           metadata={'task_type': columns.mlvu_subset,
                     'scoring_points': optional('scoring_points')},
           groups=(columns.mlvu_subset,))),
       source=f'{HUB}/MLVU/MVLU (by request)', licence='CC BY-NC-SA 4.0', schema=LOADER),
  *(Task(name, 'video', 'mme_videoocr', ('test',), MC, 'mme_videoocr', max_new_tokens=tokens,
         groups=MORE,
         records=columns.video_ocr_rows(choices_only),
         source=f'{HUB}/DogNeverSleep/MME-VideoOCR_Dataset',
         licence='research only', schema=FORK)
    for name, tokens, choices_only in (('mme_videoocr', 192, False),
                                       ('mme_videoocr_mc', 32, True))),
  Task('long_video_bench_caption', 'video', 'long_video_bench', ('test',), 'video_long_caption',
       'judged_caption',
       max_new_tokens=768, groups=MORE,
       records=rows('lvb_test_caption.json', Fields(
           question=lambda r: 'Describe this video in detail.',
           video=in_folder('videos', 'video_path'), id='id',
           metadata={'statements': 'statements', 'reference': 'caption'},
           groups=(lambda r: f'duration_{r["duration_group"]}', 'topic_category')), key='_id'),
       source='statements are not published: lvb_test_caption.json with video_path, caption, '
       'statements', licence='-',
       schema=FORK),
  Task('vinoground', 'video', 'vinoground', ('test',), MC, 'vinoground', groups=MORE,
       records=rows('**/vinoground_*score.json', Fields(
           question='question', video=lambda reader, r: reader.file(r['video_name']), letter='GT',
           id='idx',
           options=lambda r: ['A', 'B'], metadata={n: n for n in ('kind', 'pair', 'side')}),
           each=columns.vinoground_sides),
       source=f'{HUB}/HanSolo9682/Vinoground', licence='Apache-2.0',
       schema=FORK + "; the form of 'idx' is from memory"),
  Task('video_hallucer', 'video', 'video_hallucer', ('validation',), 'video_eval_short_answer',
       'video_hallucer',
       records=columns.video_hallucer, source=f'{HUB}/bigai-nlco/VideoHallucer', licence='MIT',
       schema=FORK,
       groups=MORE),
  Task('temporal_bench', 'video', 'temporal_bench', ('test',), 'video_short_answer',
       'temporal_bench',
       max_new_tokens=32, groups=MORE,
       records=rows('temporalbench_*_qa.json', Fields(
           question='question', video=lambda reader, r: reader.file(r['video_name']), letter='GT',
           id='idx',
           metadata={'kind': 'kind', 'video': 'video_name'}),
                    each=lambda r: [columns.with_kind(r)]),
       source=f'{HUB}/microsoft/TemporalBench', licence='MIT', schema=LOADER,
       note='the published scorer counts every answer as right; ours compares the letter'),
  Task('temporal_bench_mc', 'video', 'temporal_bench', ('test',), 'video_multiple_choice',
       'temporal_bench',
       max_new_tokens=32, groups=MORE,
       records=rows('temporalbench_*_qa.json', Fields(
           question='question', video=lambda reader, r: reader.file(r['video_name']),
           options='options', letter='GT',
           prompt=choose, id='idx', metadata={'kind': 'kind', 'video': 'video_name'}),
                    each=columns.temporal_choice),
       source=f'{HUB}/microsoft/TemporalBench', licence='MIT', schema=LOADER),
  Task('qv_highlights', 'video', 'qv_highlights', ('validation',), 'video_short_answer',
       'qv_highlights',
       max_new_tokens=40, groups=MORE,
       records=rows('**/highlight_val_release.jsonl', Fields(
           question=columns.highlights_question, video=in_folder('videos', 'vid', '.mp4'),
           id=lambda r: f'{r["qid"]}_{r["vid"]}', metadata={'windows': 'relevant_windows'}),
           keep=lambda r: len(r['relevant_windows']) <= 5),
       source='github.com/jayleicn/moment_detr (data/), videos: nlp.cs.unc.edu/data/jielei/qvh',
       licence='CC BY-NC-SA 4.0', schema=LOADER, note='questions with more than 5 moments are left '
       'out'),
)

TASKS = SHORT_TASKS + LONG_TASKS + MORE_TASKS
