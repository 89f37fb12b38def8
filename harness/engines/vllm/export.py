"""A folder that ``vllm serve`` takes as it is: the base model's files, trained adapters, and an extended configuration."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from harness import advice
from harness.api import PathpruneError
from harness.engines.served.names import adapter_name, base_name
from harness.engines.served.slots import SlotAdapter, digest
from harness.engines.vllm.ids import ARCHITECTURES, SLOTS, TOKENS, IdLayout
from harness.store.files import writable

LINKED = 64 << 20  # bytes; larger files of the base model are linked, not copied


def export(where: str, fingerprint: str, adapters: Sequence[Path], out: Path) -> str:
    """Write the folder.

    Args:
        where: folder or hub id of the base model.
        fingerprint: of the base model's engine; a client recognises the served weights by it.
        adapters: folders of trained adapters, one per slot.
        out: the folder to write.

    Returns:
        The command that serves it.

    Raises:
        PathpruneError: for a model that the plug-in does not extend or that cannot be fetched, for too many adapters,
            or for one that does not fit.
    """
    base = _folder(where)
    config = json.loads((base / "config.json").read_text())
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in ARCHITECTURES:
        raise PathpruneError(
            f"pathprune's plugin extends {', '.join(ARCHITECTURES)}, not {architecture}; use {advice.option(engine='hf')} for this model"
        )
    if len(adapters) > SLOTS:
        raise PathpruneError(
            f"one server holds {SLOTS} adapters, not {len(adapters)}; export the others to a second folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    _copy_model(base, out)
    names = [base_name(fingerprint)]
    for slot, folder in enumerate(adapters):
        SlotAdapter.read(folder, slot, where, config["hidden_size"], TOKENS)  # refused before anything is served
        shutil.copytree(folder, out / f"adapter-{slot}", dirs_exist_ok=True)
        names.append(adapter_name(slot, digest(folder)))
    layout = IdLayout(config["vocab_size"], config["hidden_size"], tuple(f"adapter-{i}" for i in range(len(adapters))))
    with writable(out / "config.json") as part:
        part.write_text(json.dumps(config | layout.overrides(ARCHITECTURES[architecture]), indent=1) + "\n")
    return (
        # `vllm serve` by its module: the command line of the CPU build does not start.
        f"VLLM_USE_V2_MODEL_RUNNER=0 python -m vllm.entrypoints.openai.api_server --model {out} --enforce-eager --no-async-scheduling --generation-config vllm "
        f"--enable-prompt-tokens-details --max-logprobs {layout.width} --logits-processors harness.engines.vllm.draw:Draw "
        f"--served-model-name {' '.join(names)}"
    )


def _copy_model(base: Path, out: Path) -> None:
    """Every file but the configuration; large ones are linked."""
    for file in base.iterdir():
        if file.is_file() and file.name != "config.json":
            (out / file.name).unlink(missing_ok=True)
            if file.stat().st_size > LINKED:
                (out / file.name).symlink_to(file.resolve())
            else:
                shutil.copyfile(file, out / file.name)


def _folder(where: str) -> Path:
    if Path(where).is_dir():
        return Path(where)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(where, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]))
    except (OSError, ValueError) as error:
        raise PathpruneError(
            f"cannot fetch {where} ({' '.join(str(error).split())[:200]}); give a local folder"
        ) from error
