"""Reading images: every peculiarity of a file format has one documented outcome."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from molmo_jax.preprocess.reading import image_size, load_image
from molmo_jax.preprocess.types import MediaError


@pytest.fixture
def picture():
  return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_a_path_a_string_a_pillow_image_and_an_array_are_read_alike(tmp_path, picture):
  path = tmp_path / 'a.png'
  Image.fromarray(picture).save(path)
  for source in (path, str(path), Image.open(path), picture):
    image = load_image(source)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    np.testing.assert_array_equal(image, picture)


@pytest.mark.parametrize('orientation, turned', [
    (2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)),
    (8, np.rot90)])
def test_exif_orientation_is_applied(tmp_path, picture, orientation, turned):
  path, exif = tmp_path / 'a.png', Image.Exif()
  exif[0x0112] = orientation
  Image.fromarray(picture).save(path, exif=exif)
  np.testing.assert_array_equal(load_image(path), turned(picture))
  assert image_size(path) == load_image(path).shape[1::-1]


def test_convert_drops_transparency_and_clips_16_bits_as_the_released_training_does(tmp_path,
                                                                                    picture):
  rgba = np.dstack([picture, np.zeros((6, 9), np.uint8)])
  Image.fromarray(rgba).save(tmp_path / 'alpha.png')
  for source in (tmp_path / 'alpha.png', Image.open(tmp_path / 'alpha.png'), rgba):
    np.testing.assert_array_equal(load_image(source, mode='convert'), picture)
    assert (load_image(source) == 255).all()
  wide = np.array([[0, 100, 255, 256, 65535]], np.uint16)
  Image.fromarray(wide).save(tmp_path / 'wide.png')
  grey = load_image(tmp_path / 'wide.png', mode='convert')[0, :, 0]
  assert grey.tolist() == np.asarray(
    Image.open(tmp_path / 'wide.png').convert('RGB'))[0, :, 0].tolist()
  assert grey.tolist() == [0, 100, 255, 255, 255]


def test_convert_turns_files_and_pillow_images_by_their_orientation(tmp_path, picture):
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.fromarray(picture).save(tmp_path / 'a.png', exif=exif)
  for source in (tmp_path / 'a.png', Image.open(tmp_path / 'a.png')):
    np.testing.assert_array_equal(load_image(source, mode='convert'), np.rot90(picture, -1))


def test_alpha_is_composited_on_white(tmp_path, picture):
  rgba = np.dstack([picture, np.zeros((6, 9), np.uint8)])
  rgba[2:, :, 3] = 255
  rgba[4:, :, 3] = 128
  path = tmp_path / 'a.png'
  Image.fromarray(rgba).save(path)
  image = load_image(path)
  assert (image[:2] == 255).all()
  np.testing.assert_array_equal(image[2:4], picture[2:4])
  mixed = picture[4:] * (128 / 255) + 255 * (127 / 255)
  assert np.abs(image[4:] - mixed).max() <= 1
  np.testing.assert_array_equal(load_image(rgba), image)


def test_grey_with_alpha_is_composited_on_white():
  image = Image.fromarray(np.dstack(
    [np.zeros((2, 2), np.uint8), np.array([[0, 255], [255, 0]], np.uint8)]), 'LA')
  assert load_image(image)[..., 0].tolist() == [[255, 0], [0, 255]]


def test_palette_with_a_transparent_entry_is_composited_on_white(tmp_path):
  image = Image.new('P', (2, 1))
  image.putpalette([10, 20, 30, 40, 50, 60])
  image.putpixel((1, 0), 1)
  image.save(tmp_path / 'a.png', transparency=0)
  assert load_image(tmp_path / 'a.png').tolist() == [[[255, 255, 255], [40, 50, 60]]]
  image.save(tmp_path / 'b.png')
  assert load_image(tmp_path / 'b.png').tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_a_transparent_colour_of_an_rgb_file_is_composited_on_white(tmp_path):
  Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)).save(tmp_path / 'a.png',
                                                                     transparency=(1, 2, 3))
  assert load_image(tmp_path / 'a.png').tolist() == [[[255, 255, 255], [4, 5, 6]]]


@pytest.mark.parametrize('suffix', ['png', 'tif', 'pgm'])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
  values = np.array([[0, 257, 25700, 65535]], np.uint16)
  Image.fromarray(values).save(tmp_path / f'a.{suffix}')
  assert load_image(tmp_path / f'a.{suffix}')[..., 1].tolist() == [[0, 1, 100, 255]]


def test_1_bit_grey_and_cmyk_become_rgb(tmp_path):
  Image.new('1', (2, 2), 1).save(tmp_path / 'bit.png')
  assert (load_image(tmp_path / 'bit.png') == 255).all()
  Image.new('L', (2, 2), 77).save(tmp_path / 'grey.png')
  assert (load_image(tmp_path / 'grey.png') == 77).all()
  Image.new('CMYK', (16, 16), (0, 255, 255, 0)).save(tmp_path / 'cmyk.jpg', quality=100)
  red = load_image(tmp_path / 'cmyk.jpg')[8, 8].astype(int)
  assert red[0] > 240 and red[1] < 15 and red[2] < 15


def test_an_animation_gives_its_first_frame(tmp_path):
  frames = [Image.new('RGB', (4, 4), colour) for colour in ('red', 'blue')]
  frames[0].save(tmp_path / 'a.gif', save_all=True, append_images=frames[1:])
  assert (load_image(tmp_path / 'a.gif') == [255, 0, 0]).all()


def test_grey_arrays_become_rgb():
  grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
  for array in (grey, grey[..., None]):
    np.testing.assert_array_equal(load_image(array), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize('array, words', [
    (np.zeros((2, 2, 3), np.float32), 'astype'), (np.zeros((2, 2, 3), np.uint16), 'uint16'),
    (np.zeros((3, 4, 5), np.uint8), r'\[3, 4, 5\]'), (np.zeros((0, 4, 3), np.uint8), 'no pixels')])
def test_unusable_arrays_are_refused_with_the_reason(array, words):
  with pytest.raises(MediaError, match=words):
    load_image(array)


def broken_files(folder, picture):
  whole = folder / 'whole.jpg'
  Image.fromarray(np.tile(picture, (40, 40, 1))).save(whole)
  data = whole.read_bytes()
  files = {'truncated.jpg': data[:len(data) // 2], 'header.jpg': data[:30], 'text.png': b'no image',
           'empty.png': b''}
  for name, content in files.items():
    (folder / name).write_bytes(content)
  return [*files, 'missing.png', '.']


def test_broken_files_raise_an_error_that_names_them(tmp_path, picture):
  for name in broken_files(tmp_path, picture):
    path = tmp_path / name
    with pytest.raises(MediaError) as error:
      load_image(path)
    assert str(path) in str(error.value), name


def test_an_image_of_more_than_max_pixels_is_refused(tmp_path, picture):
  Image.fromarray(picture).save(tmp_path / 'bomb.png')
  assert load_image(tmp_path / 'bomb.png', max_pixels=54).shape == (6, 9, 3)
  with pytest.raises(MediaError, match=r'bomb.png: 9×6 are 5.4e-05 Mpixel; at most 5.3e-05 are '
                                       r'decoded \(preprocess.max_pixels=53\)'):
    load_image(tmp_path / 'bomb.png', max_pixels=53)


def test_floating_point_files_are_refused(tmp_path):
  Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / 'a.tif')
  with pytest.raises(MediaError, match='floating-point'):
    load_image(tmp_path / 'a.tif')


def test_other_objects_are_refused():
  with pytest.raises(MediaError, match='int'):
    load_image(3)
