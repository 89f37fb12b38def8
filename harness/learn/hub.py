"""Checkpoints on the Hugging Face hub: ``pathprune push SPEC OWNER/NAME``, and ``checkpoint=hf://OWNER/NAME@REVISION``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.api import PathpruneError

SCHEME = "hf://"


def push(place: Path, card: dict[str, Any], repository: str, private: bool = False) -> str:
    """Upload a checkpoint folder as it is, with a model card made of its ``card`` beside it; the commit's address."""
    from huggingface_hub import HfApi

    with _reached(repository):
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            folder_path=place,
            commit_message=f"Add {card['pruner']} for {card['base']['model']} {card['digest']}",
        )
        api.upload_file(
            path_or_fileobj=str(_model_card(card, repository)).encode(), path_in_repo="README.md", repo_id=repository
        )
    return str(done.commit_url)


def pull(address: str) -> Path:
    """The folder of ``hf://owner/name`` or ``hf://owner/name@revision``, downloaded where the cache has it not."""
    from huggingface_hub import snapshot_download

    repository, _, revision = address.removeprefix(SCHEME).partition("@")
    with _reached(repository):
        return Path(snapshot_download(repository, revision=revision or None))


@contextmanager
def _reached(repository: str) -> Iterator[None]:
    """What keeps the hub from answering, or the name from being one, is one line."""
    try:
        yield
    except (OSError, ValueError) as error:  # what the hub's own errors derive from
        reason = str(error).strip().splitlines()[0]
        raise PathpruneError(
            f"hub repository {repository}: {reason}; check the name, the connection, and that you are logged in (hf auth login)"
        ) from error


def _model_card(card: dict[str, Any], repository: str) -> Any:
    from huggingface_hub import ModelCard, ModelCardData

    about = ModelCardData(base_model=card["base"]["model"], library_name="peft", tags=["pathprune", card["pruner"]])
    use = f"make bench PRUNER={card['pruner'].partition(':')[0]}:checkpoint={SCHEME}{repository} MODEL={card['base']['model']}"
    return ModelCard(
        f"---\n{about.to_yaml()}\n---\n\nA path pruner ({card['pruner']}) for pathprune; `checkpoint.json` says what it "
        f"was trained on.\n\n```sh\n{use}\n```\n"
    )
