"""Learned tokens over a frozen model: STOP's [STOP] tokens and the LoRA that is active on them only.

The prefix KV comes from the base model; only the appended tokens pass through the LoRA, which is activated LoRA
(aLoRA) with the [STOP] tokens as invocation. The adapter lives in a clone of the module tree that shares the base's
weights, so the base model's own forward cannot change, however the adapter is trained or switched.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import Cache

from harness.api import PathpruneError
from harness.engines import adapters, memory
from harness.engines.adapters import EMBEDDINGS as EMBEDDINGS
from harness.engines.folders import header
from harness.engines.hf.support import decoder_of
from harness.engines.identity import first_line


def sharing_clone(model: Any) -> Any:
    """A second module tree over the very same parameters and buffers: it can be changed without changing the first."""
    memo: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, memo)


def vocabulary_rows(model: Any, count: int, seed: int) -> torch.Tensor:
    """Embeddings of random tokens, float32 ``[count, d]``: where learned tokens start from.

    The frozen layers know what to do with those, so that learning starts sooner than from noise (Lester et al. 2021,
    arXiv 2104.08691, sec. 3.2); STOP's official code takes one row of the vocabulary."""
    weight = model.get_input_embeddings().weight
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(seed))
    return weight[order[torch.arange(count) % len(weight)]].detach().float()


class StopAdapter(torch.nn.Module):
    """Learned embeddings ``[T_s, d]``, and a LoRA on all linear layers that is active on them only.

    Args:
        model: the frozen base model; it is shared, not copied.
        tokens: T_s, the number of learned [STOP] tokens.
        rank: of the LoRA; 0 for none.
        alpha: what the LoRA adds is multiplied by alpha / rank.
        dropout: of the LoRA's input while it is trained.
        seed: of the initial values.
    """

    def __init__(
        self, model: Any, tokens: int = 4, rank: int = 16, alpha: float = 32.0, dropout: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__()
        if not (1 <= tokens <= adapters.MOST_TOKENS and 0 <= rank <= adapters.MOST_RANK and 0 <= dropout < 1):
            raise PathpruneError(
                f"an adapter has 1 to {adapters.MOST_TOKENS} tokens, a rank from 0 to {adapters.MOST_RANK} and a dropout from 0 "
                f"to below 1, not tokens={tokens}, rank={rank}, dropout={dropout}"
            )
        self.embeddings = torch.nn.Parameter(vocabulary_rows(model, tokens, seed))
        branch = sharing_clone(model)
        if rank:
            torch.manual_seed(seed)
            config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear")
            branch = get_peft_model(branch, config)
        self.branch = branch
        self.rank = rank

    @property
    def low_rank_parameters(self) -> int:
        """Parameters of the LoRA: what it adds to a token's forward pass."""
        return sum(p.numel() for n, p in self.branch.named_parameters() if "lora_" in n)

    @property
    def decoder(self) -> Any:
        """The clone's decoder, with the LoRA in it."""
        return decoder_of(self.branch.get_base_model() if self.rank else self.branch)

    @property
    def tokens(self) -> int:
        """T_s, how many [STOP] tokens are appended."""
        return self.embeddings.shape[0]

    def train(self, mode: bool = True) -> StopAdapter:
        """Training switches the LoRA's own dropout only: the base stays in evaluation mode."""
        super().train(False)
        for name, module in self.named_modules():
            if "lora_" in name:
                module.training = mode
        return self

    def forward(self, prefix: Cache, lengths: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Last-layer states ``[n, T_s, d]`` at the appended tokens.

        Args:
            prefix: KV of n prefixes, end-aligned.
            lengths: ``[n]``, tokens of each sequence, the appended ones included.
            mask: attention mask ``[n, T + T_s]``; None without padding.
        """
        rows = lengths.shape[0]
        offsets = torch.arange(-self.tokens, 0, device=lengths.device)
        return self.decoder(
            inputs_embeds=self.embeddings.to(self.branch.dtype).expand(rows, -1, -1),
            attention_mask=mask,
            position_ids=lengths.unsqueeze(-1) + offsets,
            past_key_values=prefix,
            use_cache=True,
        ).last_hidden_state

    def save(self, folder: Path) -> None:
        """Write embeddings, and PEFT's own files of the LoRA; the base model is not saved."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"embeddings": self.embeddings.detach().cpu().contiguous()}, folder / EMBEDDINGS)
        if self.rank:
            config = self.branch.peft_config["default"]
            config.target_modules = sorted(config.target_modules)  # a set, whose order differs from process to process
            config.base_model_name_or_path = Path(config.base_model_name_or_path or "").name  # never a local path
            self.branch.save_pretrained(str(folder), save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card

    @classmethod
    def load(cls, model: Any, folder: Path) -> StopAdapter:
        """What ``save`` wrote, over this model, frozen and in evaluation mode.

        Raises:
            PathpruneError: if it is missing, damaged, incomplete, or of another model.
        """
        adapters.examine(folder)
        embeddings = load_file(folder / EMBEDDINGS)["embeddings"]
        expected = model.get_input_embeddings().weight.shape[1]
        if embeddings.shape[1] != expected:
            raise PathpruneError(
                f"adapter in {folder} has width {embeddings.shape[1]}, the model {expected}: it belongs to another model"
            )
        adapter = cls(model, tokens=embeddings.shape[0], rank=0)
        adapter.embeddings.data.copy_(embeddings)
        if (folder / adapters.CONFIG).exists():
            adapter.branch = _with_lora(adapter.branch, folder)
            adapter.rank = int(adapters.settings(folder)["r"])
        return adapter.eval().requires_grad_(False)


def _with_lora(branch: Any, folder: Path) -> Any:
    """PEFT's LoRA of a folder over a model: every layer that it names, and nothing that the model has no layer for."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT only warns of what is refused below
            loaded = PeftModel.from_pretrained(branch, str(folder))
    except Exception as error:  # whatever PEFT raises while it reads a folder is the folder's
        if memory.ran_out(error):
            raise
        raise PathpruneError(
            f"adapter in {folder} does not fit this model ({first_line(error)}); it belongs to another model, or train it again"
        ) from error
    held = set(header(folder / adapters.WEIGHTS))
    needed = set(get_peft_model_state_dict(loaded, save_embedding_layers=False))
    if missing := sorted(needed - held):
        raise PathpruneError(f"adapter in {folder} lacks {missing[0]}, which would be random; train it again")
    if unused := sorted(held - needed):
        raise PathpruneError(
            f"adapter in {folder} has {unused[0]}, for which this model has no layer; it belongs to another"
        )
    return loaded
