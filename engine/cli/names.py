"""Shell completion for the names of profiles, runs, sweeps and models.

It runs at every Tab, so it must be quick and must not fail: files that it cannot read add no names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from engine.errors import EngineError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """TOML files and shipped profiles that begin with `incomplete`; any path if there are none."""
    return [*complete_files(ctx, param, incomplete), *complete_shipped(ctx, param, incomplete)]


def complete_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """TOML files that begin with `incomplete`; any path if there are none."""
    import glob
    import shlex

    with _quietly():
        files = sorted(glob.glob(f"{glob.escape(incomplete)}*.toml"))
        plain = [path for path in files if shlex.quote(path) == path]  # bash would not quote the others
        return [_path(incomplete), *_items(plain)]
    return [_path(incomplete)]


def complete_shipped(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Profiles that come with the package."""
    from engine.profile.shipped import shipped_profiles

    descriptions = {item.name: item.description for item in shipped_profiles()}
    return _items([name for name in descriptions if name.startswith(incomplete)], descriptions)


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of runs, newest first, and `last`."""
    from engine.runs.store import list_runs

    with _quietly():
        return _matching(["last", *(run.id for run in list_runs())], incomplete)
    return []


def complete_sweeps(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of sweeps, newest first, and `last`."""
    from engine.sweep.store import list_sweeps

    with _quietly():
        return _matching(["last", *(sweep.id for sweep in list_sweeps())], incomplete)
    return []


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Known models, also by name without owner; any path if there are none."""
    from engine.models.catalog import load_catalog

    with _quietly():
        return [_path(incomplete), *_matching(["demo", *(spec.name for spec in load_catalog())], incomplete)]
    return [_path(incomplete)]


def or_path(complete: Completer) -> Completer:
    """The names that `complete` finds; any path if there are none."""
    return lambda ctx, param, incomplete: [_path(incomplete), *complete(ctx, param, incomplete)]


def _path(incomplete: str) -> CompletionItem:
    """Let the shell complete files. Bash drops the items before this one, and uses it if none follow."""
    from click.shell_completion import CompletionItem

    return CompletionItem(incomplete, type="file")


def _items(names: Iterable[str], helps: Mapping[str, str] | None = None) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name, help=(helps or {}).get(name)) for name in names]


def _matching(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Names that begin with `incomplete`, else names that contain it; commands accept both."""
    known, part = list(names), incomplete.lower()
    starting = [name for name in known if name.lower().startswith(part)]
    return _items(starting or [name for name in known if part in name.lower()])


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    with contextlib.suppress(EngineError, OSError, ValueError):
        yield
