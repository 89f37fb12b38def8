"""The Hugging Face Hub: push and pull checkpoints as models; push pools and pull labels as data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.api import PathpruneError
from harness.engines.identity import first_line

SCHEME = "hf://"


def is_address(source: Path | str) -> bool:
    """Whether this is ``hf://owner/name`` or ``hf://owner/name@revision`` rather than a folder."""
    return str(source).startswith(SCHEME)


def push(checkpoint: Path, card: dict[str, Any], repository: str, private: bool = False) -> str:
    """Upload a checkpoint folder unchanged, with a model card generated from its ``card``.

    Returns:
        The URL of the commit.

    Raises:
        PathpruneError: the hub refuses the upload or cannot be reached.
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
    """Upload a data set's folder unchanged, its card included.

    Returns:
        The URL of the commit.

    Raises:
        PathpruneError: the hub refuses the upload or cannot be reached.
    """
    from huggingface_hub import HfApi

    with _reached(repository):
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True, repo_type="dataset")
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, repo_type="dataset", commit_message=f"Add {folder.name}"
        )
    return str(commit.commit_url)


def pull(address: str) -> Path:
    """The local folder of a checkpoint at ``hf://owner/name[@revision]``, downloaded unless it is in the hub's cache.

    Raises:
        PathpruneError: it is neither on the hub nor in its cache.
    """
    return _snapshot(address)


def pull_labels(address: Path | str, name: str) -> Path:
    """The local folder of a data set at ``hf://owner/name[@revision]`` with the label folder ``name`` or top-level parts.

    Raises:
        PathpruneError: it is neither on the hub nor in its cache.
    """
    return _snapshot(str(address), repo_type="dataset", allow_patterns=[f"{name}/*.parquet", "problems-*.parquet"])


def pull_data(address: str, patterns: Sequence[str]) -> Path:
    """The local folder of a data set at ``hf://owner/name[@revision]`` with the files that match ``patterns``.

    Raises:
        PathpruneError: it is neither on the hub nor in its cache.
    """
    return _snapshot(address, repo_type="dataset", allow_patterns=list(patterns))


def _snapshot(address: str, **what: Any) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = address.removeprefix(SCHEME).partition("@")
    with _reached(repository):
        return Path(snapshot_download(repository, revision=revision or None, **what))


@contextmanager
def _reached(repository: str) -> Iterator[None]:
    """Turn an error of the hub, or an invalid name, into one line."""
    try:
        yield
    except (OSError, ValueError) as error:  # base classes of the hub's own errors
        reason = first_line(error)
        raise PathpruneError(
            f"hub repository {repository}: {reason}; check the name, the connection, and that you are logged in (hf auth login)"
        ) from error


def _model_card(card: dict[str, Any], repository: str) -> Any:
    """The README of a pushed checkpoint. Its readers have the package but no Makefile."""
    from huggingface_hub import ModelCard, ModelCardData

    about = ModelCardData(base_model=card["base"]["model"], library_name="peft", tags=["pathprune", card["pruner"]])
    pruner = f"{card['pruner'].partition(':')[0]}:checkpoint={SCHEME}{repository}"
    return ModelCard(
        f"---\n{about.to_yaml()}\n---\n\nA path pruner ({card['pruner']}) for pathprune; `checkpoint.json` describes its "
        f"training.\n\n```sh\npathprune bench --pruner {pruner} --model {card['base']['model']}\n```\n"
    )
