"""The verb that serves."""

from __future__ import annotations

from typing import Any

import click

from harness.api import PathpruneError
from harness.cli.base import Ended, asked, cli, comparison, console
from harness.cli.values import COUNT, PATHS, SECONDS, SEED, TEXT, Whole

MIB = 1 << 20


@cli.command()
@click.option("--model", type=TEXT, help="embedded model, local folder or hub id  [default: hands]")
@click.option("--engine", type=TEXT, default="hf", show_default=True, help="engine spec, e.g. hf:dtype=bfloat16")
@click.option(
    "--upstream",
    "upstreams",
    type=TEXT,
    multiple=True,
    help="a running vllm serve, in place of --engine; may be given again",
)
@click.option(
    "--task", type=TEXT, help="whose answers are read  [default: the embedded model's; boxed and other usual forms]"
)
@click.option("--sampling", type=TEXT, help="e.g. temperature=0.6,top_p=0.95,top_k=40  [default: the task's]")
@click.option(
    "--pruner",
    "pruners",
    type=TEXT,
    default="stop",
    show_default=True,
    help="the first is the default, requests may name the others",
)
@click.option(
    "--stopping",
    "rules",
    type=TEXT,
    help="stopping rules that requests may put behind a pruner, e.g. asc,esc",
)
@click.option("--n", type=PATHS, default=64, show_default=True, help="paths launched")
@click.option("--keep", type=PATHS, default=8, show_default=True, help="paths finished")
@click.option("--prefix", type=COUNT, help="prefix length L in tokens  [default: the task's]")
@click.option(
    "--stages", type=TEXT, help="several cuts, [step@|forced@]PREFIX:KEEP each, in place of --prefix and --keep"
)
@click.option("--max-tokens", type=Whole(2), help="longest path, where a request says nothing  [default: the task's]")
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="of the random streams, where a request says nothing"
)
@comparison
@click.option("--name", type=TEXT, help="the name that requests call the model by  [default: the model's]")
@click.option("--host", type=TEXT, default="127.0.0.1", show_default=True)
@click.option(
    "--allow-host",
    "named",
    type=TEXT,
    multiple=True,
    help="a name that requests may call the server by, beside this machine's own; may be given again  [default: any, on an address that others reach]",
)
@click.option("--port", type=Whole(0, 65535), default=8100, show_default=True, help="0: any that is free")
@click.option(
    "--api-key",
    type=TEXT,
    envvar="PATHPRUNE_SERVE_KEY",
    help="that clients have to give; better in the environment, as PATHPRUNE_SERVE_KEY",
)
@click.option("--most-n", type=PATHS, default=256, show_default=True, help="paths that a request may launch")
@click.option(
    "--most-tokens", type=Whole(2), default=16384, show_default=True, help="longest path that a request may ask for"
)
@click.option("--most-body", type=Whole(1, 1024), default=1, show_default=True, help="MiB of a request's body")
@click.option(
    "--running", type=Whole(1, 4096), default=64, show_default=True, help="requests that are worked on at once"
)
@click.option(
    "--waiting",
    type=Whole(0, 1 << 16),
    default=256,
    show_default=True,
    help="requests that wait; more are told to come again (429)",
)
@click.option(
    "--rows", type=PATHS, default=512, show_default=True, help="paths of all requests that are generated together"
)
@click.option(
    "--timeout",
    type=SECONDS,
    default=600.0,
    show_default=True,
    help="seconds that a request may take, waiting included",
)
@click.option(
    "--drain", type=SECONDS, default=60.0, show_default=True, help="seconds that requests have to finish after SIGTERM"
)
def serve(host: str, named: tuple[str, ...], port: int, drain: float, vote: str | None, **rest: Any) -> None:
    """Serve chat completions that prune, as OpenAI's API: on an engine of its own, or in front of vllm serve."""
    if rest["upstreams"] and asked("engine"):
        raise PathpruneError("--upstream is in place of an engine; leave out --engine")
    if rest["stages"] and asked("keep"):
        raise PathpruneError("--stages says how many paths are kept; leave out --keep")
    try:
        from harness.serve import hosts, opening, server
        from harness.serve.terms import Limits
    except ImportError as error:
        raise PathpruneError(f"serving needs more packages ({error.name}): pip install 'pathprune[serve]'") from error
    limits = Limits(rest.pop("most_n"), rest.pop("most_tokens"), rest.pop("most_body") * MIB)
    listening = server.bound(host, port)
    address, port = listening.getsockname()[:2]
    wanted = opening.Asked(
        **{
            **rest,
            "limits": limits,
            "vote": vote or "majority",
            "sampling": rest["sampling"] or "",
            "rules": rest["rules"] or "",
            "api_key": rest["api_key"] or "",
            "hosts": hosts.allowed_hosts(host, address, named),
        }
    )
    service = opening.open_service(wanted)
    told = _address(host, port)
    if not wanted.api_key and not hosts.is_loopback(address):
        console.print(f"anybody who reaches {told} may use it: give --api-key, or leave out --host", style="yellow")
    line = f"serving {service.terms.model} at {told}/v1; Ctrl-C ends it when requests are answered, and at once the second time"
    raise Ended(server.run(service, listening, drain, lambda: console.print(line, soft_wrap=True)))


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
