"""Makes the recording of a terminal in README from a real run: `python -m ddb_lake_tests.docs.record_terminal`.

The commands are those of README's first query. They run in a temporary folder, and `ddb_lake/docs/images/first-query.svg` shows them and
what they print. The picture is a strip of frames that CSS moves step by step; without animation it shows the last frame. Durations are
replaced by `…`, so the same product makes the same file.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from pathlib import Path

from click.testing import CliRunner

from ddb_lake.cli.app import cli
from ddb_lake_tests.support.docs_blocks import ROOT

PICTURE = ROOT / "ddb_lake" / "docs" / "images" / "first-query.svg"
SECTION = "## A first query in one minute"

COLUMNS, ROWS = 112, 30
CHARACTER_PX, LINE_PX, MARGIN_PX = 8.4, 18, 14
"""The size of the terminal in characters, and of a character in a font of 14 pixels."""

TYPED_CHARACTERS = 6
"""The characters that a frame adds to a command."""

TYPING_S, READING_S, END_S = 0.12, 2.5, 6.0
"""How long a frame is shown: of a command that is typed, of an output, and the last one."""

_DURATION = re.compile(r"\b\d+(\.\d+)?(?= (s|min)\b)")
_PROMPT = "$ "


@dataclass(frozen=True)
class Frame:
    """The rows of the screen, the last ones of the terminal, and how long they are shown."""

    rows: tuple[str, ...]
    seconds: float


def first_commands(readme: str) -> list[str]:
    """The commands of README's first query."""
    block = readme.partition(SECTION)[2].partition("```sh\n")[2].partition("```")[0]
    return block.splitlines()


def run_command(command: str) -> str:
    """What a command of `ddb-lake` prints, in the working folder. Raises RuntimeError if it fails."""
    program, *arguments = shlex.split(command)
    done = CliRunner().invoke(cli, arguments)
    if program != "ddb-lake" or done.exit_code != 0:
        raise RuntimeError(f"{command}: {done.output}")
    return done.output


def film(commands: Sequence[str], run: Callable[[str], str]) -> list[Frame]:
    """The frames of a terminal in which the commands are typed and run one after the other."""
    rows: list[str] = []
    frames: list[Frame] = []

    def show(shown: Sequence[str], seconds: float) -> None:
        frames.append(Frame(tuple(map(_cut, shown[-ROWS:])), seconds))

    for command in commands:
        for typed in range(0, len(command), TYPED_CHARACTERS):
            show([*rows, _PROMPT + command[:typed]], TYPING_S)
        rows.append(_PROMPT + command)
        show(rows, TYPING_S * 4)
        rows += [_DURATION.sub("…", line) for line in run(command).splitlines()]
        show(rows, READING_S)
    frames[-1] = Frame(frames[-1].rows, END_S)
    return frames


def svg(frames: Sequence[Frame]) -> str:
    """The frames as an animated SVG without scripts."""
    width, height = round(COLUMNS * CHARACTER_PX) + 2 * MARGIN_PX, ROWS * LINE_PX + 2 * MARGIN_PX
    total = sum(frame.seconds for frame in frames)
    begins = [0.0, *accumulate(frame.seconds for frame in frames[:-1])]
    steps = "".join(
        f"{begin / total:.4%}{{transform:translateX({-place * width}px)}}" for place, begin in enumerate(begins)
    )
    texts = {row: place for place, row in enumerate(dict.fromkeys(row for frame in frames for row in frame.rows))}
    symbols = "".join(
        f'<text id="t{place}" xml:space="preserve"{_style(row)}>{escape(row)}</text>\n' for row, place in texts.items()
    )
    drawn = "".join(
        f'<g transform="translate({place * width + MARGIN_PX} {MARGIN_PX + LINE_PX})">'
        + "".join(f'<use href="#t{texts[row]}" y="{line * LINE_PX}"/>' for line, row in enumerate(frame.rows) if row)
        + "</g>\n"
        for place, frame in enumerate(frames)
    )
    last = f"transform:translateX({-(len(frames) - 1) * width}px)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>A terminal: the first query of a sample lake</title>\n<style>\n"
        "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#d8dee9;white-space:pre}\n"
        ".command{fill:#a3d9a5}\n"
        f".strip{{{last};animation:play {total:.2f}s step-end infinite}}\n"
        f"@keyframes play{{{steps}}}\n"
        "@media (prefers-reduced-motion:reduce){.strip{animation:none}}\n"
        f"</style>\n<defs>\n{symbols}</defs>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#1e222a"/>\n'
        f'<g class="strip">\n{drawn}</g>\n</svg>\n'
    )


def record(picture: Path) -> None:
    """Run the commands of README and write the picture. Raises RuntimeError if one fails."""
    commands = first_commands((ROOT / "README.md").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="ddb-lake-recording-") as folder, chdir(folder):
        frames = film(commands, run_command)
    picture.write_text(svg(frames), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes")
    options = parser.parse_args(arguments)
    record(options.picture.absolute())
    print(f"{options.picture} ({options.picture.stat().st_size:,} bytes)")
    return 0


def _cut(row: str) -> str:
    return row if len(row) <= COLUMNS else row[: COLUMNS - 1] + "…"


def _style(row: str) -> str:
    return ' class="command"' if row.startswith(_PROMPT) else ""


if __name__ == "__main__":
    sys.exit(main())
