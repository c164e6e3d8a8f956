from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from scconv_deploy.artifacts import StageTiming
from scconv_deploy.report.terminal import Terminal, console, duration, encodable, plain, print_table


class Stream(io.TextIOWrapper):
    """A stream with a chosen encoding that may claim to be a terminal."""

    def __init__(self, encoding: str = "utf-8", tty: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="")
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty

    def said(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def speak(stream: Stream, quiet: bool = False) -> str:
    with Terminal(console(stream), quiet) as listener:
        listener.started("trace")
        listener.update("node 3", 0.4)
        listener.finished(StageTiming("trace", 2.83, "412 nodes"))
        listener.note("block a is left as it is")
    return stream.said()


def test_a_pipe_gets_plain_lines_only() -> None:
    assert speak(Stream()) == ("[✓] trace           2.8 s   412 nodes\n    note: block a is left as it is\n")


def test_quiet_says_nothing() -> None:
    assert speak(Stream(), quiet=True) == ""
    assert speak(Stream(tty=True), quiet=True) == ""


def test_a_terminal_gets_colour_unless_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[32m" in speak(Stream(tty=True))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in speak(Stream(tty=True))


def test_a_terminal_that_cannot_write_the_mark_gets_ascii() -> None:
    said = speak(Stream(encoding="ascii"))
    assert said.startswith("[ok] trace")
    assert encodable(console(Stream(encoding="latin-1")), "é ✓") == "é ?"


@pytest.mark.parametrize(("error", "word"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_a_stage_that_breaks_is_marked(error: type[BaseException], word: str) -> None:
    stream = Stream()

    def run() -> None:
        with Terminal(console(stream)) as listener:
            listener.started("build")
            raise error

    with pytest.raises(error):
        run()
    assert stream.said().startswith("[✗] build")
    assert stream.said().rstrip().endswith(word)


def test_an_error_between_stages_marks_none() -> None:
    stream = Stream()

    def run() -> None:
        with Terminal(console(stream)) as listener:
            listener.started("load")
            listener.finished(StageTiming("load", 0.1, "done"))
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        run()
    assert "✗" not in stream.said()


def test_long_lines_are_not_wrapped_in_a_pipe() -> None:
    stream = Stream()
    Terminal(console(stream)).finished(StageTiming("package", 0.1, "/long" * 100))
    assert stream.said().count("\n") == 1


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\nb", "\x9b31m", "\u202eevil"])
def test_control_characters_of_a_users_file_are_made_visible(text: str) -> None:
    assert plain(text).isprintable()
    stream = Stream()
    listener = Terminal(console(stream))
    listener.note(text)
    assert all(c.isprintable() for c in stream.said().rstrip("\n"))


def test_markup_in_names_is_text() -> None:
    stream = Stream()
    Terminal(console(stream)).note("[bold]x[/bold] :smile:")
    assert "[bold]x[/bold] :smile:" in stream.said()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0421, "42 ms"), (0.0999, "0.1 s"), (2.83, "2.8 s"), (59.96, "1 min 0 s"), (95, "1 min 35 s")],
)
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_reader_that_leaves_does_not_stop_the_work() -> None:
    class Gone(Stream):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    listener = Terminal(console(Gone()))
    listener.finished(StageTiming("load", 0.1, "done"))
    listener.note("still working")


def test_a_table_in_a_pipe_has_no_trailing_spaces() -> None:
    table = Table()
    table.add_column("a", width=40)
    table.add_row("b")
    stream = Stream()
    print_table(Console(file=stream, width=100), table)
    assert all(line == line.rstrip() for line in stream.said().splitlines())
    assert "b" in stream.said()
