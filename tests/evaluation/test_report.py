from __future__ import annotations

import base64
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from molmo_jax.evaluation import cards, media, report
from molmo_jax.evaluation.media import Picture
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.evaluation.summary import summarise
from molmo_jax.preprocess.points import format_points
from molmo_jax.preprocess.types import PreprocessConfig, VideoConfig

VOID = {'meta', 'img', 'input', 'br'}


class Page(html.parser.HTMLParser):
  """Elements of a page in their order, with attributes and text; fails on a tag that is not closed
  where it must be.
  """

  def __init__(self, text):
    super().__init__()
    self.open, self.elements = [], []
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attributes):
    element = {'tag': tag, 'text': '', **dict(attributes)}
    self.elements.append(element)
    if tag not in VOID:
      self.open.append(element)

  def handle_startendtag(self, tag, attributes):
    self.elements.append({'tag': tag, 'text': '', **dict(attributes)})

  def handle_endtag(self, tag):
    assert self.open.pop()['tag'] == tag

  def handle_data(self, data):
    for element in self.open:
      element['text'] += data

  def find(self, tag, **attributes):
    names = {name.rstrip('_'): value for name, value in attributes.items()}
    return [e for e in self.elements if e['tag'] == tag
            and all(e.get(n) == v for n, v in names.items())]


def record(number=0, task='colour', score=1.0, **fields):
  return Prediction(**{'task': task, 'id': f'{task}-{number}', 'question': 'Which colour?',
                   'prediction': 'red',
                   'score': score, 'answers': ('red',), **fields})


def picture(height=48, width=64, value=200, **fields):
  return Picture(np.full((height, width, 3), value, np.uint8), **fields)


def noise(height, width, seed=0):
  return Picture(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def write(tmp_path, records, loader=lambda r: [picture()], settings=None, **options):
  path = tmp_path / 'report.html'
  report.write_report(path, summarise(records), records, loader, 'Title', settings or {}, **options)
  return path.read_text(encoding='utf-8')


def images_of(page):
  return [Image.open(io.BytesIO(base64.b64decode(i['src'].split(',', 1)[1])))
          for i in page.find('img')]


def test_a_card_has_question_prediction_answers_options_and_its_verdict(tmp_path):
  page = Page(write(tmp_path, [record(score=0.0, prediction='blue', answers=('red', 'dark red'),
                                      options=('red', 'blue'), source='test.jsonl:4')]))
  card, = page.find('article', class_='card wrong')
  for text in ('Which colour?', '✗blue', 'red · dark red', 'red · blue', 'colour-0 · test.jsonl:4'):
    assert text in card['text']
  page = Page(write(tmp_path, [record()]))
  assert '✓red' in page.find('article', class_='card right')[0]['text']


def test_the_file_asks_for_nothing_from_outside(tmp_path):
  pointing = record(1, metric='points', points=((0.5, 0.5),))
  text = write(tmp_path, [record(), pointing], curves=[{'step': 1, 'loss': 2.0}])
  page = Page(text)
  assert not page.find(
    'link') and 'http' not in text and '@import' not in text and 'url(' not in text
  assert all(i['src'].startswith('data:image/') for i in page.find('img'))
  assert all('src' not in s for s in page.find('script'))


def test_every_text_is_escaped(tmp_path):
  bad = '</style><script>alert(1)</script>"\'&amp;'
  records = [record(task=bad, id=bad, question=bad, prediction=bad, answers=(bad,),
                    options=(bad, 'b'), source=bad),
             record(1, task=bad, question='missing', source=bad)]

  def loader(r):
    if r.question == 'missing':
      raise OSError(bad)
    return [picture(label=bad)]

  path = tmp_path / 'report.html'
  report.write_report(path, summarise(records), records, loader, bad, {bad: bad})
  page = Page(path.read_text(encoding='utf-8'))
  assert len(page.find('script')) == 1 and 'alert' not in page.find('script')[0]['text']
  assert page.find('title')[0]['text'] == bad
  for tag in ('h1', 'h2', 'article', 'figcaption', 'option', 'details'):
    assert any(bad in e['text'] for e in page.find(tag)), tag
  assert any(bad in e['text'] for e in page.find('p', class_='missing'))


def test_small_pictures_are_kept_exactly_and_shown_with_hard_pixels(tmp_path):
  tiny = noise(20, 30)
  page = Page(write(tmp_path, [record()], lambda r: [tiny]))
  image, = images_of(page)
  assert image.format == 'PNG' and page.find('img')[0]['class'] == 'tiny'
  np.testing.assert_array_equal(np.asarray(image), tiny.pixels)


def test_large_pictures_are_made_small_in_their_shape(tmp_path):
  image, = images_of(Page(write(tmp_path, [record()], lambda r: [picture(1500, 3000)])))
  assert image.format == 'JPEG' and image.size == (media.PICTURE_SIDE, media.PICTURE_SIDE // 2)


def test_a_video_is_a_strip_of_few_frames_with_their_times(tmp_path):
  frames = [picture(value=i, time=i / 2) for i in range(21)]
  page = Page(write(tmp_path, [record(media=('a.mp4',), times=tuple(f.time for f in frames))],
                    lambda r: frames))
  captions = [c['text'] for c in page.find('figcaption')]
  assert len(captions) == 8 and captions[0] == '0.0 s' and captions[-1] == '10.0 s'
  values = [np.asarray(image)[0, 0, 0] / 2 for image in images_of(page)]
  assert [f'{v:.1f} s' for v in values] == captions
  assert page.find('div', class_='media strip')
  assert '8 of 21 pictures are shown' in page.find('article')[0]['text']


def marks(page):
  """Centres of the circles and of the crosses of every overlay, in hundredths of the picture's
  width.
  """
  found = []
  for start, svg in enumerate(page.elements):
    if svg['tag'] == 'svg' and svg.get('viewbox', '').startswith('0 0 100 '):
      rest = page.elements[start + 1:]
      inside = rest[:next((i for i, e in enumerate(rest)
                           if e['tag'] not in ('circle', 'ellipse', 'path')), len(rest))]
      circles = [(float(e['cx']), float(e['cy'])) for e in inside if e.get('class') == 'reference']
      crosses = [tuple(np.array(re.findall(r'[-\d.]+', e['d']), float).reshape(4,
                                                                               2).mean(0).round(1))
                 for e in inside if e.get('class') == 'predicted']
      found.append((circles, crosses))
  return found


def test_reference_points_are_circles_and_predicted_points_crosses_at_their_places(tmp_path):
  text = format_points({1: [(0.3, 0.4)]}, 'cat')
  pointing = record(metric='points', points=((0.25, 0.5),), prediction=text, answers=())
  page = Page(write(tmp_path, [pointing], lambda r: [picture(50, 100)]))
  assert marks(page) == [([(25.0, 25.0)], [(30.0, 20.0)])]
  assert 'reference point' in page.find('p', class_='legend')[0]['text']
  assert '1 point: (0.25, 0.50)' in page.find('article')[0]['text']
  ring, = page.find('ellipse')
  assert (float(ring['rx']), float(ring['ry'])) == (10.0, 5.0)


def test_a_task_without_points_has_no_legend(tmp_path):
  page = Page(write(tmp_path, [record(prediction='at (12.0, 30.0)')]))
  assert not page.find('p', class_='legend') and not marks(page)


def test_points_of_several_images_are_drawn_on_the_image_they_name(tmp_path):
  text = format_points({1: [(0.1, 0.1)], 3: [(0.3, 0.3)]}, 'cat')
  page = Page(write(tmp_path, [record(prediction=text)], lambda r: [picture(64, 64)] * 3))
  assert marks(page) == [([], [(10.0, 10.0)]), ([], [(30.0, 30.0)])]
  assert [c['text'] for c in page.find('figcaption')] == ['1', '2', '3']


def test_points_of_a_video_are_drawn_on_the_nearest_frame(tmp_path):
  text = format_points({0.4: [(0.1, 0.1)], 9.0: [(0.3, 0.3)]}, 'cat')
  video = record(prediction=text, media=('a.mp4',), times=(0.0, 0.5, 1.0))
  page = Page(write(tmp_path, [video], lambda r: [picture(64, 64, time=t) for t in r.times]))
  assert marks(page) == [([], [(10.0, 10.0)])]                   # 9.0 s is far from every frame


def test_the_table_has_bars_intervals_and_chance(tmp_path):
  page = Page(write(tmp_path,
                    [record(i, score=float(i < 3), options=('red', 'blue')) for i in range(4)]))
  assert page.find('span', class_='fill')[0]['style'] == 'width:75.0%'
  assert page.find('span', class_='chance')[0]['style'] == 'left:50.0%'
  assert page.find('span', class_='interval')[0]['style'] == 'left:30.1%;width:65.4%'
  assert '30.1 – 95.4' in page.find('tbody')[0]['text']


def test_without_scripts_everything_is_shown_and_no_dead_filter(tmp_path):
  page = Page(write(tmp_path, [record(), record(1, 'shape', 0.0)]))
  assert [e['class'] for e in page.elements if 'hidden' in e] == ['filters']
  assert [o['text'] for o in page.find('option')] == ['all', 'colour', 'shape']
  assert [s['data-task'] for s in page.find('section')] == ['0', '1']


def test_wrong_and_right_examples_are_mixed_up_to_the_cap(tmp_path):
  records = [record(i, score=float(i % 10 != 0)) for i in range(100)]
  chosen = report.choose_examples(records, 8)
  assert [r.score for r in chosen] == [0, 1] * 4
  assert len({r.id for r in chosen}) == 8
  assert [r.score for r in report.choose_examples(records[:12], 6)] == [0, 1, 0, 1, 1, 1]
  page = Page(write(tmp_path, records, pictures_per_task=8))
  assert len(page.find('article')) == len(page.find('img')) == 8
  assert '8 of 100 shown' in page.find('h2')[0]['text']


def test_a_report_never_outgrows_its_limit_and_serves_every_task(tmp_path, monkeypatch):
  monkeypatch.setattr(report, 'MAX_BYTES', 300_000)
  records = [record(i, task) for task in 'abc' for i in range(24)]
  text = write(tmp_path, records, lambda r: [noise(320, 320)])
  assert len(text.encode()) <= 300_000
  shown = [int(re.search(r'(\d+) of 24', h['text'])[1]) for h in Page(text).find('h2')]
  assert len(shown) == 3 and min(shown) >= 1 and max(shown) - min(shown) <= 1


def test_a_picture_that_cannot_be_read_is_named_and_does_not_stop_the_report(tmp_path):
  missing = str(tmp_path / 'gone.png')
  page = Page(write(tmp_path, [record(media=(missing,))],
                    lambda r: media.load_media(r, PreprocessConfig())))
  assert missing in page.find('p', class_='missing')[0]['text']


def test_settings_are_listed_with_dotted_names_in_a_closed_section(tmp_path):
  page = Page(write(tmp_path, [record()],
                    settings={'step': 7, 'model': {'vit': {'layers': 3}, 'taps': [1, 2]}}))
  details, = page.find('details')
  assert 'open' not in details
  rows = [r['text'] for r in page.find('tr') if r['text'] in details['text']]
  assert {'step7', 'model.vit.layers3', 'model.taps[1, 2]'} <= set(rows)


def test_training_curves_are_shown_if_given(tmp_path):
  assert 'aria-label="Loss' in write(tmp_path, [record()], curves=[{'step': 1, 'loss': 2.0}])
  assert 'aria-label="Loss' not in write(tmp_path, [record()])


def test_records_that_the_summary_does_not_know_are_an_error(tmp_path):
  with pytest.raises(ValueError, match='lacks tasks of the predictions: shape'):
    report.write_report(tmp_path / 'r.html', summarise([record()]), [record(task='shape')], list,
                        'Title', {})


def test_images_are_loaded_in_their_order_and_no_larger_than_needed(tmp_path):
  Image.new('RGB', (40, 30), 'red').save(tmp_path / 'a.png')
  Image.new('RGB', (640, 1280), 'blue').save(tmp_path / 'b.png')
  loaded = media.load_media(record(media=(str(tmp_path / 'a.png'), str(tmp_path / 'b.png'))),
                            PreprocessConfig())
  assert [p.pixels.shape for p in loaded] == [(30, 40, 3), (320, 160, 3)]
  assert loaded[0].pixels[0, 0].tolist() == [255, 0, 0] and loaded[0].time is None


def test_frames_of_a_video_file_are_loaded_small_and_with_their_times(tmp_path):
  import av
  path = str(tmp_path / 'a.mp4')
  with av.open(path, 'w') as container:
    stream = container.add_stream('mpeg4', rate=4, options={'g': '1'})
    stream.width, stream.height, stream.pix_fmt = 400, 300, 'yuv420p'
    for i in range(8):
      frame = av.VideoFrame.from_ndarray(np.full((300, 400, 3), 30 * i, np.uint8), format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  loaded = media.load_media(record(media=(path,), times=(0.0, 0.5, 1.0, 1.5, 2.0)),
                            PreprocessConfig(video=VideoConfig(max_fps=2.0)))
  assert [p.time for p in loaded] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
  assert {p.pixels.shape for p in loaded} == {(240, 320, 3)}
  assert [round(p.pixels.mean() / 30) for p in loaded] == [0, 2, 4, 6, 7]


def test_a_picture_that_is_not_uint8_rgb_is_an_error():
  with pytest.raises(ValueError, match=r'float32 \[2, 2, 3\]'):
    Picture(np.zeros((2, 2, 3), np.float32))


def test_tracks_are_drawn_into_the_frames_of_their_moments():
  prediction = '<tracks coords="0.0 1 500 500;1.0 1 250 250 2 750 750">dogs</tracks>'
  tracked = record(prediction=prediction, media=('v.mp4',), times=(0.0, 1.0, 2.0))
  frames = [picture(value=0, time=float(t)) for t in range(3)]
  drawn = cards.with_tracks(tracked, frames)
  assert [p.time for p in drawn] == [0.0, 1.0, 2.0]
  changed = [(p.pixels != 0).any(axis=2) for p in drawn]
  assert changed[0][24, 32] and not changed[0][12, 16]
  assert changed[1][12, 16] and changed[1][36, 48]
  assert not changed[2].any()
  assert cards.with_tracks(record(prediction=prediction), frames) is frames   # not a video
