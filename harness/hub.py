"""The Hugging Face hub: checkpoints as models, pushed and pulled, and labels as data sets, pulled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.api import PathpruneError
from harness.engines.identity import first_line

SCHEME = "hf://"


def is_address(source: Path | str) -> bool:
    """Whether this is ``hf://owner/name`` or ``hf://owner/name@revision``, and no folder."""
    return str(source).startswith(SCHEME)


def push(checkpoint: Path, card: dict[str, Any], repository: str, private: bool = False) -> str:
    """Upload a checkpoint folder as it is, with a model card made of its ``card`` beside it.

    Returns the commit's address. Raises PathpruneError where the hub refuses or does not answer.
    """
    from huggingface_hub import HfApi

    with _reached(repository):
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=checkpoint,
            commit_message=f"Add {card['pruner']} for {card['base']['model']} {card['digest']}",
        )
        api.upload_file(
            path_or_fileobj=str(_model_card(card, repository)).encode(), path_in_repo="README.md", repo_id=repository
        )
    return str(commit.commit_url)


def push_folder(folder: Path, repository: str, private: bool = False) -> str:
    """Upload a data set's folder as it is, its card included. Returns the commit's address."""
    from huggingface_hub import HfApi

    with _reached(repository):
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True, repo_type="dataset")
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, repo_type="dataset", commit_message=f"Add {folder.name}"
        )
    return str(commit.commit_url)


def pull(address: str) -> Path:
    """The folder of a checkpoint at ``hf://owner/name[@revision]``, downloaded unless the hub's cache has it.

    Raises PathpruneError where it is in neither.
    """
    return _snapshot(address)


def pull_labels(address: Path | str, name: str) -> Path:
    """The folder of a data set at ``hf://owner/name[@revision]``: of its files the label folder ``name``, or the parts
    that lie at its top. Raises PathpruneError where it is neither on the hub nor in its cache."""
    return _snapshot(str(address), repo_type="dataset", allow_patterns=[f"{name}/*.parquet", "problems-*.parquet"])


def pull_data(address: str, patterns: Sequence[str]) -> Path:
    """The folder of a data set at ``hf://owner/name[@revision]``, with its files of these patterns.

    Raises PathpruneError where it is neither on the hub nor in its cache."""
    return _snapshot(address, repo_type="dataset", allow_patterns=list(patterns))


def _snapshot(address: str, **what: Any) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = address.removeprefix(SCHEME).partition("@")
    with _reached(repository):
        return Path(snapshot_download(repository, revision=revision or None, **what))


@contextmanager
def _reached(repository: str) -> Iterator[None]:
    """Make one line of what keeps the hub from answering, or the name from being one."""
    try:
        yield
    except (OSError, ValueError) as error:  # what the hub's own errors derive from
        reason = first_line(error)
        raise PathpruneError(
            f"hub repository {repository}: {reason}; check the name, the connection, and that you are logged in (hf auth login)"
        ) from error


def _model_card(card: dict[str, Any], repository: str) -> Any:
    """The README of a pushed checkpoint, whose readers have the package and no Makefile."""
    from huggingface_hub import ModelCard, ModelCardData

    about = ModelCardData(base_model=card["base"]["model"], library_name="peft", tags=["pathprune", card["pruner"]])
    pruner = f"{card['pruner'].partition(':')[0]}:checkpoint={SCHEME}{repository}"
    return ModelCard(
        f"---\n{about.to_yaml()}\n---\n\nA path pruner ({card['pruner']}) for pathprune; `checkpoint.json` says what it "
        f"was trained on.\n\n```sh\npathprune bench --pruner {pruner} --model {card['base']['model']}\n```\n"
    )
