"""The walkthrough: its numbers are those of the encoded example, its drawings show the arrays, its
page is whole.
"""

from __future__ import annotations

import html.parser
import io
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from configs import image, molmo_v1, scenes, video
from molmo_jax import experiment
from molmo_jax.kernels.mask import MaskInfo, visible
from molmo_jax.lab.walkthrough import drawing, sequence, table, terminal
from molmo_jax.lab.walkthrough.example import walk
from molmo_jax.lab.walkthrough.media import read_sources
from molmo_jax.lab.walkthrough.page import page
from molmo_jax.preprocess import images
from molmo_jax.preprocess.encode import encode
from molmo_jax.preprocess.reading import load_image
from molmo_jax.preprocess.types import Example, MediaError, Message
from molmo_jax.terminal import Terminal

ROOT = Path(__file__).parents[2]
SECTIONS = ['table', 'global', 'tiling', 'patches', 'windows', 'tokens', 'mask']


def picture(path, width, height):
  y, x = np.mgrid[:height, :width]
  Image.fromarray(np.stack([x * 255 // width, y * 255 // height, (x // 40 + y // 40) % 2 * 200],
                           2).astype(np.uint8)
                  ).save(path)
  return str(path)


@pytest.fixture(scope='module')
def wide(tmp_path_factory):
  return picture(tmp_path_factory.mktemp('walk') / 'wide.png', 1920, 1080)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  return picture(tmp_path_factory.mktemp('walk') / 'small <b>.png', 100, 60)


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
  path = str(tmp_path_factory.mktemp('walk') / 'clip.mp4')
  with av.open(path, 'w') as container:
    stream = container.add_stream('libx264', rate=10)
    stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
    for k in range(32):
      frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * k, np.uint8), format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  return path


def run(module=scenes, arguments=None, **preprocess):
  config = module.get_config() if arguments is None else module.get_config(arguments)
  config.preprocess.update(preprocess)
  return experiment.from_config(config)


def walked(paths, run_, **options):
  return walk(read_sources(paths), run_, **options)


def rows(w):
  return {stage.name: stage.cells(len(w.parts))[-1] for stage in table.stages(w)}


def result(text):
  """The last number of '12 × 12 + 28 × 36 = 1,152'."""
  return int(re.findall(r'[\d,]+', text.split('=')[-1])[0].replace(',', ''))


# name of the row → its number, for 1920 × 1080 (docs/model.md §6.5)
V1 = {'tiling': '3 × 4 crops', 'resized': '336 × 336 px and 1008 × 784 px', 'crops': '1 + 12 = 13',
      'patches': '13 × 24 × 24 = 7,488', 'ViT features': '7,488 × 2,048',
      'pooling': '13 × 12 × 12 = 1,872',
      'overlap removal': '12 × 12 + 28 × 36 = 1,152', 'projector': '1,152 × 3,584',
      'layout tokens': '1,152 + 44 = 1,196'}
V1_HIGH = {'tiling': '4 × 8 crops', 'overlap removal': '12 × 12 + 36 × 68 = 2,592',
           'layout tokens': '2,592 + 52 = 2,644'}
MOLMO2 = {'tiling': '2 × 4 crops', 'resized': '378 × 378 px and 1176 × 644 px',
          'crops': '1 + 8 = 9',
          'patches': '9 × 27 × 27 = 6,561', 'ViT features': '6,561 × 2,304',
          'overlap removal': '729 + 3,864 = 4,593',
          'pooling': '14 × 14 + 23 × 42 = 1,162', 'projector': '1,162 × 4,096',
          'layout tokens': '1,162 + 27 = 1,189'}


@pytest.mark.parametrize('module, arguments, max_crops, expected', [
  (molmo_v1, 'size=7b_d', 12, V1), (molmo_v1, 'size=7b_d', 36, V1_HIGH),
  (image, 'size=8b', 8, MOLMO2)])
def test_the_table_of_1920_1080_is_that_of_the_encoded_example(wide, module, arguments, max_crops,
                                                               expected):
  w = walked([wide], run(module, arguments, image=dict(max_crops=max_crops)))
  numbers, encoded, special = rows(w), w.encoded, w.tokenizer.special
  assert len(table.stages(w)) == 11
  assert {name: numbers[name] for name in expected} == expected
  markers = [special[name] for name in ('<im_patch>', '<im_col>', '<im_start>', '<im_end>',
                                        '<low_res_im_start>')]
  assert result(numbers['projector'].split('×')[0]) == (encoded.tokens == markers[0]).sum() == len(
    encoded.pool_index)
  assert result(numbers['layout tokens']) == np.isin(encoded.tokens,
                                                     markers).sum() == (encoded.visual > 0).sum()
  assert result(numbers['sequence']) == len(encoded.tokens)
  assert result(numbers['crops']) == len(encoded.crops)
  listed = re.findall(r'(<\w+>)', table.stages(w)[9].note.split('layout:')[1])
  assert set(listed) == {w.tokenizer.decode([i], keep_special=True)
                         for i in encoded.tokens[encoded.visual > 0]
                         } - {'<im_patch>'}
  kept = len(np.unique(encoded.pool_index[encoded.pool_index >= 0]))
  assert w.kept(w.parts[0].crops).sum() == kept
  note = table.design_note(w)
  assert 'about 1,100' in note and '1,152' in note and '2,592' in note
  assert note.endswith(f'= {len(encoded.pool_index):,}.')


@pytest.mark.parametrize('training', [True, False])
def test_what_is_shown_is_what_encode_gives(small, training):
  run_ = run()
  w = walked([small, small], run_, question='Same?', answer='Yes.', training=training)
  messages = (Message('user', 'Same?'), Message('assistant', 'Yes.'))
  example = Example(images=(small, small), conversations=(messages,))
  for name, array in vars(encode(example, run_.preprocess, w.tokenizer, training=training)).items():
    np.testing.assert_array_equal(array, getattr(w.encoded, name), err_msg=name)


def test_v1_pools_before_it_leaves_overlaps_out_and_molmo2_after(small):
  for module, order in ((molmo_v1, ['pooling', 'overlap removal']),
                        (image, ['overlap removal', 'pooling'])):
    names = [stage.name for stage in table.stages(walked([small], run(module)))]
    assert names[6:8] == order


def test_inference_takes_the_crops_of_inference_and_no_answer(wide):
  w = walked([wide], run(image, 'size=8b'), training=False)
  assert result(rows(w)['layout tokens']) == 2804          # docs/model.md §6.5, K = 24
  assert 'answer' not in w.kinds and 'carry loss' not in table.stages(w)[-1].note
  assert table.limit_notes(w) == []


def test_several_images_have_a_column_each_and_one_for_all(small, wide):
  w = walked([small, wide, small], run())
  for stage in table.stages(w)[3:10]:
    *each, total = stage.cells(3)
    assert each[0] == each[2] != each[1]
    if '×' not in total:
      assert sum(map(result, each)) == result(total), stage.name
  console = Terminal(file=io.StringIO(), width=200)
  terminal.show(w, console)
  assert 'wide.png' in console.file.getvalue() and '11 sequence:' in console.file.getvalue()
  assert table.design_note(w) is None


def test_limits_of_the_configuration_are_named_with_the_flag_that_raises_them(wide):
  w = walked([wide], run(molmo_v1, 'size=7b_d', image=dict(max_crops=36)))
  flags = [re.search(r'set --config\.(\S+)=', note).group(1) for note in table.limit_notes(w)]
  assert flags == ['data.sequence_length', 'data.crops', 'data.visual_tokens']


@pytest.mark.parametrize('module', [image, molmo_v1])
def test_the_canvas_put_together_from_the_crops_is_the_resized_image(wide, module):
  w = walked([wide], run(module))
  canvas, corners = drawing.canvas(w.parts[0], w)
  resized, _ = images.fit(load_image(wide), *canvas.shape[:2], w.run.preprocess.image)
  np.testing.assert_array_equal(canvas, drawing.as_uint8(resized))
  assert len(corners) == np.prod(w.parts[0].tiling)


@pytest.mark.parametrize('size, some',
                         [((1920, 1080), True), ((1000, 113), True), ((300, 200), False)])
def test_windows_over_a_seam_are_counted(tmp_path, size, some):
  # 113: one row of crops, 27 patches, odd
  w = walked([picture(tmp_path / 'a.png', *size)], run(image, 'size=8b'))
  view = w.parts[0].views[1]
  crops = [{i // 729 for i in window if i >= 0}
           for window in w.encoded.pool_index[view.rows].tolist()]
  straddling = drawing.straddling(w, view).sum()
  assert straddling == sum(len(c) > 1 for c in crops) and (straddling > 0) == some


@pytest.mark.parametrize('module', [scenes, molmo_v1, image])
def test_chips_and_squares_hold_every_token_once(small, module):
  w = walked([small, small], run(module))
  runs = [run_ for line in sequence.lines(w) for run_ in line]
  assert sum(run_.count for run_ in runs) == len(w.encoded.tokens)
  assert [run_.name for run_ in runs if run_.kind == 'start'][0] in w.tokenizer.special
  drawn = re.search(r'<div class="map">.*?</div>', page(w), re.DOTALL).group()
  assert drawn.count('<u ') + len(re.findall(r'M\d+ \d+h6', drawn)) == len(w.encoded.tokens)


def test_long_stretches_of_equal_rows_are_folded_with_their_number(wide):
  w = walked([wide], run(molmo_v1))
  folded = sequence.folded(sequence.lines(w))
  hidden = [row for row in folded if isinstance(row, int)]
  assert len(folded) - len(hidden) + sum(hidden) == len(sequence.lines(w))
  # every view's first row has the start marker and its last row the end marker; three of those
  # between are shown
  assert hidden == [12 - 2 - 3, 28 - 2 - 3]


@pytest.mark.parametrize('mode', ['none', 'image_tokens', 'within_image'])
def test_the_mask_over_groups_is_the_mask_over_tokens(small, mode):
  config = scenes.get_config()
  config.model.bidirectional = mode
  w = walked([small, small], experiment.from_config(config))
  groups = sequence.groups(w)
  assert [g.start for g in groups[1:]] == [g.stop for g in groups[:-1]] and groups[-1].stop == len(
    w.kinds)
  place = np.arange(len(w.kinds), dtype=np.int32)[None]
  info = MaskInfo(w.encoded.segments[None], w.encoded.visual[None], place)
  full = np.asarray(visible(info, info, mode))[0]
  for query, line in zip(groups, sequence.mask(w, groups)):
    for key, state in zip(groups, line):
      cell = full[query.start:query.stop, key.start:key.stop]
      ahead = np.triu(np.ones_like(full), 1)[query.start:query.stop, key.start:key.stop].any()
      assert state == ('nothing' if not cell.any() else 'part' if not cell.all() else 'ahead'
                       if ahead else 'all')


class Tags(html.parser.HTMLParser):
  """Sections of a page, what it links to, and whether every element is closed."""
  EMPTY = {'meta', 'img'}

  def __init__(self, text):
    super().__init__()
    self.open, self.sections, self.links, self.pictures = [], [], [], 0
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attributes):
    attributes = dict(attributes)
    if tag == 'section':
      self.sections.append(attributes['data-section'])
    self.links += [value for key, value in attributes.items() if key in ('src', 'href')]
    if tag not in self.EMPTY:
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.handle_starttag(tag, attributes)
    if tag not in self.EMPTY:
      self.open.pop()

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


@pytest.mark.parametrize('module', [scenes, molmo_v1])
def test_the_page_of_images_is_whole_and_asks_for_nothing_outside(small, module):
  w = walked([small, small], run(module), question='<script>alert(1)</script> & so on?')
  text = page(w)
  tags = Tags(text)
  assert tags.sections == ['table', *SECTIONS[1:5] * 2, 'tokens', 'mask']
  assert all(link.startswith(('data:image/', '#')) for link in tags.links)
  names = re.findall(r' id="([^"]+)"', text)
  assert len(names) == len(set(names)) and {link[1:] for link in tags.links
                                            if link[0] == '#'} <= set(names)
  assert '<script' not in text and 'http' not in text and 'small &lt;b&gt;.png' in text
  assert f'{result(rows(w)["sequence"]):,}' in text


def test_a_single_view_has_no_sections_about_crops(small):
  w = walked([small], run(image=dict(mode='resize')))
  assert Tags(page(w)).sections == ['table', 'global', 'tokens', 'mask']
  assert not any('crops' in stage.note for stage in table.stages(w))


def test_a_video_has_its_timeline_with_the_last_frame_and_its_windows(clip):
  w = walked([clip], run(video, 'size=8b'))
  assert w.encoded.frame_times.tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.2]
  numbers = rows(w)
  assert numbers['pooling'] == '8 × 9 × 9 = 648' and numbers['layout tokens'] == '648 + 16 = 664'
  assert result(numbers['sequence']) == len(w.encoded.tokens)
  between = w.kinds[w.parts[0].tokens].count('text')   # the times of all frames but the first
  assert table.stages(w)[9].note.endswith(f'8 <frame_start> 8 <frame_end>, and {between} text '
    'tokens in between')
  text = page(w)
  assert 'class="final" x1="1096.0"' in text            # the right end of the axis
  assert Tags(text).sections == ['table', 'timeline', 'windows', 'tokens', 'mask']
  assert text.count('class="tick"') == 7 and text.count('class="final"') == 1
  assert '3.2 s, the last' in text and '⋮ 5 more frames like this' in text


def test_a_long_video_is_shown_in_part(clip):
  w = walked([clip], run(video=dict(max_frames=32, max_fps=10.0)))
  assert len(w.encoded.frame_times) == 32
  groups = sequence.groups(w)
  labels = [group and group.label for group in groups]
  assert labels == ['BOS', *[name for k in (1, 2, 3) for name in ('time', f'frame {k}')], None,
                    'time', 'frame 31', 'time', 'frame 32', 'question', 'answer']
  text = page(w)
  Tags(text)
  assert '12 of 32 frames' in text and '⋯ 9 frames ⋯' in text


@pytest.mark.parametrize('layout_format', ['seed1', 'seed2'])
def test_the_design_cards_markers_are_shown_by_name(small, clip, layout_format):
  for path, module in ((small, scenes), (clip, video)):
    w = walked([path], run(module, layout_format=layout_format))
    text = page(w)
    markers = {'seed1': '&lt;img_start_lowres&gt;', 'seed2': '&lt;image_start&gt;'}
    assert markers[layout_format] in text or (layout_format, path) == ('seed1', clip)
    assert sum(run_.count for line in sequence.lines(w) for run_ in line) == len(w.encoded.tokens)


@pytest.mark.parametrize('files, message', [
  ([], 'no image and no video'), (['none.jpg'], 'none.jpg: no such file'), (['.'], 'a folder'),
  (['notes.txt'], 'notes.txt: neither an image nor a video'), (['cut.png'], 'cut.png'),
  (['clip.mp4', 'a.png'], 'clip.mp4 is a video')])
def test_wrong_files_are_named(tmp_path, clip, files, message, monkeypatch):
  (tmp_path / 'notes.txt').write_text('hello world\n' * 300)
  whole = picture(tmp_path / 'a.png', 40, 30)
  (tmp_path / 'cut.png').write_bytes(Path(whole).read_bytes()[:100])
  (tmp_path / 'clip.mp4').write_bytes(Path(clip).read_bytes())
  monkeypatch.chdir(tmp_path)
  with pytest.raises(MediaError) as error:
    read_sources(files)
  assert message in str(error.value) and '\n' not in str(error.value)


def command(*arguments):
  return subprocess.run([sys.executable, '-m', 'molmo_jax.tools.walkthrough', *arguments], cwd=ROOT,
                        text=True,
                        capture_output=True, timeout=120, check=False)


def test_the_command_prints_the_table_and_writes_the_page(small, tmp_path):
  out = tmp_path / 'new' / 'page.html'
  done = command(small, '--config=configs/scenes.py', f'--out={out}')
  assert done.returncode == 0, done.stderr
  assert re.search(r'11 │ sequence', done.stdout)
  assert Tags(out.read_text(encoding='utf-8')).sections == SECTIONS


def test_a_fault_of_the_user_ends_the_command_with_one_line(tmp_path):
  (tmp_path / 'notes.txt').write_text('hello')
  for arguments, message in (
    ((str(tmp_path / 'notes.txt'),), 'neither an image nor a video that can be read'),
    (('a.png', '--config.preprocess.image.bogus=1'), 'no such configuration key')):
    done = command(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith('error: ') and message in done.stderr and done.stderr.count(
      '\n') == 1
