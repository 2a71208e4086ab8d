"""Dataclasses of options as parameters of a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from tsm_runtime.commands.entry import command, new_app
from tsm_runtime.commands.grouped_options import expand_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    width: Annotated[int, typer.Option(help="columns", min=1)] = 4
    tags: Annotated[list[str] | None, typer.Option("--tag", "-t")] = None


def app_that_records(calls: list[tuple[bool, Size, str]]) -> typer.Typer:
    app = new_app()

    @command(app)
    def draw(
        *,
        first: Annotated[bool, typer.Option("--first")] = False,
        size: Size,
        last: Annotated[str, typer.Option()] = "end",
    ) -> None:
        calls.append((first, size, last))

    return app


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([], (False, Size(), "end")),
        (
            ["--width", "7", "-t", "a", "--tag", "b", "--first"],
            (True, Size(width=7, tags=["a", "b"]), "end"),
        ),
        (["--last", "x"], (False, Size(), "x")),
    ],
)
def test_command_receives_the_group(line: list[str], expected: tuple[bool, Size, str]) -> None:
    calls: list[tuple[bool, Size, str]] = []
    result = CliRunner().invoke(app_that_records(calls), line)
    assert result.exit_code == 0, result.output
    assert calls == [expected]


def test_limits_of_a_field_hold() -> None:
    calls: list[tuple[bool, Size, str]] = []
    result = CliRunner().invoke(app_that_records(calls), ["--width", "0"])
    assert result.exit_code == 2
    assert "--width" in result.output
    assert not calls


def test_help_keeps_the_order_of_parameters_and_fields() -> None:
    text = CliRunner().invoke(app_that_records([]), ["--help"]).output
    places = [text.index(name) for name in ("--first", "--width", "--tag", "--last")]
    assert places == sorted(places)
    assert "columns" in text
    assert "[default: 4" in text


def test_two_options_of_one_name_are_an_error() -> None:
    def twice(*, width: int = 1, size: Size) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="duplicate parameter name: 'width'"):
        expand_groups(twice)
