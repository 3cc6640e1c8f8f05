"""Installed libraries against the declared ranges, with distributions laid on `sys.path`."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from engine import libraries
from engine.errors import EngineError, ExitCode
from engine.libraries import check_libraries, explain, misfits, optional_misfit

DECLARED = (
    "alpha-lib>=1.10,<2",
    "beta>=2.11,<2.16; python_version >= '3'",
    "nowhere>=3",
    "elsewhere>=3; sys_platform == 'none'",
    "textual>=1",
    "kernel-lib<0.9,>=0.8.5; extra == 'kernels'",
)
FIT = {"alpha-lib": "1.10", "beta": "2.11.0a0+git1", "nowhere": "3", "textual": "8", "kernel-lib": "0.8.5"}


def lay(folder: Path, name: str, version: str, *needs: str) -> None:
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (place / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs)]) + "\n")


def forget() -> None:
    optional_misfit.cache_clear()
    libraries._distributions.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lays all distributions, some in other versions; None leaves one out."""

    def laid(**others: str | None) -> None:
        lay(tmp_path, "tunedeck", "9.9", *DECLARED)
        changes = {name.replace("_", "-"): version for name, version in others.items()}
        for name, version in {**FIT, **changes}.items():
            if version is not None:
                lay(tmp_path, name, version)
        monkeypatch.syspath_prepend(str(tmp_path))
        forget()

    yield laid
    forget()


def told() -> list[str]:
    messages: list[str] = []
    check_libraries(lambda code, message: messages.append(f"{code}: {message}"))
    return messages


def test_nothing_is_said_of_libraries_in_range(install) -> None:
    install()
    assert misfits() == []
    assert told() == []


def test_an_old_library_is_one_sentence_with_its_version_the_range_and_the_command(install) -> None:
    install(alpha_lib="1.9.2")
    with pytest.raises(EngineError) as raised:
        told()
    assert raised.value.code is ExitCode.ENVIRONMENT
    assert raised.value.message == "alpha-lib 1.9.2 is too old; tunedeck needs >=1.10,<2"
    assert "-m pip install 'alpha-lib>=1.10,<2'" in raised.value.hint


def test_all_problems_at_once(install) -> None:
    install(alpha_lib="1.9.2", nowhere=None)
    with pytest.raises(EngineError) as raised:
        told()
    assert [problem.message.split()[0] for problem in raised.value.problems] == ["alpha-lib", "nowhere"]
    assert raised.value.problems[1].message == "nowhere is not installed; tunedeck needs nowhere>=3"


def test_a_newer_library_is_a_warning(install) -> None:
    install(beta="2.16.0")
    (warning,) = told()
    assert warning.startswith("untested_version: beta 2.16.0 is newer than tunedeck was tested with (>=2.11,<2.16)")


def test_a_worker_needs_no_screen(install) -> None:
    install(textual="0.5")
    assert told() == []
    assert "textual 0.5" in str(explain(ImportError("cannot import name 'x'")))


def test_a_failure_is_explained_by_old_libraries_first_then_by_newer_ones(install) -> None:
    install(beta="3.0", nowhere=None)
    assert str(explain(AttributeError("x"))).startswith("nowhere is not installed")
    assert explain(ValueError("x")) is None


def test_a_failure_keeps_its_words_where_a_library_is_only_newer(install) -> None:
    install(beta="3.0")
    error = explain(TypeError("unexpected keyword"))
    assert error is not None
    assert error.message == "TypeError: unexpected keyword"
    assert "beta 3.0 is newer" in error.hint


@pytest.mark.parametrize(("version", "words"), [("0.8.5", ""), ("0.8.4", "is too old"), ("0.9.0", "is newer than")])
def test_a_library_of_an_extra_is_used_in_its_range_only(install, version: str, words: str) -> None:
    install(kernel_lib=version)
    found = optional_misfit("kernel-lib")
    assert words in found
    assert bool(found) == bool(words)


def test_a_checkout_without_metadata_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, "click", "1.0")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert misfits() == []
    assert explain(ImportError("x")) is None


def test_a_broken_distribution_says_nothing(install, tmp_path: Path) -> None:
    install(alpha_lib=None, beta="not a version")
    (tmp_path / "alpha_lib.py").write_text("")
    assert misfits() == []


@pytest.mark.parametrize("version", ["0.8.5", "0.8.5+cu128", "0.8.10"])
def test_plain_versions_of_an_extra_need_no_parser(install, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Its import would be a tenth of `engine fit`."""
    install(kernel_lib=version)
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    assert optional_misfit("kernel-lib") == ""
    assert libraries._plainly_fits(DECLARED[-1], version)


PLAIN = [
    "0.8",
    "0.8.4",
    "0.8.5",
    "0.8.5.0",
    "0.8.5.post1",
    "0.9",
    "0.9.0rc1",
    "0.8.6.dev3",
    "1!0.8.6",
    "0.8.9+a.b",
    "x",
]


@pytest.mark.parametrize("version", PLAIN)
def test_the_short_way_never_takes_what_the_parser_refuses(install, version: str) -> None:
    install(kernel_lib=version)
    (requirement,) = libraries._requirements([DECLARED[-1]])
    assert bool(optional_misfit("kernel-lib")) == bool(libraries._failed(requirement, version))


def test_what_a_broken_installation_left_beside_is_no_misfit(install, tmp_path: Path) -> None:
    install()
    (tmp_path / "alpha_lib-0.3.dist-info").mkdir()
    lay(tmp_path, "beta", "1.0")
    libraries._distributions.cache_clear()
    assert told() == []


def test_several_versions_of_which_none_fits_are_told(install, tmp_path: Path) -> None:
    install(beta="1.0")
    lay(tmp_path, "beta", "1.1")
    libraries._distributions.cache_clear()
    with pytest.raises(EngineError, match=r"beta 1\.1 is too old"):
        told()


def test_a_name_is_no_beginning_of_another(install, tmp_path: Path) -> None:
    lay(tmp_path, "kernel", "5")
    install()
    (tmp_path / "tunedeck-9.9.dist-info" / "METADATA").write_text(
        "Requires-Dist: kernel-lib<0.9; extra == 'a'\nRequires-Dist: kernel>=5; extra == 'a'\n\n"
    )
    lay(tmp_path, "Kernel.Lib", "7")
    assert optional_misfit("kernel") == ""


def test_a_requirement_that_cannot_be_read_is_passed_over(install, tmp_path: Path) -> None:
    install(alpha_lib="1.0")
    metadata = tmp_path / "tunedeck-9.9.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + "Requires-Dist: beta>=>1\nRequires-Dist: ?\n")
    assert [misfit.name for misfit in misfits()] == ["alpha-lib"]


def test_a_folder_of_the_user_is_no_library(install, tmp_path: Path) -> None:
    install(nowhere=None)
    (tmp_path / "nowhere").mkdir()
    assert [misfit.name for misfit in misfits()] == ["nowhere"]


def test_kernels_of_another_version_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.hardware.machine import Gpu
    from engine.models.catalog import catalog_index
    from engine.recommend import kernels

    monkeypatch.setattr(kernels, "is_installed", lambda: True)
    monkeypatch.setattr(libraries, "optional_misfit", lambda name: f"{name} 9 is newer" if name == "triton" else "")
    spec, card = catalog_index()["smollm2-135m-instruct"], Gpu("A100", compute_capability=(8, 0))
    assert kernels.choose_kernels(spec, "cuda", card, None) == ("plain", "triton 9 is newer")


def test_every_declared_library_is_found_under_its_module() -> None:
    """The table of modules that are named otherwise is whole for what this environment has."""
    declared = libraries.required()
    assert len(declared) > 20
    for requirement in declared:
        name = libraries._MODULES.get(requirement.name, requirement.name.replace("-", "_"))
        assert libraries.find_spec(name) is not None, requirement.name


def test_hidden_libraries_are_found_by_nobody_and_come_back() -> None:
    sys.modules.pop("tabnanny", None)
    with libraries.hidden(("tabnanny", "json")):
        assert find_spec("tabnanny") is None
        with pytest.raises(ImportError):
            import_module("tabnanny")
        assert import_module("json").dumps([]) == "[]", "what is loaded already stays"
    assert import_module("tabnanny").__name__ == "tabnanny"
    assert sys.modules["json"] is not None
