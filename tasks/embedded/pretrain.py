"""Train the model of an embedded task from scratch: ``python -m tasks.embedded.pretrain hands --out DIR``.

The model is a Llama of 1.0 M parameters with a word-level tokenizer. Muon trains the block matrices, and AdamW all
other parameters. The loss covers the solution only. The state is saved every 200 steps, and the same command resumes a
run. The output folder is an ordinary Hugging Face checkpoint with a ``training.json`` (recipe, seed, versions, loss
curve).
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tasks.embedded.base import EmbeddedTask
from tasks.embedded.calls import OTHER, Calls
from tasks.embedded.hands import Hands
from tasks.embedded.slips import Slips

TASKS: dict[str, type[EmbeddedTask]] = {"hands": Hands, "slips": Slips, "calls": Calls}
RECIPES = {"hands": {"steps": 3000}, "slips": {"steps": 2400}, "calls": {"steps": 3500, "batch_tokens": 3072}}
PAD, BOS, EOS = 0, 1, 2
IGNORED = -100
BFLOAT16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # emulation is 20 times slower than float32


@dataclass(frozen=True)
class PretrainRecipe:
    """All settings that determine the weights, apart from library versions and the number of threads."""

    task: str
    steps: int
    seed: int = 0
    batch_tokens: int = 6144
    learning_rate: float = 0.02
    adam_scale: float = 0.15
    warmup: int = 50
    short_share: float = 0.5
    short_until: float = 1 / 3

    def rate(self, step: int) -> float:
        """The factor of the learning rate at a step: a linear warm-up, then a linear decay to 0."""
        return min(1.0, (step + 1) / self.warmup) * (1 - step / self.steps)


def build_tokenizer(task: type[EmbeddedTask]) -> PreTrainedTokenizerFast:
    """A tokenizer with a token per word of the task's vocabulary, and one for all other words if the task has such a
    word."""
    unknown = OTHER if OTHER in task.vocabulary else "<pad>"
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(task.vocabulary)}, unk_token=unknown))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    if task.reads:
        inner.normalizer = normalizers.Sequence([normalizers.Replace(Regex(p), words) for p, words in task.reads])
    if task.writes:
        whole = (decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse())
        inner.decoder = decoders.Sequence([*whole, *(decoders.Replace(Regex(p), text) for p, text in task.writes)])
    # The word for all other words is not a special token, because it must be visible in texts.
    special = {"unk_token": unknown} if unknown == "<pad>" else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", **special
    )


def build_model(seed: int, words: int) -> LlamaForCausalLM:
    """The untrained model in float32 for a vocabulary of that size; deterministic in the seed."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=words,
        hidden_size=160,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=5,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return LlamaForCausalLM(config)


def batches(task: EmbeddedTask, recipe: PretrainRecipe) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches (inputs, targets) of about ``batch_tokens`` tokens, padded on the right. Examples are sorted by length
    within a pool."""
    index = {w: i for i, w in enumerate(task.vocabulary)}
    full, short = task.corpus(recipe.seed, short=False), task.corpus(recipe.seed, short=True)
    mix = torch.Generator().manual_seed(recipe.seed)
    batch_number = 0
    while True:
        early = batch_number < recipe.short_until * recipe.steps
        rows = []
        for _ in range(512):
            use_short = early and torch.rand((), generator=mix).item() < recipe.short_share
            prompt, example = next(short if use_short else full)
            head = [BOS, *(index[w] for w in prompt.split())]
            ids = [*head, *(index[w] for w in example.words), EOS]
            kept = [False] * len(head) + [*example.trained, True]
            rows.append((ids, [i if k else IGNORED for i, k in zip(ids, kept, strict=True)]))
        rows.sort(key=lambda r: len(r[0]))
        cuts = _cuts([len(r[0]) for r in rows], recipe.batch_tokens)
        for i in torch.randperm(len(cuts), generator=mix).tolist():
            batch_number += 1
            yield _pad(rows[slice(*cuts[i])])


def _cuts(lengths: list[int], budget: int) -> list[tuple[int, int]]:
    cuts, start = [], 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - start) * lengths[end] > budget:
            cuts.append((start, end))
            start = end
    return cuts


def _pad(rows: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = len(rows[-1][0])
    ids = torch.tensor([r[0] + [PAD] * (width - len(r[0])) for r in rows])
    targets = torch.tensor([r[1] + [IGNORED] * (width - len(r[1])) for r in rows])
    return ids[:, :-1], targets[:, 1:]


class Muon32(torch.optim.Optimizer):
    """Muon as in torch (Nesterov momentum of 0.95, no weight decay), with its iteration in float32."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix by the orthogonal factor of its averaged gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                assert p.grad is not None
                mean = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                mean.lerp_(p.grad, 0.05)
                scale = group["lr"] * math.sqrt(max(1, p.shape[0] / p.shape[1]))
                p.add_(orthogonal(p.grad.lerp(mean, 0.95)), alpha=-scale)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """An approximation of the nearest orthogonal matrix, by five Newton-Schulz iterations with Muon's coefficients."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315), wide, beta=3.4445)
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


def optimizers(model: LlamaForCausalLM, recipe: PretrainRecipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, and AdamW for all other parameters."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    muon: torch.optim.Optimizer = Muon32(matrices, lr=recipe.learning_rate)
    if BFLOAT16:
        muon = torch.optim.Muon(matrices, lr=recipe.learning_rate, weight_decay=0.0)
    adam = torch.optim.AdamW(rest, lr=recipe.learning_rate * recipe.adam_scale, betas=(0.9, 0.95), weight_decay=0.0)
    return [muon, adam]


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the targets ``[b, T]`` that are not IGNORED, a scalar."""
    # Right padding under a causal mask needs no attention mask: no trained position sees padding.
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=BFLOAT16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        wanted = targets != IGNORED
        logits = model.lm_head(hidden[wanted])
    return cross_entropy(logits.float(), targets[wanted])


def train(recipe: PretrainRecipe, out: Path) -> None:
    """Train a model, and write it with its tokenizer and ``training.json`` to ``out``. An interrupted run is resumed."""
    model = build_model(recipe.seed, len(TASKS[recipe.task].vocabulary))
    optims = optimizers(model, recipe)
    base_rates = [[g["lr"] for g in o.param_groups] for o in optims]
    log: list[dict[str, float]] = []
    state_file = out / "state.pt"
    first = _restore(state_file, recipe, model, optims, log)
    began, seconds_before = time.monotonic(), log[-1]["seconds"] if log else 0.0
    columns = (
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task(f"train {recipe.task}", total=recipe.steps, completed=first, loss="")
        running, seen = 0.0, 0
        for step, (ids, targets) in enumerate(batches(TASKS[recipe.task](), recipe)):
            if step >= recipe.steps:
                break
            if step < first:
                continue
            for optim, rates in zip(optims, base_rates, strict=True):
                for group, rate in zip(optim.param_groups, rates, strict=True):
                    group["lr"] = rate * recipe.rate(step)
            loss = loss_of(model, ids, targets)
            loss.backward()
            for optim in optims:
                optim.step()
                optim.zero_grad(set_to_none=True)
            running, seen = running + loss.item(), seen + 1
            if (step + 1) % 50 == 0 or step + 1 == recipe.steps:
                seconds = seconds_before + time.monotonic() - began
                log.append({"step": step + 1, "loss": round(running / seen, 4), "seconds": round(seconds, 1)})
                progress.update(bar, loss=f"loss {running / seen:.3f}")
                running, seen = 0.0, 0
            if (step + 1) % 200 == 0:
                _keep(state_file, recipe, model, optims, log, step + 1)
            progress.update(bar, completed=step + 1)
    _save(model, recipe, log, out)
    state_file.unlink(missing_ok=True)


def _restore(file: Path, recipe: PretrainRecipe, model: Any, optims: list[Any], log: list[dict[str, float]]) -> int:
    if not file.exists():
        return 0
    try:
        state = torch.load(file, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise SystemExit(f"error: {file} cannot be read ({error}); move it away to restart training") from error
    if state["recipe"] != asdict(recipe):
        raise SystemExit(
            f"error: {file} belongs to another recipe ({state['recipe']}); choose another --out, or move it away"
        )
    model.load_state_dict(state["model"])
    for optim, saved in zip(optims, state["optims"], strict=True):
        optim.load_state_dict(saved)
    log.extend(state["log"])
    return int(state["step"])


def _keep(
    file: Path, recipe: PretrainRecipe, model: Any, optims: list[Any], log: list[dict[str, float]], step: int
) -> None:
    state = {
        "recipe": asdict(recipe),
        "model": model.state_dict(),
        "optims": [o.state_dict() for o in optims],
        "log": log,
        "step": step,
    }
    torch.save(state, file.with_suffix(".part"))
    file.with_suffix(".part").replace(file)


def _save(model: LlamaForCausalLM, recipe: PretrainRecipe, log: list[dict[str, float]], out: Path) -> None:
    model.to(torch.bfloat16).save_pretrained(out)
    build_tokenizer(TASKS[recipe.task]).save_pretrained(out)
    record = {
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "threads": torch.get_num_threads(),
        "compute": "bfloat16" if BFLOAT16 else "float32",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "final_loss": log[-1]["loss"],
        "log": log,
    }
    assert math.isfinite(log[-1]["loss"])
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    """The command line; see ``make model``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="[default: 3000 for hands, 2400 for slips, 3500 for calls]")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    options = RECIPES[args.task] | ({"steps": args.steps} if args.steps else {})
    train(PretrainRecipe(task=args.task, seed=args.seed, **options), args.out)


if __name__ == "__main__":
    main()
