"""Reading regular files alone; whole files or none."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from molmo_jax.errors import MolmoError
from molmo_jax.files import (
  file_name,
  open_regular,
  read_json,
  read_json_lines,
  write_atomically,
  write_json,
)


def test_a_regular_file_is_read_as_bytes_and_as_text(tmp_path):
  (tmp_path / 'a').write_bytes('ä\n'.encode())
  (tmp_path / 'link').symlink_to('a')
  with open_regular(str(tmp_path / 'link')) as file:
    assert file.read() == 'ä\n'.encode()
  with open_regular(tmp_path / 'a', 'r', encoding='utf-8') as file:
    assert file.read() == 'ä\n'


def test_fifos_devices_and_sockets_are_refused_at_once(tmp_path):
  os.mkfifo(tmp_path / 'fifo')
  (tmp_path / 'link').symlink_to('fifo')
  with socket.socket(socket.AF_UNIX) as listener:
    folder = os.open(tmp_path, os.O_RDONLY)   # by this name, the path is short enough for a socket
    listener.bind(f'/proc/self/fd/{folder}/socket')
    os.close(folder)
    for path, kind in ((tmp_path / 'fifo', 'FIFO'), (tmp_path / 'link', 'FIFO'),
                       ('/dev/zero', 'device'), (tmp_path / 'socket', 'socket')):
      with pytest.raises(MolmoError, match=f'^{path}: a {kind}, not a regular file$'):
        open_regular(path)


@pytest.mark.parametrize('name', ['a\0b', 'half a pair \ud800'])
def test_names_that_no_file_can_have_are_refused(name):
  with pytest.raises(MolmoError, match='no file can have this name'):
    open_regular(name)


def test_missing_files_and_folders_are_the_errors_of_open(tmp_path):
  with pytest.raises(FileNotFoundError, match='missing'):
    open_regular(tmp_path / 'missing')
  with pytest.raises(IsADirectoryError, match=tmp_path.name):
    open_regular(tmp_path)


def test_half_a_surrogate_pair_becomes_the_replacement_character(tmp_path):
  write_atomically(tmp_path / 'a.txt', 'a\ud800b \U0001f600')
  assert (tmp_path / 'a.txt').read_text(encoding='utf-8') == 'a\ufffdb \U0001f600'


def test_what_a_killed_program_left_of_a_write_is_used_again(tmp_path):
  (tmp_path / '.a.json.tmp').write_text('longer than what follows ' * 9)
  write_json(tmp_path / 'a.json', {'é': 1})
  assert os.listdir(tmp_path) == ['a.json']
  assert read_json(tmp_path / 'a.json') == {'é': 1}


def test_programs_that_write_the_same_file_at_once_leave_one_whole_file(tmp_path):
  texts = [str(n) * 50_000 for n in range(8)]
  with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda text: write_atomically(tmp_path / 'a.txt', text), texts * 5))
  assert (tmp_path / 'a.txt').read_text() in texts
  assert os.listdir(tmp_path) == ['a.txt']


@pytest.mark.parametrize('damage', [b'{"step": 2, "lo', b'\0' * 40, b'\xff\xfe', b'[' * 100_000,
                                    b'9' * 5000])
def test_lines_that_are_whole_are_used_and_the_others_are_named(tmp_path, damage):
  path = tmp_path / 'm.jsonl'
  path.write_bytes(b'{"step": 1}\n' + damage + b'\n\n{"step": 3}\n')
  values, problems = read_json_lines(path, lambda value: value['step'])
  assert values == [1, 3]
  assert len(problems) == 1 and problems[0].startswith(f'{path}:2: ') and len(problems[0]) < 500


@pytest.mark.parametrize('name', ['dog', 'bmx-trees', '..hidden', 'a b', 'Straße', '犬', 'x' * 200])
def test_a_plain_name_stays(name):
  assert file_name(name, 'here') == name


@pytest.mark.parametrize('name', ['', '.', '..', '/', 'a/b', '/etc/passwd', '../a', 'a\\b', 'a\0',
                                  'a\n', '\x1b[2J', '\ud800', 'x' * 201, 'ä' * 101, None, 3, b'a'])
def test_anything_else_is_refused_and_its_place_named(name):
  with pytest.raises(MolmoError, match='file.pkl: .* cannot be the name of a file'):
    file_name(name, 'file.pkl')
