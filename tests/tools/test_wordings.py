"""The command that reads wordings out of somebody's copy of the original code."""

from __future__ import annotations

import json

from molmo_jax.data.wordings import read_wordings
from molmo_jax.tools.wordings import SOURCES, main

FORMATTER, CHOICES, PIXMO, VIDEOS = SOURCES


def copy(folder):
  texts = {
    FORMATTER: "P = {'transcript': ['Say it.'], 'pointing': ['Where is {label}?', 'no field']}\n"
               "P['only_count'] = ['Count {label}']\nraise RuntimeError('never run')\n",
    CHOICES: "def build_option_instructions(option_type):\n  out = [f'Pick.', 'Choose.']\n"
             "  out += [f'The {option_type} and text']\n"
             "def build_option_templates(q, opts, instr):\n  return [f'{q}|{opts}|{instr}']\n",
    PIXMO: "NO_POINT_PREFIX = ['Do not point: ']\n",
    VIDEOS: "class COIN:\n  action_templates = ['What is done?']\n"
            "class Other:\n  templates = ['no kind']\n"}
  for name, text in texts.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
  return folder


def test_lists_become_a_file_that_replaces_wordings(tmp_path):
  out = tmp_path / 'wordings.json'
  assert main([str(copy(tmp_path)), str(out)]) == 0
  found = json.loads(out.read_text())
  assert found['transcript'] == ['Say it.'] and found['pointing'] == ['Where is {label}?']
  assert found['choice_instruction'] == ['Pick.', 'Choose.']
  assert found['choice_instruction_both'] == ['The {kind} and text']
  assert found['choice_layout_instruction'] == ['{question}|{options}|{instruction}']
  assert found['only_count'] == ['Count {label}'] and found['action'] == ['What is done?']
  assert read_wordings(str(out))['transcript'] == ('Say it.',)


def test_another_folder_is_one_line(tmp_path, capsys):
  assert main([str(tmp_path), str(tmp_path / 'out.json')]) == 1
  assert capsys.readouterr().err.startswith('error: ') and not (tmp_path / 'out.json').exists()
