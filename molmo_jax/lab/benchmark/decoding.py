"""Decoding throughput in tokens per second after the prefill: greedy, with a key/value cache.

The prefill runs once, before the clock starts; every run continues from a copy of its cache.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from molmo_jax.inference.generate import begin, extend
from molmo_jax.inference.unstack import unstack_blocks
from molmo_jax.lab.benchmark.peer import Peer
from molmo_jax.lab.benchmark.small import SMALL, text_batch
from molmo_jax.lab.benchmark.timing import Run
from molmo_jax.model.molmo import Network


@dataclasses.dataclass(frozen=True)
class Side:
  """One program: its timed run, and the tokens that the last run generated."""
  run: Run
  tokens: dict[str, np.ndarray]


def prompts(rows: int, length: int) -> np.ndarray:
  """Random tokens of the base vocabulary, int32 [rows, length]."""
  return np.random.default_rng(0).integers(3, SMALL.llm.vocab, (rows, length)).astype(np.int32)


def ours(model: Network, params: Any, tokens: np.ndarray, new_tokens: int) -> Side:
  """Greedy decoding of `new_tokens` tokens by this project, compiled."""
  layers, made = unstack_blocks(params), {}
  prompt = jax.block_until_ready(begin(model, params, text_batch(tokens), new_tokens))

  def run() -> float:
    answers = jax.block_until_ready(jax.tree.map(jnp.copy, prompt))   # `extend` takes its memory
    start = time.perf_counter()
    answers = jax.block_until_ready(extend(model, layers, answers, np.int32(new_tokens), ()))
    seconds = time.perf_counter() - start
    made['ids'] = np.asarray(answers.tokens)
    return seconds

  return Side(run, made)


def theirs(model: Any, peer: Peer, tokens: np.ndarray, new_tokens: int) -> Side:
  """`generate` of transformers; the clock starts with the logits after the prompt."""
  torch, transformers = peer.torch, peer.transformers
  ids, made = torch.from_numpy(tokens.astype(np.int64)), {}
  seen, arrivals = torch.ones_like(ids), []
  with torch.no_grad():   # all tokens but the last, which `generate` reads itself
    prompt = model(input_ids=ids[:, :-1], attention_mask=seen[:, :-1], use_cache=True,
                   logits_to_keep=1).past_key_values

  class Clock(transformers.LogitsProcessor):   # type: ignore[name-defined]
    def __call__(self, input_ids: Any, scores: Any) -> Any:
      arrivals.append(time.perf_counter())
      return scores

  def run() -> float:
    arrivals.clear()
    # one more token: `new_tokens` decoding steps lie between the first and the last logits
    with torch.no_grad():
      out = model.generate(input_ids=ids, attention_mask=seen,
                           past_key_values=copy.deepcopy(prompt), max_new_tokens=new_tokens + 1,
                           do_sample=False, eos_token_id=None, pad_token_id=0,
                           logits_processor=transformers.LogitsProcessorList([Clock()]))
    made['ids'] = out[:, tokens.shape[1]:-1].numpy()
    return arrivals[-1] - arrivals[0]

  return Side(run, made)


def agreement(first: np.ndarray, second: np.ndarray) -> str:
  """How many of the tokens are the same."""
  return f'{int((first == second).sum())} of {first.size} tokens are the same on both sides'
