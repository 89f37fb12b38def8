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
from peft.tuners.lora import LoraLayer, ParamWrapper
from safetensors.torch import load_file, save_file
from transformers import Cache

from harness.api import PathpruneError
from harness.engines import adapters, loading, memory
from harness.engines.adapters import EMBEDDINGS as EMBEDDINGS
from harness.engines.folders import header
from harness.engines.hf.support import decoder_of, linear_layers
from harness.engines.identity import first_line
from harness.text import unknown


def sharing_clone(model: Any) -> Any:
    """A second module tree over the same parameters and buffers, which can be modified without changing the first."""
    memo: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, memo)


def vocabulary_rows(model: Any, count: int, seed: int) -> torch.Tensor:
    """Embeddings of random vocabulary tokens, float32 ``[count, d]``, as initial values of learned tokens.

    Initialising from the vocabulary learns faster than from noise (Lester et al. 2021, arXiv 2104.08691, sec. 3.2). STOP's
    official code uses a single row of the vocabulary.
    """
    weight = model.get_input_embeddings().weight
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(seed))
    return weight[order[torch.arange(count) % len(weight)]].detach().float()


class StopAdapter(torch.nn.Module):
    """Learned embeddings ``[T_s, d]``, and a LoRA on the decoder's linear layers that is active on them only.

    For experts with fused weights, PEFT adapts only those that used to be linear layers (Mixtral and similar); ``experts``
    adapts all. ``reach`` lists the adapted layers.

    Args:
        model: the frozen base model; it is shared, not copied.
        tokens: T_s, the number of learned [STOP] tokens.
        rank: of the LoRA; 0 for none.
        alpha: the LoRA's output is scaled by alpha / rank.
        dropout: of the LoRA's input during training.
        seed: of the initial values.
        experts: also adapt fused expert parameters.
        targets: names of the linear layers to adapt, joined with +; empty for all.
    """

    def __init__(
        self,
        model: Any,
        tokens: int = 4,
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        seed: int = 0,
        experts: bool = False,
        targets: str = "",
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
            branch = _new_lora(branch, experts, targets, r=rank, lora_alpha=alpha, lora_dropout=dropout)
        self.branch = branch
        self.rank = rank

    @property
    def low_rank_parameters(self) -> int:
        """Parameters of the LoRA that a token passes through: what it adds to its forward pass."""
        share = loading.expert_share(self.branch.config.get_text_config())
        lora = ((n, p.numel()) for n, p in self.branch.named_parameters() if "lora_" in n)
        return sum(int(size * (share if ".experts." in name else 1)) for name, size in lora)

    @property
    def reach(self) -> dict[str, list[str]]:
        """Names, without their layers, of what the LoRA is on, and of the decoder's fused experts that it is not on."""
        wrapped = {n: m for n, m in self.branch.named_modules() if isinstance(m, LoraLayer)}
        parameters = {
            id(m.get_param()): _leaf(n, m.parameter_name) for n, m in wrapped.items() if isinstance(m, ParamWrapper)
        }
        modules = {_leaf(n) for n, m in wrapped.items() if not isinstance(m, ParamWrapper)}
        fused = {
            _leaf(n)
            for n, p in self.branch.named_parameters()
            if p.dim() == 3 and ".experts." in n and id(p) not in parameters and "lora_" not in n
        }
        return {"on": sorted({*modules, *parameters.values()}), "not_on": sorted(fused)}

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
            inputs_embeds=self.embeddings.to(self.branch.dtype).repeat(rows, 1, 1),  # some models scale them in place
            attention_mask=mask,
            position_ids=lengths.unsqueeze(-1) + offsets,
            past_key_values=prefix,
            use_cache=True,
            **_per_layer(self.decoder, rows, self.tokens),
        ).last_hidden_state

    def save(self, folder: Path) -> None:
        """Write embeddings, and PEFT's own files of the LoRA; the base model is not saved."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"embeddings": self.embeddings.detach().cpu().contiguous()}, folder / EMBEDDINGS)
        if self.rank:
            config = self.branch.peft_config["default"]
            wrapped = {
                n.removeprefix("base_model.model."): m
                for n, m in self.branch.named_modules()
                if isinstance(m, LoraLayer)
            }
            if not adapters.uniform(
                wrapped
            ):  # a file that lacks one of them is told from one that was never to have it
                config.target_modules = {n for n, m in wrapped.items() if not isinstance(m, ParamWrapper)}
            for targets in ("target_modules", "target_parameters"):  # sets, whose order differs from process to process
                setattr(config, targets, sorted(getattr(config, targets) or ()) or None)
            config.base_model_name_or_path = Path(config.base_model_name_or_path or "").name  # never a local path
            self.branch.save_pretrained(str(folder), save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card

    @classmethod
    def load(cls, model: Any, folder: Path) -> StopAdapter:
        """Load a saved adapter over this model, frozen and in evaluation mode.

        Raises:
            PathpruneError: it is missing, damaged, incomplete, or of another model.
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


def _new_lora(branch: Any, experts: bool, targets: str, **shape: Any) -> Any:
    """PEFT's new LoRA over a model."""
    fit, others = linear_layers(branch)
    options: dict[str, Any] = {"target_modules": fit if others else "all-linear"}
    if targets:
        options["target_modules"] = _chosen(targets.split("+"), fit, in_full=bool(others))
    if experts:
        options["target_parameters"] = fused_experts(branch)
    if not fit:
        raise PathpruneError("this model has no linear layer that a LoRA could be on; use rank=0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what PEFT puts right itself, as GPT-2's transposed weights
            return get_peft_model(branch, LoraConfig(**shape, **options))
    except ValueError as error:  # of a fused parameter with dropout
        raise PathpruneError(f"PEFT makes no such LoRA over this model ({first_line(error)})") from error


def _chosen(wanted: list[str], layers: list[str], in_full: bool) -> list[str]:
    """Those linear layers of a model whose names end in one of ``wanted``: the ends, or whole names where others have them, too."""
    ends = {layer.rpartition(".")[2] for layer in layers}
    for name in wanted:
        if name not in ends:
            raise PathpruneError(unknown("linear layer of this model", name, sorted(ends)))
    return [layer for layer in layers if layer.rpartition(".")[2] in wanted] if in_full else wanted


def fused_experts(model: Any) -> list[str]:
    """Names of a model's parameters that hold the weights of many experts.

    Raises:
        PathpruneError: it has none.
    """
    names = [n for n, p in model.named_parameters() if p.dim() == 3 and ".experts." in n]
    if not names:
        raise PathpruneError("this model has no fused experts; leave out experts=true")
    return sorted({".".join(name.split(".")[-2:]) for name in names})


def _leaf(name: str, parameter: str = "") -> str:
    """The end of a module's or parameter's name, without PEFT's own parts; of experts with the parameter's name."""
    parts = [part for part in [*name.split("."), parameter] if part and part != "base_layer"]
    return ".".join(parts[-2:] if parameter or parts[-2] == "experts" else parts[-1:])


def _per_layer(decoder: Any, rows: int, tokens: int) -> dict[str, torch.Tensor]:
    """What goes into each layer beside the embeddings (Gemma 3n, Gemma 4): as for an image's, that of the padding token."""
    config = decoder.config
    if not getattr(config, "hidden_size_per_layer_input", 0):
        return {}
    table = decoder.embed_tokens_per_layer
    ids = torch.full((rows, tokens), config.pad_token_id or 0, device=table.weight.device)
    return {"per_layer_inputs": table(ids).reshape(rows, tokens, config.num_hidden_layers, -1)}


@torch.no_grad()
def _copied(loaded: Any, folder: Path) -> None:
    """Give each tensor the value that the folder has for it: PEFT renames some families' on the way in, and leaves those random."""
    values = load_file(folder / adapters.WEIGHTS)
    for repeated in (False, True):
        tensors = get_peft_model_state_dict(loaded, save_embedding_layers=False)
        unlike = [n for n, t in tensors.items() if n in values and not torch.equal(t.cpu(), values[n].to(t.dtype))]
        if unlike and repeated:
            raise PathpruneError(
                f"PEFT reads {unlike[0]} of {folder} as something else than was saved; train without a LoRA (rank=0)"
            )
        for name in unlike:
            tensors[name].copy_(values[name])


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
    _copied(loaded, folder)
    return loaded
