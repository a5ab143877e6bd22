"""``hyperline view``: a live page of a strip."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=8585, show_default=True, help="0 for any that is free.")
@click.option(
    "--token",
    metavar="TEXT",
    envvar="HYPERLINE_VIEW_TOKEN",
    help="What viewers must know, 16 characters or more.  [default: none on this machine alone, else one is made]",
)
@click.option(
    "--name",
    "names",
    metavar="NAME",
    multiple=True,
    help="Name by which viewers call this machine, beside its own; may be given more than once.",
)
@click.option(
    "--rate",
    metavar="HZ",
    type=click.FloatRange(min=0, min_open=True),
    help="Lines a second of a replay.  [default: the flight's own]",
)
def view(folder: Path, host: str, port: int, token: str | None, names: tuple[str, ...], rate: float | None) -> None:
    """Show the strip that is flown into DIR as a live page, or replay the one that was.

    The page needs a browser and nothing else: no network, no installation. It listens on this machine alone; at any
    other --host viewers need a token. It runs at the lowest priority, and the flight does not wait for it.
    """
    import socket

    from hyperline.cli.options import stderr
    from hyperline.runtime.view.guard import choose_token
    from hyperline.runtime.view.priority import lead_a_session, lowest_priority
    from hyperline.runtime.view.server import listen, make_server

    token = choose_token(host, token)
    lead_a_session()
    server = make_server(folder, rate=rate, token=token, names=names)
    with listen(host, port) as listener:
        lowest_priority()
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        query = f"?token={token}" if token else ""
        click.echo(f"http://{shown}:{listener.getsockname()[1]}/{query}")
        stderr().print(f"showing {folder}; Ctrl-C ends the view, not the flight")
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # the usual way to end it
            return
