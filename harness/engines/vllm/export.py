"""Export a folder for ``vllm serve``: the base model's files, trained adapters, and an extended configuration."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from harness import advice
from harness.api import PathpruneError
from harness.engines.folders import read_object
from harness.engines.identity import first_line
from harness.engines.served.names import adapter_name, base_name
from harness.engines.served.slots import SlotAdapter, digest
from harness.engines.vllm.ids import ARCHITECTURES, SLOTS, TOKENS, IdLayout
from harness.engines.vllm.local import SECOND_RUNNER, has_gpu
from harness.store.folders import apart, writable_folder

MANIFEST = "pathprune-export.json"  # written by an export; a folder without it is not replaced
CODE = {".py", ".bin", ".pt", ".pth", ".pkl", ".ckpt"}  # Python files and pickles of a model folder are not exported
WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
LINKED = 64 << 20  # bytes; larger files of the base model are linked, not copied


def export(where: str, fingerprint: str, adapters: Sequence[Path], out: Path, revision: str | None = None) -> str:
    """Write the folder atomically. Only an earlier export is replaced.

    Args:
        where: folder or hub id of the base model.
        fingerprint: fingerprint of the base model, by which a client recognises the served weights.
        adapters: folders of trained adapters, one per slot.
        out: the folder to write.
        revision: commit of a hub id.

    Returns:
        The shell command that serves it, on this machine only.

    Raises:
        PathpruneError: if the model is unsupported or cannot be fetched, there are too many adapters, an adapter does
            not match the model, or the folder exists and is not an export.
    """
    base = _folder(where, revision)
    apart(out, "the model's folder", base)
    apart(out, "the checkpoint", *adapters)
    _ours(out)
    config = read_object(base / "config.json")
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in ARCHITECTURES:
        raise PathpruneError(
            f"pathprune's plugin extends {', '.join(ARCHITECTURES)}, not {architecture}; use {advice.option(engine='hf')} for this model"
        )
    if len(adapters) > SLOTS:
        raise PathpruneError(
            f"one server holds {SLOTS} adapters, not {len(adapters)}; export the others to a second folder"
        )
    layout = IdLayout(config["vocab_size"], config["hidden_size"], tuple(f"adapter-{i}" for i in range(len(adapters))))
    names = [base_name(fingerprint)]
    for slot, folder in enumerate(adapters):
        SlotAdapter.read(folder, slot, where, config["hidden_size"], TOKENS)  # refused before anything is written
        names.append(adapter_name(slot, digest(folder)))
    with writable_folder(out, replace=True) as part:
        _copy_model(base, part)
        for slot, folder in enumerate(adapters):
            shutil.copytree(folder, part / f"adapter-{slot}")
        changed = config | layout.overrides(ARCHITECTURES[architecture])
        (part / "config.json").write_text(json.dumps(changed, indent=1) + "\n")
        (part / MANIFEST).write_text(json.dumps({"files": sorted(f.name for f in part.iterdir())}) + "\n")
    return _command(out, layout, names)


def _command(out: Path, layout: IdLayout, names: Sequence[str]) -> str:
    # `vllm serve` is started by its module, because the command of the CPU build does not start.
    words = ["python", "-m", "vllm.entrypoints.openai.api_server", "--model", str(out), "--host", "127.0.0.1"]
    words += [] if has_gpu() else ["--enforce-eager", "--no-async-scheduling"]
    words += ["--generation-config", "vllm", "--enable-prompt-tokens-details"]
    words += ["--max-logprobs", str(layout.width), "--logits-processors", "harness.engines.vllm.draw:Draw"]
    return ("" if has_gpu() else f"{SECOND_RUNNER}=0 ") + shlex.join([*words, "--served-model-name", *names])


def _ours(out: Path) -> None:
    """Refuse an existing folder, unless it is an unchanged earlier export."""
    if not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST).is_file():
        raise PathpruneError(f"{out} exists and is not an export; choose another folder")
    files = read_object(out / MANIFEST).get("files")
    written = {*files, MANIFEST} if isinstance(files, list) else {MANIFEST}
    if others := sorted(f.name for f in out.iterdir() if f.name not in written):
        raise PathpruneError(f"{out} holds {others[0]}, which no export wrote; move it, or choose another folder")


def _copy_model(base: Path, out: Path) -> None:
    """Copy all files except the configuration and executable ones. Large files are linked."""
    for file in base.iterdir():
        if not file.is_file() or file.name in ("config.json", MANIFEST) or file.suffix in CODE:
            continue
        if file.stat().st_size > LINKED:
            (out / file.name).symlink_to(file.resolve())
        else:
            shutil.copyfile(file, out / file.name)


def _folder(where: str, revision: str | None) -> Path:
    if Path(where).is_dir():
        return Path(where)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(where, revision=revision, allow_patterns=WANTED))
    except (OSError, ValueError) as error:
        raise PathpruneError(f"cannot fetch {where} ({first_line(error)}); give a local folder") from error
