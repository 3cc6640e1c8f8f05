"""`engine profile import`: turn a training file of LLaMA-Factory, Axolotl, TRL or Unsloth into a commented profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.common import json_option, line, note, print_json
from engine.errors import EngineError, ExitCode
from engine.text import sanitize

if TYPE_CHECKING:
    from engine.profile.foreign.draft import Draft

_FILE = click.Path(path_type=Path)
_SHOWN = {"left out": "not carried over", "changed": "not quite the same"}


@click.command("import")
@click.argument("files", type=_FILE, nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "--output", type=_FILE, help="Profile to write; default: FILE's name with .toml, here.")
@click.option(
    "--from",
    "dialect",
    type=click.Choice(["llamafactory", "axolotl", "trl"]),
    help="Format of FILE; default: guessed from its keys.",
)
@click.option("--model", help="Model to use instead of the file's.")
@click.option("--data", type=_FILE, help="Training examples to use instead of the file's.")
@click.option("--dataset-dir", type=_FILE, help="Folder with LLaMA-Factory's dataset_info.json.")
@click.option("--force", is_flag=True, help="Replace the profile if it exists.")
@json_option
def import_(
    files: tuple[Path, ...],
    output: Path | None,
    dialect: str | None,
    model: str | None,
    data: Path | None,
    dataset_dir: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Convert training FILEs of LLaMA-Factory, Axolotl, TRL or Unsloth into one profile; later files win.

    FILEs are YAML or JSON. Of TRL and Unsloth, they hold the arguments of SFTConfig, DPOConfig, LoraConfig,
    FastLanguageModel and so on, flat or in sections of these names.

    Lists every setting that could not be carried over, with its value, also inside data sets and their
    dataset_info.json; each line of the profile names its source. --json has what became of every key.
    """
    from engine.profile.foreign.closing import accounts
    from engine.profile.foreign.read import read_draft
    from engine.profile.foreign.write import profile_text
    from engine.profile.save import save_text

    target = output or Path(f"{files[0].stem}.toml")
    if target.exists() and not force:
        hint = "name another with --output, or replace it with --force"
        raise EngineError("the file exists", code=ExitCode.PROFILE, where=str(target), hint=hint)
    draft = read_draft(files, dialect=dialect, dataset_dir=dataset_dir, model=model, data=data)
    _save_beside(draft, target, force)
    save_text(target, profile_text(draft, list(files), target))
    if as_json:
        notes = [{"kind": one.kind, "key": one.key, "message": one.message, "where": one.where} for one in draft.notes]
        result = {"path": str(target), "tool": draft.tool, "settings": draft.settings, "notes": notes}
        print_json({**result, "accounts": accounts(draft)})
        return
    for one in draft.notes:
        if one.kind in _SHOWN:
            where = f"{one.where}: " if one.where else ""
            note(sanitize(f"{where}{_SHOWN[one.kind]}: {one}", single_line=True))
    needless = sum(one.kind == "not needed" for one in draft.notes)
    note(f"{len(draft.settings)} settings from {draft.tool}, {needless} not needed here (--json lists them)")
    line(str(target))
    note(f"next: engine profile check {target}")


def _save_beside(draft: Draft, target: Path, force: bool) -> None:
    """Texts that the files held and a profile names by file, such as a chat template."""
    from engine.profile.save import write_page

    for name, text in draft.files.items():
        path = target.absolute().parent / name
        if path.exists() and not force and path.read_text(encoding="utf-8", errors="replace") != text:
            hint = "name another folder with --output, or replace it with --force"
            raise EngineError("the file exists", code=ExitCode.PROFILE, where=str(path), hint=hint)
        write_page(path, text, "the chat template")
        note(f"wrote {sanitize(str(path), single_line=True)}")
