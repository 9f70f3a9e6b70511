"""Reading regular files alone; whole files or none."""

from __future__ import annotations

import os
import socket

import pytest

from molmo_jax.errors import MolmoError
from molmo_jax.files import open_regular


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
