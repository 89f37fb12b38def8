"""The verb ``serve``."""

from __future__ import annotations

from typing import Any

import click

from harness.api import PathpruneError
from harness.cli.base import Ended, asked, cli, comparison, console
from harness.cli.values import COUNT, PATHS, SECONDS, SEED, TEXT, Whole

MIB = 1 << 20


@cli.command()
@click.option("--model", type=TEXT, help="embedded model, local folder or Hub id  [default: hands]")
@click.option("--engine", type=TEXT, default="hf", show_default=True, help="engine spec, e.g. hf:dtype=bfloat16")
@click.option(
    "--upstream",
    "upstreams",
    type=TEXT,
    multiple=True,
    help="address of a running vllm serve, instead of --engine; may be repeated",
)
@click.option(
    "--task",
    type=TEXT,
    help="task whose answer format is read  [default: the embedded model's; else boxed and other common forms]",
)
@click.option("--sampling", type=TEXT, help="e.g. temperature=0.6,top_p=0.95,top_k=40  [default: the task's]")
@click.option(
    "--pruner",
    "pruners",
    type=TEXT,
    default="stop",
    show_default=True,
    help="a,b,c; the first is the default, and requests may name the others",
)
@click.option(
    "--stopping",
    "rules",
    type=TEXT,
    help="stopping rules that requests may combine with a pruner, e.g. asc,esc",
)
@click.option("--n", type=PATHS, default=64, show_default=True, help="paths launched per request")
@click.option("--keep", type=PATHS, default=8, show_default=True, help="paths finished per request")
@click.option("--prefix", type=COUNT, help="prefix length L in tokens  [default: the task's]")
@click.option(
    "--stages", type=TEXT, help="several stages, [step@|forced@]PREFIX:KEEP each, instead of --prefix and --keep"
)
@click.option("--max-tokens", type=Whole(2), help="maximum path length if a request sets none  [default: the task's]")
@click.option("--seed", type=SEED, default=0, show_default=True, help="sampling seed if a request sets none")
@comparison
@click.option("--name", type=TEXT, help="the name that requests call the model by  [default: the model's]")
@click.option("--host", type=TEXT, default="127.0.0.1", show_default=True, help="address to listen on")
@click.option(
    "--allow-host",
    "named",
    type=TEXT,
    multiple=True,
    help="a name that requests may call the server by, besides this machine's own; may be repeated  [default: any, on an address that others reach]",
)
@click.option("--port", type=Whole(0, 65535), default=8100, show_default=True, help="0: any that is free")
@click.option(
    "--api-key",
    type=TEXT,
    envvar="PATHPRUNE_SERVE_KEY",
    help="key that clients must send; safer in the environment, as PATHPRUNE_SERVE_KEY",
)
@click.option("--most-n", type=PATHS, default=256, show_default=True, help="most paths that a request may launch")
@click.option(
    "--most-tokens",
    type=Whole(2),
    default=16384,
    show_default=True,
    help="longest path, in tokens, that a request may ask for",
)
@click.option("--most-body", type=Whole(1, 1024), default=1, show_default=True, help="largest request body in MiB")
@click.option("--running", type=Whole(1, 4096), default=64, show_default=True, help="requests processed at once")
@click.option(
    "--waiting",
    type=Whole(0, 1 << 16),
    default=256,
    show_default=True,
    help="requests that may queue; further ones get status 429",
)
@click.option(
    "--rows", type=PATHS, default=512, show_default=True, help="batch size: paths generated together, over all requests"
)
@click.option(
    "--timeout",
    type=SECONDS,
    default=600.0,
    show_default=True,
    help="seconds that a request may take, queueing included",
)
@click.option(
    "--drain", type=SECONDS, default=60.0, show_default=True, help="seconds that running requests have after SIGTERM"
)
def serve(host: str, named: tuple[str, ...], port: int, drain: float, vote: str | None, **rest: Any) -> None:
    """Serve an OpenAI-compatible chat API that prunes paths, on its own engine or in front of vllm serve."""
    if rest["upstreams"] and asked("engine"):
        raise PathpruneError("--upstream replaces the engine; leave out --engine")
    if rest["stages"] and asked("keep"):
        raise PathpruneError("--stages sets how many paths are kept; leave out --keep")
    try:
        from harness.serve import hosts, opening, server
        from harness.serve.terms import Limits
    except ImportError as error:
        raise PathpruneError(f"serving needs package {error.name}: pip install 'pathprune[serve]'") from error
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
        console.print(f"anybody who can reach {told} may use it: give --api-key, or leave out --host", style="yellow")
    line = f"serving {service.terms.model} at {told}/v1; Ctrl-C ends it once running requests are answered, a second Ctrl-C at once"
    raise Ended(server.run(service, listening, drain, lambda: console.print(line, soft_wrap=True)))


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
