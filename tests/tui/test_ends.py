"""How the deck begins and ends: light imports, quick help, signals, crashes, resizes, one real terminal."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from textual.events import Resize
from textual.geometry import Size

from engine.api import runs
from tests.tui.conftest import attached, deck, make_run, record, screen_text, shows, until
from tests.tui.results_of import put, report
from tests.tui.terminal import Terminal
from tui.app import DeckApp
from tui.frame.themes import ANSI, THEMES, TRUECOLOR, default_theme
from tui.main import main
from tui.runs.commands import Selection
from tui.terminal import crash

HEAVY = ("torch", "numpy", "transformers", "datasets", "pandas", "pyarrow", "sklearn")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_help_answers_without_textual() -> None:
    code = "import sys; from tui.main import main\ntry: main(['--help'])\nfinally: print('textual' in sys.modules)"
    done = python(code)
    assert "usage: tunedeck" in done.stdout
    assert done.stdout.strip().endswith("False")


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import version

    monkeypatch.setattr(sys, "argv", ["tunedeck", "--version"])
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == f"tunedeck {version('tunedeck')}"


def test_a_wrong_run_is_refused_before_the_screen_is_touched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no-such-run"]) == 2
    said = capsys.readouterr()
    assert "no run 'no-such-run'" in said.err
    assert said.out == ""


def test_without_a_terminal_the_shell_commands_are_named() -> None:
    done = subprocess.run([sys.executable, "-m", "tui.main"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 9
    assert "engine fit" in done.stderr


@pytest.mark.parametrize("wrong", ["0", "abc", "61", "nan"])
def test_refresh_takes_a_sane_number(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--refresh", wrong])
    assert ended.value.code == 2
    assert "0.5 to 60" in capsys.readouterr().err


def test_the_deck_never_imports_what_only_workers_need() -> None:
    code = f"""
import asyncio, sys
from tui import warm
from tui.app import DeckApp
warm.AFTER_S = 0.2
async def go():
    app = DeckApp()
    async with app.run_test(size=(80, 24)) as pilot:
        for _ in range(100):
            await pilot.pause(0.05)
            if app.deck.plan is not None:
                break
        assert app.deck.plan is not None
        for _ in range(100):
            await pilot.pause(0.05)
            if "tui.cards.screen" in sys.modules:
                break
        assert "tui.cards.screen" in sys.modules, "what other screens need is loaded while nobody types"
        await pilot.press("p")
        for _ in range(100):
            await pilot.pause(0.05)
            if app.current_mode == "profile" and app.screen.form_pane.found.plan is not None:
                break
        assert app.screen.form_pane.found.plan is not None
        await pilot.press("4", "5", "3")
asyncio.run(go())
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = python(code)
    assert done.stdout.strip() == "[]", done.stderr[-3000:]


def test_a_crash_leaves_a_report_without_values(place: Path) -> None:
    token = "hf_" + "A" * 20
    code = f"""
import asyncio
from tui.app import DeckApp
class Broken(DeckApp):
    def do_goal(self):
        secret = {token!r}
        raise RuntimeError("it broke with {token}")
    def on_mount(self):
        super().on_mount()
        self.set_timer(0.2, self.do_goal)
app = Broken()
app.run(headless=True)
raise SystemExit(app.return_code)
"""
    script = place / "broken.py"
    script.write_text(code)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 1
    assert "tunedeck broke: RuntimeError" in done.stderr.replace("\n", " ")
    assert token not in done.stderr
    (report,) = (Path(os.environ["XDG_STATE_HOME"]) / "tunedeck" / "crashes").glob("*.txt")
    text = report.read_text()
    assert "do_goal" in text
    assert token not in text
    assert "[secret]" in text
    assert report.stat().st_mode & 0o777 == 0o600


def test_a_report_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    error = ValueError("x")
    assert crash.write_report(error) is None
    assert "no report could be written" in crash.crash_line(error, None)


def test_theme_follows_what_the_terminal_can_show() -> None:
    known = {theme.name for theme in THEMES} | {"nord"}
    assert default_theme({"COLORTERM": "truecolor"}, known) == TRUECOLOR
    assert default_theme({"TERM": "xterm-256color"}, known) == ANSI
    assert default_theme({"TEXTUAL_THEME": "nord"}, known) == "nord"
    assert default_theme({"TEXTUAL_THEME": "gone"}, known) == ANSI


async def test_every_theme_and_ascii_show_the_same_words(cpu_machine: object) -> None:
    from tui.app import DeckApp
    from tui.frame.options import Options

    app = DeckApp(Options(ascii_only=True))
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "OK", "#")
        for theme in (TRUECOLOR, ANSI):
            app.theme = theme
            await pilot.pause()
            assert screen_text(app).isascii()


@pytest.mark.parametrize("mode", ["fit", "profile", "run", "runs", "compare", "results"])
async def test_a_storm_of_resizes_breaks_nothing(mode: str, cpu_machine: object) -> None:
    from tui.documents.new import demo_form

    run = make_run()
    record(run, 80)
    app = attached(run)
    app.deck.form = demo_form()
    app.deck.of(Selection).marked, app.deck.chosen = (run,), run
    put(run.path / "eval" / "report.json", report())
    chance = random.Random(3)
    async with app.run_test(size=(80, 24)) as pilot:
        app.switch_mode(mode)
        await pilot.pause(0.2)
        for size in ((400, 200), (1, 1), *((chance.randint(1, 300), chance.randint(1, 80)) for _ in range(8))):
            await pilot.resize_terminal(*size)
        await pilot.resize_terminal(80, 24)
        await shows(pilot, "? help")
        assert "too small" not in screen_text(app)


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40)])
def test_the_command_opens_in_a_terminal_and_leaves_it_as_it_was(size: tuple[int, int]) -> None:
    terminal = Terminal(size=size)
    assert terminal.before == (True, True)
    terminal.wait_for(b" help")
    terminal.wait_for(b"> demo")
    assert b"\x1b[?1049h" in terminal.seen
    assert terminal.manners() == (False, False)
    os.write(terminal.master, b"q")
    terminal.read(10)
    assert terminal.process.wait(5) == 0
    assert terminal.seen.rindex(b"\x1b[?1049l") > terminal.seen.rindex(b"\x1b[?1049h")
    assert terminal.seen.rindex(b"\x1b[?25h") > terminal.seen.rindex(b"\x1b[?25l")
    assert terminal.manners() == terminal.before
    assert b"Traceback" not in terminal.seen
    os.close(terminal.master)


def test_what_is_typed_after_leaving_is_the_shell_s() -> None:
    code = """\
import time
from tui.app import DeckApp
from tui.main import main
run = DeckApp.run
DeckApp.run = lambda *given, **options: (run(*given, **options), time.sleep(3))
main([])
"""
    terminal = Terminal(code=code)
    terminal.wait_for(b"> demo")
    os.write(terminal.master, b"q")
    terminal.wait_for(b"\x1b[?1049l")
    assert terminal.process.poll() is None
    assert terminal.manners() == terminal.before
    terminal.end()


def test_sigterm_restores_the_terminal() -> None:
    terminal = Terminal()
    terminal.wait_for(b"demo (built")
    terminal.process.send_signal(signal.SIGTERM)
    terminal.read(10)
    assert terminal.process.wait(5) == 128 + signal.SIGTERM
    end = terminal.seen[terminal.seen.rindex(b"demo (built") :]
    assert b"\x1b[?1049l" in end
    assert b"\x1b[?25h" in end
    os.close(terminal.master)


def test_a_hang_up_ends_the_deck_and_not_the_worker() -> None:
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], start_new_session=True)
    terminal = Terminal()
    terminal.wait_for(b"demo (built")
    os.close(terminal.master)
    assert terminal.process.wait(10) == 128 + signal.SIGHUP
    assert worker.poll() is None
    worker.kill()
    worker.wait()


@pytest.mark.parametrize("moment", [b"\x1b[?1049h", b"CPU", b"demo (built"])
def test_a_hang_up_at_any_moment_leaves_no_deck_behind(moment: bytes) -> None:
    terminal = Terminal()
    terminal.wait_for(moment)
    os.write(terminal.master, b"2")
    terminal.process.send_signal(signal.SIGHUP)
    os.close(terminal.master)
    assert terminal.process.wait(10) in (128 + signal.SIGHUP, -signal.SIGHUP)


@pytest.mark.parametrize("moment", [b"", b"demo (built"], ids=["while it loads", "later"])
def test_a_terminal_that_goes_without_a_signal_leaves_no_deck_behind(moment: bytes) -> None:
    terminal = Terminal(controlling=False)
    terminal.wait_for(moment)
    os.close(terminal.master)
    terminal.process.wait(10)


def test_quitting_by_key_ends_with_zero_and_idle_sends_nothing() -> None:
    run = make_run()
    record(run, 50, 60, "completed")
    terminal = Terminal(run.id)
    terminal.wait_for(b"completed")
    terminal.read(2.0)
    before = len(terminal.seen)
    terminal.read(3.0)
    assert len(terminal.seen) - before < 300
    os.write(terminal.master, b"q")
    terminal.read(5)
    assert terminal.process.wait(5) == 0
    os.close(terminal.master)


@pytest.mark.tmux
@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_detach_and_attach_again_in_tmux(tmp_path: Path) -> None:
    run = make_run()
    record(run, 50, 400)
    socket = str(tmp_path / "tmux")
    tmux = ["tmux", "-S", socket, "-f", "/dev/null"]

    def capture() -> str:
        return subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout

    def wait_for(*texts: str) -> None:
        until = time.monotonic() + 20
        while not all(text in capture() for text in texts):
            assert time.monotonic() < until, capture()
            time.sleep(0.05)

    command = f"{sys.executable} -m tui.main last; exec sh"
    root = Path(__file__).parents[2]
    subprocess.run([*tmux, "new-session", "-d", "-x", "80", "-y", "24", f"cd {root} && {command}"], check=True)
    try:
        wait_for("step 50 of 400", "┤")
        subprocess.run([*tmux, "send-keys", "4"], check=True)
        wait_for("> support-bot")
        subprocess.run([*tmux, "send-keys", "q"], check=True)
        until = time.monotonic() + 10
        while "support-bot" in capture():
            assert time.monotonic() < until
            time.sleep(0.1)
        subprocess.run([*tmux, "send-keys", f"{sys.executable} -m tui.main last", "Enter"], check=True)
        wait_for("step 50 of 400", "┤")
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


@pytest.mark.tmux
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
@pytest.mark.usefixtures("warm_workers")
def test_three_keys_train_the_demo_for_real(tmp_path: Path) -> None:
    tmux = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]

    def keys(*names: str) -> None:
        subprocess.run([*tmux, "send-keys", *names], check=True)

    def wait_for(*texts: str, seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while not all(text in (seen := _pane(tmux)) for text in texts):
            assert time.monotonic() < until, seen
            time.sleep(0.05)

    command = f"cd {Path(__file__).parents[2]}; {sys.executable} -m tui.main; exec sh"
    subprocess.run([*tmux, "new-session", "-d", "-x", "80", "-y", "24", command], check=True)
    try:
        wait_for("> demo")
        keys("Enter")
        wait_for("make a profile")
        keys("Enter")
        wait_for("demo (shipped)", "OK")
        keys("C-r")
        wait_for("training   step", "loss", seconds=120)
        keys("x")
        wait_for("Stop demo?", "saves a checkpoint at step")
        keys("y")
        wait_for("stopped", seconds=60)
        (run,) = runs.list_runs()
        assert [path.name for path in (run.path / "checkpoints").iterdir()]
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


def _pane(tmux: list[str]) -> str:
    return subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout


async def test_signal_handlers_are_in_place_while_the_deck_runs() -> None:
    app = deck()
    async with app.run_test():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL


async def test_a_size_that_is_over_is_not_laid_out_again(cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        laid_out: list[object] = []
        screen = app.screen
        before = screen._screen_resized

        def resized(size: Size) -> None:
            laid_out.append(size)
            before(size)

        screen._screen_resized = resized  # type: ignore[method-assign]
        screen.post_message(Resize(Size(120, 40), Size(120, 40)))
        await pilot.pause(0.3)
        assert Size(120, 40) not in laid_out
        await pilot.resize_terminal(100, 30)
        await until(pilot, lambda: laid_out)
        assert set(laid_out) == {Size(100, 30)}
        await shows(pilot, "> demo", "? help")


def test_nothing_is_selected_before_there_is_a_screen():
    """From Python 3.12 on, inputs of the first screen clear the selection before that screen is on the stack."""
    DeckApp().clear_selection()


def test_a_deck_that_closes_loads_no_more_screens() -> None:
    assert not DeckApp()._is_quiet()
